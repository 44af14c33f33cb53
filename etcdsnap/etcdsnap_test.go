package etcdsnap

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/quoratedb/quorate/kv"
)

// story is so many versions of a few keys.
func story(n int) (versions []Version) {
	rng := rand.New(rand.NewPCG(uint64(n), 3))
	for i := range n {
		v := Version{Position: int64(i % 3), Deleted: rng.IntN(5) == 0}
		v.Key, v.ModRevision = fmt.Appendf(nil, "key%d", rng.IntN(50)), kv.Revision(2+i/3)
		if !v.Deleted {
			v.Value = bytes.Repeat([]byte{byte(i)}, rng.IntN(60)*rng.IntN(1+rng.IntN(60)))
			v.CreateRevision, v.Version, v.Lease = 2, rng.Int64N(9)+1, kv.LeaseID(rng.IntN(3)-1)
		}
		versions = append(versions, v)
	}
	return versions
}

var leases = []kv.Lease{{ID: 1, TTLSeconds: 60}, {ID: 1 << 40, TTLSeconds: 9}, {ID: -1, TTLSeconds: 5}}

var (
	users = []User{{Name: "alice", Hash: []byte("hash"), Roles: []string{"app", "root"}}, {Name: "cn", NoPassword: true}, {Name: "root", Hash: []byte("x")}}
	roles = []Role{{Name: "app", Permissions: []kv.Permission{{Type: kv.PermitRead, Span: kv.Span{Start: []byte("a"), End: []byte("b")}},
		{Type: kv.PermitReadWrite, Span: kv.Span{Start: []byte("one")}}, {Type: kv.PermitWrite, Span: kv.Span{Start: []byte{0}, End: []byte{0}}}}}, {Name: "none"}}
)

// file writes a snapshot, with its hash.
func file(t testing.TB, versions []Version, compacted kv.Revision) []byte {
	t.Helper()
	w, err := Create(filepath.Join(t.TempDir(), "s"), MaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		err = errors.Join(err, w.PutLease(l))
	}
	for i := range versions {
		err = errors.Join(err, w.Put(&versions[i]))
	}
	for _, u := range users {
		err = errors.Join(err, w.PutUser(u))
	}
	for _, r := range roles {
		err = errors.Join(err, w.PutRole(r))
	}
	err = errors.Join(err, w.PutAuth(true, 1<<40))
	var content []byte
	lefts := int64(-1)
	err = errors.Join(err, w.Finish(compacted), w.Send(1000, func(piece []byte, left int64) error {
		if lefts >= 0 && left+int64(len(piece)) != lefts && left+HashSize != lefts+int64(len(piece)) {
			t.Errorf("%d bytes are left behind a piece of %d, and %d were before", left, len(piece), lefts)
		}
		content, lefts = append(content, piece...), left
		return nil
	}), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func read(r *Reader) (versions []Version, found []kv.Lease, last kv.Revision, err error) {
	last, err = r.Versions(func(v *Version) error {
		copied := *v
		copied.Key, copied.Value = bytes.Clone(v.Key), bytes.Clone(v.Value)
		versions = append(versions, copied)
		return nil
	})
	return versions, found, last, errors.Join(err, r.Leases(func(l kv.Lease) error { found = append(found, l); return nil }))
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 100, 12_000} {
		want := story(n)
		content := file(t, want, 0)
		r, err := Open(bytes.NewReader(content), int64(len(content)), false)
		if err != nil {
			t.Fatal(err)
		}
		got, found, last, err := read(r)
		if err != nil || len(got) != len(want) || !reflect.DeepEqual(found, leases) || last != max(1, kv.Revision(1+(n+2)/3)) {
			t.Fatalf("%d versions of %d, up to %d, leases %v, %v", len(got), n, last, found, err)
		}
		var foundUsers []User
		var foundRoles []Role
		err = errors.Join(r.EachUser(func(u User) { foundUsers = append(foundUsers, u) }), r.EachRole(func(r Role) { foundRoles = append(foundRoles, r) }))
		if err != nil || !reflect.DeepEqual(foundUsers, users) || !reflect.DeepEqual(foundRoles, roles) || !r.AuthEnabled || r.AuthRevision != 1<<40 {
			t.Fatalf("users %+v, roles %+v, %v %d, %v", foundUsers, foundRoles, r.AuthEnabled, r.AuthRevision, err)
		}
		for i := range want {
			want[i].Value = bytes.Clone(want[i].Value)
			if a, b := fmt.Sprint(want[i]), fmt.Sprint(got[i]); a != b {
				t.Fatalf("version %d is %.100s, want %.100s", i, b, a)
			}
		}
	}
}

// TestReaderTwin reads what bbolt reads, in a file that bbolt was used on for long.
func TestReaderTwin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{bucketKey, bucketMeta, "other"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				for range rng.IntN(300) {
					key := fmt.Appendf(nil, "%x", rng.IntN(3000))
					err = errors.Join(err, b.Put(key, make([]byte, rng.IntN(30)*rng.IntN(300))))
					err = errors.Join(err, b.Delete(fmt.Appendf(nil, "%x", rng.IntN(3000))))
				}
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	want := map[string]string{}
	err = errors.Join(err, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error { want[string(name)+"/"+string(k)] = string(v); return nil })
		})
	}), db.Close())
	content, readErr := os.ReadFile(path)
	if err = errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	r, err := Open(bytes.NewReader(content), int64(len(content)), true)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name := range r.buckets {
		if err := r.each(name, func(k, v []byte) error { got[name+"/"+string(k)] = string(v); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(want) < 2000 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

func TestRefused(t *testing.T) {
	whole := file(t, story(300), 7)
	changed := func(at int) []byte {
		content := bytes.Clone(whole)
		content[at] ^= 1
		return content
	}
	newer := bytes.Replace(whole, []byte(rowStorageVersion+"3.7.0"), []byte(rowStorageVersion+"3.8.0"), 1)
	for name, c := range map[string]struct {
		content []byte
		skip    bool
		want    error
	}{
		"a bit is wrong":       {changed(len(whole) / 2), false, ErrWrongHash},
		"the hash is wrong":    {changed(len(whole) - 1), false, ErrWrongHash},
		"without a hash":       {whole[:len(whole)-HashSize], false, ErrNoHash},
		"cut off":              {whole[:len(whole)/8192*4096], true, ErrDamaged},
		"cut off, with a hash": {whole[:len(whole)/8192*4096], false, ErrDamaged},
		"text":                 {[]byte(strings.Repeat("text ", 3000)), true, ErrNotBolt},
		"empty":                {nil, false, ErrNotBolt},
		"of a newer etcd":      {newer, true, ErrNewer},
	} {
		if _, err := Open(bytes.NewReader(c.content), int64(len(c.content)), c.skip); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if r, err := Open(bytes.NewReader(whole), int64(len(whole)), false); err != nil || r.Compacted != 7 {
		t.Errorf("the whole one: %v", err)
	}
	w, err := Create(filepath.Join(t.TempDir(), "s"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	versions := story(12_000)
	for i := range versions {
		if err = w.Put(&versions[i]); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("a snapshot that is too large: %v", err)
	}
}

// FuzzReader: whatever the file, reading ends, with an error or without.
func FuzzReader(f *testing.F) {
	for _, n := range []int{0, 3, 60} {
		f.Add(file(f, story(n), 3))
	}
	f.Fuzz(func(_ *testing.T, content []byte) {
		if r, err := Open(bytes.NewReader(content), int64(len(content)), true); err == nil {
			_, _, _, _ = read(r)
			_, _ = r.EachUser(func(User) {}), r.EachRole(func(Role) {})
		}
	})
}
