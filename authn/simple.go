package authn

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
)

// Tokens makes tokens for users that have shown their password, and reads them. now is the time of day. Safe for concurrent use.
type Tokens interface {
	Make(state *auth.State, user *auth.User, now time.Time) (string, error)
	// Read returns whose token it is and what it proves; kv.ErrInvalidAuthToken: nothing.
	Read(state *auth.State, token string, now time.Time) (principal string, proof kv.Credential, err error)
	// Later tells whether the token says that it was made in a later state.
	Later(state *auth.State, token string) bool
}

// Simple are tokens of the form of etcd's: letters, a dot, a number. A token says whose it is and when it ends, and is sealed with the secret that the state has
// while authentication is on. So it is good on every node, also one that has just been started. As in etcd, where it is used it is good for its time from then
// on: each node remembers when that was.
type Simple struct {
	ttl time.Duration // from Make, or from the last use, on

	mu    sync.RWMutex
	used  map[[sealBytes]byte]*atomic.Int64 // by the token's seal: when it was used last here, in seconds since 1970
	swept int64                             // when what has ended was last forgotten
}

const (
	// sealBytes of the MAC are in a token.
	sealBytes = 16
	// maxUsed is of how many tokens it is remembered when they were used. Beyond it one ends as if it was not.
	maxUsed = 64 << 10
)

// NewSimple makes tokens that end after a time in which nobody has used them.
func NewSimple(ttl time.Duration) *Simple {
	return &Simple{ttl: ttl, used: make(map[[sealBytes]byte]*atomic.Int64)}
}

// Make implements Tokens.
func (s *Simple) Make(state *auth.State, user *auth.User, now time.Time) (string, error) {
	body := binary.AppendUvarint(nil, user.Account)
	body = binary.AppendVarint(body, now.Add(s.ttl).Unix())
	body = append(body, user.Name...)
	return letters(append(seal(state, body), body...)) + "." + strconv.FormatUint(state.Version, 10), nil
}

// Read implements Tokens.
func (s *Simple) Read(state *auth.State, token string, now time.Time) (string, kv.Credential, error) {
	text, number, found := strings.Cut(token, ".")
	if _, err := strconv.ParseUint(number, 10, 64); !found || err != nil {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	sealed, ok := ofLetters(text)
	if !ok || len(sealed) < sealBytes || len(state.Secret) < kv.MinAuthSecret {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	mac, body := sealed[:sealBytes], sealed[sealBytes:]
	if !hmac.Equal(mac, seal(state, body)) {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	account, n := binary.Uvarint(body)
	if n <= 0 {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	ends, m := binary.Varint(body[n:])
	if m <= 0 || !s.use([sealBytes]byte(mac), ends, now) {
		return "", kv.Credential{}, kv.ErrInvalidAuthToken
	}
	return string(body[n+m:]), kv.Credential{Account: account}, nil
}

// use tells whether a token is still good, and has it be so for longer. By itself it ends at a time.
func (s *Simple) use(token [sealBytes]byte, ends int64, now time.Time) bool {
	s.mu.RLock()
	last := s.used[token]
	good := now.Unix() < ends || last != nil && now.Unix() < last.Load()+s.seconds()
	if good && last != nil {
		last.Store(max(last.Load(), now.Unix()))
	}
	s.mu.RUnlock()
	if good && last == nil {
		s.remember(token, now.Unix())
	}
	return good
}

func (s *Simple) seconds() int64 { return int64(s.ttl / time.Second) }

// remember notes the first use of a token. What has ended is forgotten now and then, and when there is no room.
func (s *Simple) remember(token [sealBytes]byte, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if idle := now - s.swept; idle >= s.seconds() || idle >= 1 && len(s.used) >= maxUsed {
		s.swept = now
		maps.DeleteFunc(s.used, func(_ [sealBytes]byte, last *atomic.Int64) bool { return last.Load()+s.seconds() <= now })
	}
	if len(s.used) < maxUsed && s.used[token] == nil {
		last := new(atomic.Int64)
		last.Store(now)
		s.used[token] = last
	}
}

// Later implements Tokens.
func (s *Simple) Later(state *auth.State, token string) bool {
	_, number, _ := strings.Cut(token, ".")
	version, err := strconv.ParseUint(number, 10, 64)
	return err == nil && version > state.Version
}

func seal(state *auth.State, body []byte) []byte {
	mac := hmac.New(sha256.New, state.Secret)
	mac.Write(body)
	return mac.Sum(nil)[:sealBytes]
}

// letters writes each half of a byte as one of the letters a to p.
func letters(b []byte) string {
	text := make([]byte, 0, 2*len(b))
	for _, v := range b {
		text = append(text, 'a'+v>>4, 'a'+v&15)
	}
	return string(text)
}

func ofLetters(text string) ([]byte, bool) {
	if len(text)%2 != 0 {
		return nil, false
	}
	b := make([]byte, len(text)/2)
	for i := range text {
		v := text[i] - 'a'
		if v > 15 {
			return nil, false
		}
		b[i/2] = b[i/2]<<4 | v
	}
	return b, true
}

// ErrVerifyOnly: the node has no key to sign tokens with, and reads those that others have signed.
var ErrVerifyOnly = errors.New("auth: token signing attempted with verify-only key")

// ParseTokens returns what etcd's --auth-token says: "simple", or "jwt," and its options. ttl is --auth-token-ttl, of simple tokens.
func ParseTokens(option string, ttl time.Duration) (Tokens, error) {
	kind, rest, _ := strings.Cut(option, ",")
	switch kind {
	case "simple":
		if rest != "" {
			return nil, fmt.Errorf("--auth-token=%s: simple tokens have no options", option)
		}
		if ttl < time.Second {
			return nil, fmt.Errorf("--auth-token-ttl is %v, want a second or more", ttl)
		}
		return NewSimple(ttl), nil
	case "jwt":
		return parseJWT(option, rest)
	}
	return nil, fmt.Errorf("--auth-token=%s: unknown type of tokens, want simple or jwt", option)
}
