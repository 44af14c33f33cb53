package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
)

// TestChain makes a full backup and incremental ones while the store changes and is compacted, and reads each revision that they cover.
func TestChain(t *testing.T) {
	for seed := range uint64(20) {
		s := newStore(seed, 1+int(seed%5))
		v := vaultOf(memory.New())
		s.write(100)
		s.compact(30)
		var whole []*Version // since the full backup's history begins
		record := func() {
			for _, version := range s.history {
				if len(whole) == 0 || whole[len(whole)-1].At().Less(version.At()) {
					whole = append(whole, version)
				}
			}
		}
		record()
		s.leases = []kv.Lease{{ID: -5, TTLSeconds: 10}, {ID: 9, TTLSeconds: 20}}
		must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
		for range 3 {
			last := s.revision
			s.write(int(seed) * 3)
			record()
			s.compact(last)
			must[*Backup](t)(v.Create(t.Context(), s, incrementally(oneByOne)))
		}
		all := must[[]*Backup](t)(v.List(t.Context()))
		if len(all) != 4 {
			t.Fatalf("%d backups", len(all))
		}
		for revision := kv.Revision(30); revision <= s.revision; revision++ {
			chain := must[[]*Backup](t)(Covering(all, revision))
			found, leases := collect(t, must[*Source](t)(v.Source(t.Context(), chain, revision, nil)))
			same(t, found, whole, revision)
			if !slices.Equal(leases, s.leases) {
				t.Fatalf("leases %v", leases)
			}
		}
		_, err := Covering(all, 29)
		refused(t, err, ErrNotCovered)
		_, err = Covering(all, s.revision+1)
		refused(t, err, ErrNotCovered)
		if !strings.Contains(err.Error(), fmt.Sprintf("30 to %d", s.revision)) {
			t.Errorf("the refusal does not say what is covered: %v", err)
		}
		for _, b := range all {
			if wrong, err := v.Verify(t.Context(), b, func(int64) {}); err != nil || len(wrong) > 0 {
				t.Fatalf("verify: %v, %v", wrong, err)
			}
		}
		total := Digest{}
		for _, b := range all {
			total.Include(b.Digest)
		}
		alone := Digest{}
		for _, version := range whole {
			alone.Add(version)
		}
		if total != alone {
			t.Fatalf("digest %v of the chain, %v of the history", total, alone)
		}
	}
}

// TestPrefix: of the keys with a prefix everything is there, and the leases that they have.
func TestPrefix(t *testing.T) {
	s := newStore(3, 3)
	s.write(200)
	s.leases = []kv.Lease{{ID: 4, TTLSeconds: 10}}
	for _, version := range s.history {
		if version.Lease != 0 {
			s.leases = append(s.leases, kv.Lease{ID: version.Lease, TTLSeconds: 5})
		}
	}
	v := vaultOf(memory.New())
	b := must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
	found, leases := collect(t, must[*Source](t)(v.Source(t.Context(), []*Backup{b}, b.Revision, []byte("b/"))))
	var wanted []*Version
	held := map[kv.LeaseID]bool{}
	for _, version := range s.history {
		if bytes.HasPrefix(version.Key, []byte("b/")) {
			wanted = append(wanted, version)
			held[version.Lease] = true
		}
	}
	delete(held, 0)
	same(t, found, wanted, b.Revision)
	if len(leases) != len(held) || len(held) == 0 {
		t.Errorf("%d leases, %d are held", len(leases), len(held))
	}
}

// TestEveryByte flips each byte of each object in turn. Verification has to find every one.
func TestEveryByte(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		objects := memory.New()
		v := vaultOf(objects)
		options := oneByOne
		if encrypted {
			identity := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
			options.Recipients = []age.Recipient{identity.Recipient()}
			v.options.Identities = []age.Identity{identity}
		}
		s := newStore(1, 2)
		s.write(4)
		s.leases = []kv.Lease{{ID: 3, TTLSeconds: 60}}
		must[*Backup](t)(v.Create(t.Context(), s, options))
		s.users = []kv.UserRow{{Class: 'u', Name: "alice", Row: []byte("row")}}
		s.write(2)
		must[*Backup](t)(v.Create(t.Context(), s, incrementally(options)))
		s.write(6)
		s.fail = func(reads int) error {
			if reads == 12 {
				return errors.New("gone")
			}
			return nil
		}
		if _, err := v.Create(t.Context(), s, incrementally(options)); err == nil {
			t.Fatal("it was to fail")
		}
		if wrong := verifyAll(t, v); len(wrong) > 0 {
			t.Fatalf("before: %v", wrong)
		}
		flips := 0
		for name, size := range list(t, objects) {
			for i := range int(size) {
				if encrypted && i%5 != 0 { // it takes a while
					continue
				}
				flip := func(data []byte) []byte { data[i] ^= 1 << (i % 8); return data }
				objects.Damage(name, flip)
				if wrong := verifyAll(t, v); len(wrong) == 0 {
					t.Errorf("%s: byte %d of %d is wrong, and nobody sees it", name, i, size)
				}
				objects.Damage(name, flip)
				flips++
			}
		}
		t.Logf("%d bytes", flips)
	}
}

