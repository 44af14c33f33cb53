package backup

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
)

var update = flag.Bool("update", false, "write what is not in testdata yet; what is there stays as it is")

// TestFormats reads backups that were written when their formats were made: one in plain text and one that is encrypted; and of format 1 one from when the manifest
// got the hash of the cluster's, and one from when backups got the times of revisions. The files stay as they are; a later format gets files of its own.
func TestFormats(t *testing.T) {
	const identityFile = "testdata/identity.txt"
	missing := func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	if *update && missing(identityFile) {
		identity := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
		if err := os.WriteFile(identityFile, fmt.Appendln(nil, identity), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	identities := must[[]age.Identity](t)(age.ParseIdentities(bytes.NewReader(must[[]byte](t)(os.ReadFile(identityFile)))))
	for _, name := range []string{"format1-plain", "format1-encrypted", "format1-hashed", "format1-timed", "format2-plain", "format2-encrypted"} {
		dir := filepath.Join("testdata", name)
		s := newStore(11, 3)
		s.write(20)
		s.leases = []kv.Lease{{ID: -4, TTLSeconds: 60}, {ID: 12, TTLSeconds: 1 << 40}}
		if strings.HasPrefix(name, "format2") {
			s.users = []kv.UserRow{{Class: 'h', Row: []byte("head")}, {Class: 'u', Name: "alice", Row: []byte("a row of hers")}}
		}
		if *update && missing(dir) {
			options := oneByOne
			options.Hash = strings.HasSuffix(name, "hashed") || strings.HasSuffix(name, "timed")
			if strings.HasSuffix(name, "encrypted") {
				options.Recipients = []age.Recipient{identities[0].(*age.X25519Identity).Recipient()}
			}
			write(t, dir, s, options)
		} else {
			s.write(10)
		}
		objects := memory.New()
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			object, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			return objects.Put(t.Context(), filepath.ToSlash(object), content)
		})
		if err != nil {
			t.Fatal(err)
		}
		v := vaultOf(objects)
		v.options.Identities = identities
		if wrong := verifyAll(t, v); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		all := must[[]*Backup](t)(v.List(t.Context()))
		chain := must[[]*Backup](t)(Covering(all, s.revision))
		found, leases := collect(t, must[*Source](t)(v.Source(t.Context(), chain, s.revision, nil)))
		same(t, found, s.history, s.revision)
		if len(chain) != 2 || len(leases) != 2 || leases[0] != s.leases[0] || leases[1] != s.leases[1] {
			t.Errorf("%s: %d backups, leases %v", name, len(chain), leases)
		}
		users := must[[]kv.UserRow](t)(must[*Source](t)(v.Source(t.Context(), chain, s.revision, nil)).Users(t.Context()))
		if !reflect.DeepEqual(users, s.users) {
			t.Errorf("%s: users %q", name, users)
		}
		// There is a point of revision 30; the other backups know only when they were taken.
		if revision, err := v.RevisionAt(t.Context(), all, time.UnixMilli(30_999)); err != nil || (revision == 30) != strings.HasSuffix(name, "timed") {
			t.Errorf("%s: revision %d, %v", name, revision, err)
		}
		r, _, wrong := recount(t, v, chain)
		for _, b := range chain {
			if err := r.Compare(b); len(wrong) > 0 || err != nil && !errors.Is(err, ErrNoHash) || (err == nil) != (strings.HasSuffix(name, "hashed") || strings.HasSuffix(name, "timed")) {
				t.Errorf("%s: %v, %v", name, err, wrong)
			}
		}
	}
}

// write makes a full and an incremental backup in a directory.
func write(t *testing.T, dir string, s *store, options CreateOptions) {
	objects := memory.New()
	v := vaultOf(objects)
	must[*Backup](t)(v.Create(t.Context(), &timed{hashing{store: s}}, options))
	s.write(10)
	must[*Backup](t)(v.Create(t.Context(), &timed{hashing{store: s}}, incrementally(options)))
	for name := range list(t, objects) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		objects.Damage(name, func(content []byte) []byte {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return content
		})
	}
}
