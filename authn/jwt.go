package authn

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
)

// jsonTokens are JSON web tokens with etcd's claims: username, revision, exp. They are good until they end, or until users or roles change.
type jsonTokens struct {
	method jwt.SigningMethod
	verify any // a public key, or the key of an HMAC
	sign   any // nil: tokens are only verified
	ttl    time.Duration
}

const defaultJWTTTL = 5 * time.Minute

func parseJWT(option, rest string) (Tokens, error) {
	refuse := func(why string, err error) (Tokens, error) {
		if err != nil {
			return nil, fmt.Errorf("--auth-token=%s: %s: %w", option, why, err)
		}
		return nil, fmt.Errorf("--auth-token=%s: %s", option, why)
	}
	values := map[string]string{}
	for pair := range strings.SplitSeq(rest, ",") {
		name, value, found := strings.Cut(pair, "=")
		_, twice := values[name]
		switch name {
		case "sign-method", "pub-key", "priv-key", "ttl":
		default:
			found = false
		}
		if !found || twice {
			return refuse(fmt.Sprintf("%q is not one of sign-method=, pub-key=, priv-key=, ttl=, each once", pair), nil)
		}
		values[name] = value
	}
	t := &jsonTokens{method: jwt.GetSigningMethod(values["sign-method"]), ttl: defaultJWTTTL}
	if t.method == nil || t.method == jwt.SigningMethodNone {
		return refuse("sign-method must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512", nil)
	}
	var err error
	if text := values["ttl"]; text != "" {
		if t.ttl, err = time.ParseDuration(text); err != nil || t.ttl <= 0 {
			return refuse("ttl must be a positive duration, as 5m", err)
		}
	}
	private, err := readKey(values["priv-key"])
	if err != nil {
		return refuse("priv-key", err)
	}
	public, err := readKey(values["pub-key"])
	if err != nil {
		return refuse("pub-key", err)
	}
	if err := t.useKeys(private, public); err != nil {
		return refuse("keys", err)
	}
	return t, nil
}

func readKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(path)
}

// useKeys takes the keys, in PEM; those of an HMAC are any bytes.
func (t *jsonTokens) useKeys(private, public []byte) (err error) {
	var signer crypto.Signer
	var verifier any
	parse := func(ofPrivate func([]byte) (crypto.Signer, error), ofPublic func([]byte) (any, error)) error {
		if len(private) > 0 {
			if signer, err = ofPrivate(private); err != nil {
				return fmt.Errorf("priv-key: %w", err)
			}
		}
		if len(public) > 0 {
			if verifier, err = ofPublic(public); err != nil {
				return fmt.Errorf("pub-key: %w", err)
			}
		}
		return nil
	}
	switch t.method.(type) {
	case *jwt.SigningMethodHMAC:
		if len(private) == 0 {
			return errors.New("the method needs priv-key, which signs and verifies")
		}
		t.sign, t.verify = private, private
		return nil
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		err = parse(func(b []byte) (crypto.Signer, error) { return jwt.ParseRSAPrivateKeyFromPEM(b) }, func(b []byte) (any, error) { return jwt.ParseRSAPublicKeyFromPEM(b) })
	case *jwt.SigningMethodECDSA:
		err = parse(func(b []byte) (crypto.Signer, error) { return jwt.ParseECPrivateKeyFromPEM(b) }, func(b []byte) (any, error) { return jwt.ParseECPublicKeyFromPEM(b) })
	case *jwt.SigningMethodEd25519:
		err = parse(func(b []byte) (crypto.Signer, error) {
			key, err := jwt.ParseEdPrivateKeyFromPEM(b)
			if err != nil {
				return nil, err
			}
			return key.(crypto.Signer), nil
		}, func(b []byte) (any, error) { return jwt.ParseEdPublicKeyFromPEM(b) })
	}
	switch {
	case err != nil:
		return err
	case signer == nil && verifier == nil:
		return errors.New("neither priv-key nor pub-key is given")
	case signer == nil:
		t.verify = verifier
		return nil
	}
	t.sign, t.verify = signer, signer.Public()
	if own, is := t.verify.(interface{ Equal(crypto.PublicKey) bool }); verifier != nil && is && !own.Equal(verifier) {
		return errors.New("priv-key and pub-key do not belong together")
	}
	return nil
}

// Make implements Tokens.
func (t *jsonTokens) Make(state *auth.State, user *auth.User, now time.Time) (string, error) {
	if t.sign == nil {
		return "", ErrVerifyOnly
	}
	claims := jwt.MapClaims{"username": user.Name, "revision": state.Revision, "exp": now.Add(t.ttl).Unix()}
	token, err := jwt.NewWithClaims(t.method, claims).SignedString(t.sign)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// Read implements Tokens.
func (t *jsonTokens) Read(_ *auth.State, token string, now time.Time) (string, kv.Credential, error) {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{t.method.Alg()}), jwt.WithTimeFunc(func() time.Time { return now }))
	claims := jwt.MapClaims{}
	if _, err := parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return t.verify, nil }); err != nil {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	name, named := claims["username"].(string)
	revision, revised := claims["revision"].(float64)
	if !named || !revised || name == "" || revision < 1 {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	return name, kv.Credential{Revision: uint64(revision)}, nil
}

// Later implements Tokens.
func (t *jsonTokens) Later(state *auth.State, token string) bool {
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return false
	}
	revision, _ := claims["revision"].(float64)
	return revision > float64(state.Revision)
}