func list(t *testing.T, objects *memory.Target) map[string]int64 {
	all := map[string]int64{}
	err := objects.List(t.Context(), "", func(name string, size int64) error {
		all[name] = size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// verifyAll is what `quorate backup verify` does.
func verifyAll(t *testing.T, v *Vault) (wrong []error) {
	t.Helper()
	wrong, err := v.VerifyRest(t.Context())
	if err != nil {
		return append(wrong, err)
	}
	all, err := v.List(t.Context())
	if err != nil {
		return append(wrong, err)
	}
	for _, b := range all {
		found, err := v.Verify(t.Context(), b, func(int64) {})
		if err != nil {
			found = append(found, err)
		}
		if _, err := Chain(all, b); b.Damage == nil && err != nil {
			found = append(found, err)
		}
		wrong = append(wrong, found...)
	}
	return wrong
}

// TestResume lets the store fail after each number of versions, or the target after each number of calls; who goes on has the whole, and reads little twice.
func TestResume(t *testing.T) {
	gone := errors.New("gone")
	for _, where := range []string{"store", "target", "target after the effect"} {
		for steps := 1; ; steps++ {
			s := newStore(uint64(steps), 3)
			s.write(60)
			objects := memory.New()
			v := vaultOf(objects)
			calls := 0
			switch where {
			case "store":
				s.fail = func(reads int) error {
					if reads == steps {
						return gone
					}
					return nil
				}
			default:
				objects.Intercept = func(context.Context, memory.Call) memory.Fault {
					if calls++; calls >= steps {
						return memory.Fault{Err: gone, Lost: where != "target"}
					}
					return memory.Fault{}
				}
			}
			_, err := v.Create(t.Context(), s, oneByOne)
			failed := err != nil
			objects.Intercept, s.fail = nil, nil
			if where == "target after the effect" && steps%2 == 0 {
				objects.Crash(nil)
			}
			whole := slices.Clone(s.history)
			revision := s.revision
			s.write(10) // it goes on at the revision that it had begun with
			first := s.reads
			if failed {
				var all []*Backup
				if all, err = v.List(t.Context()); err != nil && !errors.Is(err, ErrNotFound) {
					t.Fatal(err)
				}
				if len(all) == 0 {
					_, err = v.Create(t.Context(), s, oneByOne)
				} else {
					err = nil // the answer to its last write was lost
				}
			}
			if err != nil {
				t.Fatalf("%s, %d steps: %v", where, steps, err)
			}
			all := must[[]*Backup](t)(v.List(t.Context()))
			b := all[len(all)-1]
			if len(all) != 1 {
				t.Fatalf("%s, %d steps: %d backups", where, steps, len(all))
			}
			if b.Revision != revision && b.Revision != s.revision || where == "store" && b.Revision != revision {
				t.Fatalf("%s, %d steps: at revision %d, begun at %d", where, steps, b.Revision, revision)
			}
			if b.Revision == s.revision {
				whole = s.history
			}
			found, _ := collect(t, must[*Source](t)(v.Source(t.Context(), all, b.Revision, nil)))
			same(t, found, whole, b.Revision)
			if wrong := verifyAll(t, v); len(wrong) > 0 {
				t.Fatalf("%s, %d steps: %v", where, steps, wrong)
			}
			if where == "store" && s.reads > len(whole)+40 {
				t.Errorf("%d steps: %d versions read of %d, %d before it failed", steps, s.reads, len(whole), first)
			}
			if !failed {
				break
			}
		}
	}
}

// TestCompactedMeanwhile: what was compacted while the backup was made is not covered; if that is above its revision it begins again.
func TestCompactedMeanwhile(t *testing.T) {
	s := newStore(5, 2)
	s.write(100)
	whole := slices.Clone(s.history)
	s.fail = func(reads int) error {
		if reads == 30 {
			s.fail = nil
			s.compact(50)
			return errors.New("gone")
		}
		return nil
	}
	v := vaultOf(memory.New())
	if _, err := v.Create(t.Context(), s, oneByOne); err == nil {
		t.Fatal("it was to fail")
	}
	b := must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
	if b.HistoryFrom != 50 || b.Revision != 101 {
		t.Fatalf("covers %d to %d", b.HistoryFrom, b.Revision)
	}
	// What is live at each revision that is covered is right, whatever is there of the history before.
	found, _ := collect(t, must[*Source](t)(v.Source(t.Context(), []*Backup{b}, 101, nil)))
	for revision := b.HistoryFrom; revision <= b.Revision; revision++ {
		if got, wanted := liveAt(pointers(found), revision), liveAt(whole, revision); got != wanted {
			t.Fatalf("at %d there are\n%s\nnot\n%s", revision, got, wanted)
		}
	}

	s.fail = func(reads int) error {
		s.fail = nil
		s.write(5)
		s.compact(s.revision)
		return kv.ErrCompacted
	}
	b = must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
	if b.Revision != s.revision {
		t.Errorf("at revision %d, the store at %d", b.Revision, s.revision)
	}
	s.write(5)
	s.compact(s.revision)
	_, err := v.Create(t.Context(), s, incrementally(oneByOne))
	refused(t, err, kv.ErrCompacted)
}

func pointers(all []Version) (p []*Version) {
	for i := range all {
		p = append(p, &all[i])
	}
	return p
}

func liveAt(history []*Version, revision kv.Revision) string {
	live := map[string]string{}
	for _, v := range history {
		switch {
		case v.ModRevision > revision:
		case v.Version == 0:
			delete(live, string(v.Key))
		default:
			live[string(v.Key)] = fmt.Sprintf("%s=%x %d %d %d", v.Key, v.Value, v.CreateRevision, v.ModRevision, v.Version)
		}
	}
	var lines []string
	for _, line := range live {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestForeign: a target is of one cluster, and has nothing else.
func TestForeign(t *testing.T) {
	objects := memory.New()
	v := vaultOf(objects)
	if err := objects.Put(t.Context(), "photos/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	s := newStore(1, 1)
	s.write(5)
	_, err := v.Create(t.Context(), s, oneByOne)
	refused(t, err, ErrForeign)
	v = vaultOf(memory.New())
	must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
	err = v.claim(t.Context(), 8)
	refused(t, err, ErrForeign)
	_, err = vaultOf(memory.New()).List(t.Context())
	refused(t, err, ErrNotFound)
}

// TestEncrypted: nobody reads it without an identity, or changes the manifest; recipients can be changed.
func TestEncrypted(t *testing.T) {
	alice := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	bob := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	s := newStore(1, 2)
	s.write(50)
	secret := make([]byte, 1000) // so long that it is nowhere by chance, and so random that it does not compress
	for i := range secret {
		secret[i] = byte(s.rng.Uint32())
	}
	s.revision++
	s.change(secret, 0)
	objects := memory.New()
	v := vaultOf(objects)
	options := oneByOne
	inPlainText := func(objects *memory.Target) (found bool) {
		for name := range list(t, objects) {
			objects.Damage(name, func(data []byte) []byte {
				found = found || bytes.Contains(data, secret)
				return data
			})
		}
		return found
	}
	plain := memory.New()
	must[*Backup](t)(vaultOf(plain).Create(t.Context(), s, options))
	if s.reads = 0; !inPlainText(plain) {
		t.Fatal("without encryption the key is not found either: looking for it shows nothing")
	}
	options.Recipients = []age.Recipient{alice.Recipient()}
	s.fail = func(reads int) error {
		if reads == 40 {
			return errors.New("gone")
		}
		return nil
	}
	if _, err := v.Create(t.Context(), s, options); err == nil {
		t.Fatal("it was to fail")
	}
	b := must[*Backup](t)(v.Create(t.Context(), s, options)) // without an identity
	if len(b.Keys) != 2 {
		t.Fatalf("%d keys", len(b.Keys))
	}
	read := func(who ...age.Identity) error {
		v.options.Identities = who
		source, err := v.Source(t.Context(), []*Backup{b}, b.Revision, nil)
		if err != nil {
			return err
		}
		found, _ := collect(t, source)
		same(t, found, s.history, b.Revision)
		return nil
	}
	refused(t, read(), ErrKey)
	refused(t, read(bob), ErrKey)
	if err := read(bob, alice); err != nil {
		t.Fatal(err)
	}
	if err := v.Rotate(t.Context(), b, []age.Recipient{bob.Recipient()}); err != nil {
		t.Fatal(err)
	}
	refused(t, read(alice), ErrKey)
	if err := read(bob); err != nil {
		t.Fatal(err)
	}
	// Somebody who can write to the target, and not read the backup, says that it has one file less.
	forged := b.Manifest
	forged.Shards = slices.Clone(forged.Shards)
	last := &forged.Shards[0].Files
	*last = (*last)[:len(*last)-1]
	forged.Digest = Digest{}
	for _, shard := range forged.Shards {
		for _, f := range shard.Files {
			forged.Digest.Include(f.Digest)
		}
	}
	for _, secret := range [][]byte{nil, []byte("guess")} {
		content := must[[]byte](t)(encodeDocument(kindManifest, forged, secret))
		objects.Damage(manifestName(b.ID), func([]byte) []byte { return content })
		all := must[[]*Backup](t)(v.List(t.Context()))
		if all[0].Damage != nil {
			t.Fatalf("the forgery is clumsy: %v", all[0].Damage)
		}
		_, err := v.Source(t.Context(), all, b.Revision, nil)
		refused(t, err, ErrDamaged)
		if wrong := verifyAll(t, v); len(wrong) == 0 {
			t.Error("verify does not see a forged manifest")
		}
	}
	if inPlainText(objects) {
		t.Error("a key is there in plain text")
	}
}

// TestMissingLink: a chain that is broken is refused, and nothing is removed that a kept backup needs.
func TestMissingLink(t *testing.T) {
	s := newStore(1, 2)
	objects := memory.New()
	v := vaultOf(objects)
	var made []*Backup
	for i := range 6 {
		s.write(10)
		options := oneByOne
		options.Incremental = i%3 != 0
		made = append(made, must[*Backup](t)(v.Create(t.Context(), s, options)))
	}
	all := must[[]*Backup](t)(v.List(t.Context()))
	kept, removed, err := Prunable(all, 1)
	if err != nil || len(kept) != 3 || len(removed) != 3 || kept[0].ID != made[3].ID {
		t.Fatalf("%d kept, %d removed, %v", len(kept), len(removed), err)
	}
	if err := v.Remove(t.Context(), all, made[0]); err == nil {
		t.Error("a backup was removed that others need")
	}
	for _, b := range slices.Backward(removed) {
		if err := v.Remove(t.Context(), must[[]*Backup](t)(v.List(t.Context())), b); err != nil {
			t.Fatal(err)
		}
	}
	for name := range list(t, objects) {
		if strings.Contains(name, removed[0].ID) || strings.Contains(name, removed[1].ID) || strings.Contains(name, removed[2].ID) {
			t.Errorf("%s is left", name)
		}
	}
	if wrong := verifyAll(t, v); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if err := objects.Delete(t.Context(), manifestName(made[4].ID)); err != nil {
		t.Fatal(err)
	}
	all = must[[]*Backup](t)(v.List(t.Context()))
	_, err = Chain(all, all[len(all)-1])
	refused(t, err, ErrMissingLink)
	_, err = Covering(all, s.revision)
	refused(t, err, ErrMissingLink)
	_, _, err = Prunable(all, 1)
	refused(t, err, ErrMissingLink)
}

// TestTwoAtOnce: of two that go on with the same backup one finishes it, and it is whole.
func TestTwoAtOnce(t *testing.T) {
	s := newStore(1, 2)
	s.write(50)
	v := vaultOf(memory.New())
	s.fail = func(reads int) error {
		if reads == 20 {
			return errors.New("gone")
		}
		return nil
	}
	if _, err := v.Create(t.Context(), s, oneByOne); err == nil {
		t.Fatal("it was to fail")
	}
	other := oneByOne
	s.fail = func(reads int) error {
		if reads == 40 {
			s.fail = nil
			must[*Backup](t)(v.Create(t.Context(), s, other)) // in the middle of the other
		}
		return nil
	}
	if _, err := v.Create(t.Context(), s, oneByOne); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Fatalf("got %v", err)
	}
	all := must[[]*Backup](t)(v.List(t.Context()))
	found, _ := collect(t, must[*Source](t)(v.Source(t.Context(), all, s.revision, nil)))
	same(t, found, s.history, s.revision)
}
