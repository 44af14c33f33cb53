package backup

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
)

// TestUsers: users and roles are in a backup, in several files if they are many, as they were when it was made; unless they are left out. A backup with them is
// of a format that a reader which does not know them refuses.
func TestUsers(t *testing.T) {
	s, objects := newStore(5, 2), memory.New()
	v := vaultOf(objects)
	v.options.FileBytes = 1 << 10
	s.write(20)
	read := func(b *Backup) []kv.UserRow {
		t.Helper()
		all := must[[]*Backup](t)(v.List(t.Context()))
		chain := must[[]*Backup](t)(Chain(all, b))
		return must[[]kv.UserRow](t)(must[*Source](t)(v.Source(t.Context(), chain, b.Revision, nil)).Users(t.Context()))
	}
	none := must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
	if users := read(none); users != nil || !bytes.HasPrefix(none.content, []byte("quorate-backup manifest 1 ")) {
		t.Errorf("without users: %q, %.40s", users, none.content)
	}
	for i := range 200 {
		s.users = append(s.users, kv.UserRow{Class: 'u', Name: fmt.Sprint("user", i), Row: bytes.Repeat([]byte{byte(i)}, i+1)})
	}
	s.write(1)
	some := must[*Backup](t)(v.Create(t.Context(), s, incrementally(oneByOne)))
	if users := read(some); !reflect.DeepEqual(users, s.users) || len(some.Users) < 2 || !bytes.HasPrefix(some.content, []byte("quorate-backup manifest 2 ")) {
		t.Errorf("%d rows in %d files, %.40s", len(users), len(some.Users), some.content)
	}
	s.users = s.users[:1]
	s.write(1)
	if users := read(must[*Backup](t)(v.Create(t.Context(), s, incrementally(oneByOne)))); !reflect.DeepEqual(users, s.users) {
		t.Errorf("later: %q", users)
	}
	without := oneByOne
	without.WithoutUsers = true
	if b := must[*Backup](t)(v.Create(t.Context(), s, without)); read(b) != nil {
		t.Error("users are in a backup without them")
	}
	if wrong := verifyAll(t, v); len(wrong) > 0 {
		t.Error(wrong)
	}

	// A manifest that says it is of a format that it is not, and one of which a file with rows is left out.
	for what, change := range map[string]func(m *Manifest) []byte{
		"the older format": func(m *Manifest) []byte {
			body := some.content[bytes.IndexByte(some.content, '\n')+1:]
			return append(documentHeader(kindManifest, documentFormat, body, nil), body...)
		},
		"a file less": func(m *Manifest) []byte {
			m.Users = m.Users[1:]
			return must[[]byte](t)(encodeDocument(kindManifest, m, nil))
		},
		"versions for users": func(m *Manifest) []byte {
			m.Users = m.Shards[0].Files
			return must[[]byte](t)(encodeDocument(kindManifest, m, nil))
		},
	} {
		m := some.Manifest
		content := change(&m)
		other := vaultOf(objects)
		objects.Damage(manifestName(some.ID), func([]byte) []byte { return content })
		if wrong := verifyAll(t, other); len(wrong) == 0 {
			t.Errorf("%s: nothing is found", what)
		}
	}
	objects.Damage(manifestName(some.ID), func([]byte) []byte { return some.content })
	newer := bytes.Replace(some.content, []byte("manifest 2 "), []byte("manifest 3 "), 1)
	if err := decodeDocument(kindManifest, newer, &Manifest{}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
	owner := []byte(strings.Replace(string(must[[]byte](t)(encodeDocument(kindOwner, &struct{}{}, nil))), " 1 ", " 2 ", 1))
	if err := decodeDocument(kindOwner, owner, &struct{}{}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("another document of format 2: %v", err)
	}
}
