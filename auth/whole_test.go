package auth

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestWhole: rows make the state that has given them, whatever it is; a cluster that begins with it has all of it but the
// secret.
func TestWhole(t *testing.T) {
	if rows := NewState().Rows(); rows != nil {
		t.Errorf("a new state has rows: %q", rows)
	}
	for seed := range uint64(50) {
		s := anyState(rand.New(rand.NewPCG(seed, 3)))
		if s.Version == 0 {
			continue
		}
		again, err := FromRows(s.Rows())
		if err != nil || !reflect.DeepEqual(again.Whole(), s.Whole()) || again.sizeBytes != s.sizeBytes {
			t.Fatalf("seed %d: %v\n%+v\n%+v", seed, err, again.Whole(), s.Whole())
		}
		secret := bytes.Repeat([]byte{7}, kv.MinAuthSecret)
		founded := NewState().Apply(s.Founded(secret))
		if founded.Enabled != s.Enabled || s.Enabled && !bytes.Equal(founded.Secret, secret) {
			t.Fatalf("seed %d: the secret is %x", seed, founded.Secret)
		}
		c := founded.Whole()
		c.Secret = s.Secret
		if !reflect.DeepEqual(c, s.Whole()) {
			t.Fatalf("seed %d: %+v\nwant %+v", seed, c, s.Whole())
		}
	}
	s := NewState()
	s.Version, s.Enabled = 3, true // without a secret nobody could log in
	for what, rows := range map[string][]kv.UserRow{
		"no head":        {{Class: ClassUser, Name: "u", Row: appendUser(nil, &User{Name: "u"})}},
		"no secret":      s.Rows(),
		"another name":   {{Class: ClassUser, Name: "v", Row: appendUser(nil, &User{Name: "u"})}},
		"no known class": {{Class: 'x'}},
	} {
		if _, err := FromRows(rows); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestImport: whatever order etcd has them in, and whatever is twice or permits nothing.
func TestImport(t *testing.T) {
	span := func(start, end string) kv.Span { return kv.Span{Start: []byte(start), End: []byte(end)} }
	users := []User{{Name: "v", NoPassword: true}, {Name: "root", Hash: []byte("h"), Roles: []string{"z", "root", "z"}}}
	roles := []Role{{Name: "z", Permissions: []kv.Permission{{Type: kv.PermitRead, Span: span("b", "c")}, {Type: kv.PermitWrite, Span: span("a", "")},
		{Type: kv.PermitReadWrite, Span: span("b", "c")}, {Type: kv.PermitRead, Span: span("c", "b")}, {Type: kv.PermitRead, Span: span("", "b")}}}}
	s, ignored, err := Import(users, roles, 17, true)
	if err != nil || ignored != 2 || s.Version != 17 || s.Revision != 17 || !s.Enabled {
		t.Fatalf("%+v, %d, %v", s, ignored, err)
	}
	want := []kv.Permission{{Type: kv.PermitWrite, Span: span("a", "")}, {Type: kv.PermitReadWrite, Span: span("b", "c")}}
	if got := s.role("z").Permissions; !reflect.DeepEqual(got, want) {
		t.Errorf("permissions %v", got)
	}
	if u := s.User("root"); !reflect.DeepEqual(u.Roles, []string{"root", "z"}) || u.Account == 0 {
		t.Errorf("%+v", u)
	}
	s.Secret = make([]byte, kv.MinAuthSecret)
	if again, err := FromRows(s.Rows()); err != nil || !again.User("v").NoPassword { // the rows can be read
		t.Error(err)
	}
	if s, _, _ := Import(nil, nil, 0, false); s.Version != 1 || s.Secret != nil {
		t.Errorf("nothing: %+v", s)
	}
	large := make([]byte, MaxStateBytes)
	if _, _, err := Import([]User{{Name: "large", Hash: large}}, nil, 1, false); !errors.Is(err, kv.ErrRequestTooLarge) {
		t.Errorf("more than may be: %v", err)
	}
}
