package server

import (
	"time"

	"github.com/quoratedb/quorate/authn"
)

// DefaultAuthTokenTTL is how long a simple token is good, as in etcd.
const DefaultAuthTokenTTL = 5 * time.Minute

// users returns what proves who a client is.
func (n NodeOptions) users() (authn.Tokens, *authn.Passwords, error) {
	tokens, err := authn.ParseTokens(n.AuthToken, n.AuthTokenTTL)
	if err != nil {
		return nil, nil, err
	}
	passwords, err := authn.NewPasswords(n.BcryptCost)
	return tokens, passwords, err
}
