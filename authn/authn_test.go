package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
)

// enabled is a state with authentication on, and a user u.
func enabled(t *testing.T, secret byte) *auth.State {
	t.Helper()
	s := auth.NewState()
	for _, r := range []kv.AuthRequest{
		{Action: kv.AuthUserAdd, User: auth.Root}, {Action: kv.AuthUserGrantRole, User: auth.Root, Role: auth.Root}, {Action: kv.AuthUserAdd, User: "u"},
		{Action: kv.AuthEnable, Secret: []byte(strings.Repeat(string(rune(secret)), kv.MinAuthSecret))},
	} {
		_, c, err := s.Evaluate(&r)
		if err != nil {
			t.Fatal(err)
		}
		s = s.Apply(c)
	}
	return s
}

var noon = time.Unix(1_800_000_000, 0)

// TestSimpleTokens: a token is good until it ends, in the state that it was sealed in, and nothing like it is.
func TestSimpleTokens(t *testing.T) {
	s, tokens := enabled(t, 'a'), NewSimple(time.Minute)
	token, err := tokens.Make(s, s.User("u"), noon)
	if err != nil {
		t.Fatal(err)
	}
	name, proof, err := tokens.Read(s, token, noon)
	if err != nil || name != "u" || proof.Account != s.User("u").Account || proof.Revision != 0 {
		t.Errorf("%q, %+v, %v", name, proof, err)
	}
	for what, c := range map[string]struct {
		state *auth.State
		token string
		at    time.Time
	}{
		"it has ended":                         {s, token, noon.Add(time.Minute)}, // the last use was at noon
		"authentication was enabled once more": {enabled(t, 'b'), token, noon},
		"authentication is off":                {auth.NewState(), token, noon},
		"nothing":                              {s, "", noon},
		"no number":                            {s, strings.Split(token, ".")[0], noon},
		"no letters":                           {s, ".5", noon},
		"odd letters":                          {s, "a" + token, noon},
		"others":                               {s, "zz" + token, noon},
	} {
		if _, _, err := tokens.Read(c.state, c.token, c.at); !errors.Is(err, kv.ErrInvalidAuthToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range strings.Index(token, ".") {
		changed := []byte(token)
		changed[i] = 'a' + (changed[i]-'a'+1)%16
		if _, _, err := tokens.Read(s, string(changed), noon); err == nil {
			t.Fatalf("a token whose letter %d is another one is good", i)
		}
	}
	if tokens.Later(s, token) || !tokens.Later(auth.NewState(), token) {
		t.Error("a token does not tell in which state it was made")
	}
}

func FuzzRead(f *testing.F) {
	f.Add("aabb.1")
	f.Fuzz(func(t *testing.T, token string) {
		state := auth.NewState()
		state.Secret = make([]byte, kv.MinAuthSecret)
		if _, _, err := NewSimple(time.Minute).Read(state, token, noon); err == nil {
			t.Fatalf("%q is good", token)
		}
	})
}

// TestSimpleTokensInUse: as in etcd a token is good for its time from the last use at a node on, and there only.
func TestSimpleTokensInUse(t *testing.T) {
	s, tokens := enabled(t, 'a'), NewSimple(time.Minute)
	token, err := tokens.Make(s, s.User("u"), noon)
	if err != nil {
		t.Fatal(err)
	}
	used, elsewhere := noon, NewSimple(time.Minute)
	for range 5 {
		used = used.Add(59 * time.Second)
		if _, _, err := tokens.Read(s, token, used); err != nil {
			t.Fatalf("a token that is in use, after %v: %v", used.Sub(noon), err)
		}
	}
	if _, _, err := elsewhere.Read(s, token, used); err == nil {
		t.Error("what was used at one node only is good at another")
	}
	if _, _, err := tokens.Read(s, token, used.Add(time.Minute)); err == nil {
		t.Error("a token that nobody uses does not end")
	}
	// What has ended is forgotten, and no more is remembered than there is room for: those end by themselves.
	for i := range maxUsed + 10 {
		if !tokens.use([sealBytes]byte{1, byte(i), byte(i >> 8), byte(i >> 16)}, noon.Unix()+1000, noon.Add(10*time.Minute)) {
			t.Fatal("a new token is not good")
		}
	}
	if len(tokens.used) != maxUsed {
		t.Errorf("%d are remembered", len(tokens.used))
	}
	later := noon.Add(12 * time.Minute)
	if !tokens.use([sealBytes]byte{2}, later.Unix()+60, later) || len(tokens.used) != 1 {
		t.Errorf("%d are remembered that have ended", len(tokens.used)-1)
	}
}

func writeKeys(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalECPrivateKey(key)
	private = write("key.pem", "EC PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&key.PublicKey)
	return private, write("pub.pem", "PUBLIC KEY", der, err)
}

// TestJSONWebTokens: what one node signs others read, also those that have the public key alone.
func TestJSONWebTokens(t *testing.T) {
	s := enabled(t, 'a')
	private, public := writeKeys(t)
	_, foreign := writeKeys(t)
	parse := func(option string) Tokens {
		tokens, err := ParseTokens(option, 0)
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	signs, verifies := parse("jwt,sign-method=ES256,priv-key="+private+",pub-key="+public+",ttl=1m"), parse("jwt,sign-method=ES256,pub-key="+public)
	token, err := signs.Make(s, s.User("u"), noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []Tokens{signs, verifies} {
		name, proof, err := tokens.Read(s, token, noon.Add(59*time.Second))
		if err != nil || name != "u" || proof.Revision != s.Revision || proof.Account != 0 {
			t.Errorf("%q, %+v, %v", name, proof, err)
		}
		if _, _, err := tokens.Read(s, token, noon.Add(time.Minute)); !errors.Is(err, kv.ErrInvalidAuthToken) {
			t.Errorf("a token that has ended: %v", err)
		}
		if tokens.Later(s, token) || !tokens.Later(auth.NewState(), token) {
			t.Error("a token does not tell of which revision it is")
		}
	}
	if _, err := verifies.Make(s, s.User("u"), noon); !errors.Is(err, ErrVerifyOnly) {
		t.Errorf("a node without a key signs: %v", err)
	}
	for _, option := range []string{"jwt,sign-method=ES256,pub-key=" + foreign, "jwt,sign-method=HS256,priv-key=" + public} {
		if _, _, err := parse(option).Read(s, token, noon); !errors.Is(err, kv.ErrInvalidAuthToken) {
			t.Errorf("%s takes a token of another key: %v", option, err)
		}
	}
	// Whoever knows the public key must not pass it off as that of an HMAC.
	forged, err := parse("jwt,sign-method=HS256,priv-key="+public).Make(s, s.User(auth.Root), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := verifies.Read(s, forged, noon); !errors.Is(err, kv.ErrInvalidAuthToken) {
		t.Errorf("a token signed with the public key: %v", err)
	}
	for option, why := range map[string]string{
		"jwt": "each once", "jwt,sign-method=none,priv-key=" + private: "sign-method must be one of", "jwt,sign-method=ES256": "neither priv-key nor pub-key",
		"jwt,sign-method=HS256,pub-key=" + public: "needs priv-key", "jwt,sign-method=ES256,priv-key=" + private + ",pub-key=" + foreign: "do not belong together",
		"jwt,sign-method=ES256,priv-key=/nowhere": "no such file", "jwt,sign-method=RS256,priv-key=" + private: "priv-key", "jwt,sign-method=ES256,priv-key=" + private + ",ttl=x": "ttl",
		"jwt,sign-method=ES256,sign-method=ES256": "each once", "jwt,x=y": "each once", "nop": "unknown type", "simple,x=y": "no options",
	} {
		if _, err := ParseTokens(option, time.Minute); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", option, err, why)
		}
	}
}

// TestPasswords: only the right password of a user that has one is good.
func TestPasswords(t *testing.T) {
	p, err := NewPasswords(MinCost)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := p.Hash(t.Context(), "right")
	if err != nil {
		t.Fatal(err)
	}
	u := &auth.User{Name: "u", Hash: hash}
	if err := p.Check(t.Context(), "u", u, "right"); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		user     *auth.User
		password string
	}{
		"a wrong one": {u, "wrong"}, "none": {u, ""}, "of nobody": {nil, "right"}, "of nobody, and ours": {nil, "nobody has this password"},
		"of who has none": {&auth.User{Name: "v"}, ""}, "of who shows a certificate": {&auth.User{Name: "v", Hash: hash, NoPassword: true}, "right"},
	} {
		if err := p.Check(t.Context(), what, c.user, c.password); !errors.Is(err, kv.ErrAuthFailed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := p.Hash(t.Context(), strings.Repeat("x", 73)); !errors.Is(err, kv.ErrInvalidRequest) {
		t.Errorf("a password that bcrypt cuts off: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range cap(p.workers) {
		p.workers <- struct{}{}
	}
	if _, err := p.Hash(over, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
	if _, err := NewPasswords(MaxCost + 1); err == nil {
		t.Error("a cost that takes years")
	}
}

// TestFailuresAreLimited: who fails too often is refused for a while, and nobody else. The right password can be shown as often as one likes.
func TestFailuresAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPasswords(MinCost)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := p.Hash(t.Context(), "right")
		if err != nil {
			t.Fatal(err)
		}
		u := &auth.User{Name: "u", Hash: hash}
		check := func(name, password string) error { return p.Check(t.Context(), name, u, password) }
		fails := func(name string, times int) {
			t.Helper()
			for i := range times {
				if err := check(name, "wrong"); !errors.Is(err, kv.ErrAuthFailed) {
					t.Fatalf("failure %d: %v", i, err)
				}
			}
			if err := check(name, "wrong"); !errors.Is(err, kv.ErrTooManyRequests) {
				t.Fatalf("one more: %v", err)
			}
		}
		for range 3 * burst {
			if err := check("u", "right"); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.failures) != 0 {
			t.Errorf("who never failed is remembered: %v", p.failures)
		}
		fails("u", burst)
		if err := check("u", "right"); !errors.Is(err, kv.ErrTooManyRequests) {
			t.Errorf("the right password, after guesses: %v", err)
		}
		if err := check("other", "right"); err != nil {
			t.Errorf("another user: %v", err)
		}
		time.Sleep(time.Second)
		if err := check("u", "right"); err != nil {
			t.Errorf("a second later: %v", err)
		}
		fails("u", perSecond)
		time.Sleep(time.Hour)
		fails("u", burst)

		var together sync.WaitGroup // no more are checked at a time than may fail
		outcomes := make(chan error, 4*burst)
		for range cap(outcomes) {
			together.Go(func() { outcomes <- check("many", "wrong") })
		}
		together.Wait()
		close(outcomes)
		failed := 0
		for err := range outcomes {
			if errors.Is(err, kv.ErrAuthFailed) {
				failed++
			} else if !errors.Is(err, kv.ErrTooManyRequests) {
				t.Error(err)
			}
		}
		if failed != burst {
			t.Errorf("%d were checked, want %d", failed, burst)
		}
		for i := range maxUsers + 1 {
			p.mayFail(strings.Repeat("x", i%7)+string(rune(i)), 1)
		}
		if len(p.failures) > maxUsers {
			t.Errorf("%d users are remembered", len(p.failures))
		}
	})
}
