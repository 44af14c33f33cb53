package backup

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// hashing is a store that tells its hash, and may lie to who reads it.
type hashing struct {
	*store
	fails bool
	lie   func(v Version) *Version // nil of a version: it is left out
}

// Hash adds up what lives where the history begins, and all that came since.
func (s *hashing) Hash(context.Context) (*StateHash, error) {
	if s.fails {
		return nil, errors.New("no answer")
	}
	sum := mvcc.HashSum(0)
	for _, v := range s.stateAt(s.compacted) {
		sum += mvcc.HashOf(&v.KeyValue, v.At())
	}
	for _, v := range s.history {
		if v.ModRevision > s.compacted {
			sum += mvcc.HashOf(&v.KeyValue, v.At())
		}
	}
	return &StateHash{Revision: s.revision, Compacted: s.compacted, Hash: sum.Fold()}, nil
}

func (s *hashing) Export(ctx context.Context, shard kv.ShardID, from mvcc.Locator, upTo kv.Revision, begun func(kv.Revision) error, fn func(*Version) error) error {
	return s.store.Export(ctx, shard, from, upTo, begun, func(v *Version) error {
		if s.lie != nil {
			if v = s.lie(*v); v == nil {
				return nil
			}
		}
		return fn(v)
	})
}

// recount reads a chain, and gives what it is to have, and what is wrong.
func recount(t *testing.T, v *Vault, chain []*Backup) (*Recount, []Restored, []error) {
	t.Helper()
	last := chain[len(chain)-1]
	r := NewRecount(chain, storage.NewMemory(storage.MemoryOptions{}))
	s := must[*Source](t)(v.Source(t.Context(), chain, last.Revision, nil))
	s.Tap(r.Add)
	collect(t, s)
	restored, wrong := r.Finish()
	return r, restored, wrong
}

func hashed(o CreateOptions) CreateOptions {
	o.Hash = true
	return o
}

// TestRecount: of chains with compactions in between, at each recorded revision there is what a stupid store has, and the hash is the cluster's.
func TestRecount(t *testing.T) {
	for seed := range uint64(8) {
		s := &hashing{store: newStore(seed, 1+int(seed)%4)}
		v := vaultOf(memory.New())
		s.write(30)
		for i := range 4 {
			if i != 1 {
				s.compact(s.revision - kv.Revision(10+seed) - kv.Revision(i))
			}
			options := hashed(oneByOne)
			if i > 0 {
				options.Incremental = true
			}
			must[*Backup](t)(v.Create(t.Context(), s, options))
			s.write(int(10 + seed))
		}
		all := must[[]*Backup](t)(v.List(t.Context()))
		chain := must[[]*Backup](t)(Chain(all, all[3]))
		r, restored, wrong := recount(t, v, chain)
		if len(wrong) > 0 || len(restored) != 4 {
			t.Fatalf("seed %d: %d revisions, %v", seed, len(restored), wrong)
		}
		whole := newStore(seed, s.shards) // the same once more, compacted where the chain begins and nowhere else
		whole.write(30)
		whole.compact(whole.revision - kv.Revision(10+seed))
		for i, b := range chain {
			if err := r.Compare(b); err != nil {
				t.Errorf("seed %d, %d: %v", seed, b.Revision, err)
			}
			var want Digest
			for _, version := range whole.history {
				want.Add(version)
			}
			if restored[i].Revision != whole.revision || restored[i].Digest != want {
				t.Errorf("seed %d: %+v, want %d %+v", seed, restored[i], whole.revision, want)
			}
			whole.write(int(10 + seed))
		}
	}
}

// TestRecountFinds: what a node left out of a backup, or sent otherwise, no checksum of the backup tells. A hash does, and often what follows on it.
func TestRecountFinds(t *testing.T) {
	quiet := oneByOne
	notices := ""
	quiet.Notice = func(text string) { notices += text }
	for name, c := range map[string]struct {
		lie     func(n int, v Version) *Version // the n-th version, from 1 on
		follows string                          // part of what is found wrong without a hash; "": nothing is
	}{
		"nothing is wrong": {lie: func(_ int, v Version) *Version { return &v }},
		"the last version is missing": {lie: func(n int, v Version) *Version {
			if n == 4 {
				return nil
			}
			return &v
		}},
		"a value differs": {lie: func(n int, v Version) *Version {
			if n == 1 {
				v.Value = []byte("other")
			}
			return &v
		}},
		"a version in between is missing": {follows: "version 3 follows on version 1", lie: func(n int, v Version) *Version {
			if n == 2 {
				return nil
			}
			return &v
		}},
		"the first version is missing": {follows: "the version before version 2 is missing", lie: func(n int, v Version) *Version {
			if n == 1 {
				return nil
			}
			return &v
		}},
		"what was put is deleted": {follows: "it is deleted, and was not there", lie: func(n int, v Version) *Version {
			if n == 1 {
				v = Version{KeyValue: kv.KeyValue{Key: v.Key, ModRevision: v.ModRevision}}
			}
			return &v
		}},
		"it is created twice": {follows: "it is created, and was there since revision 2", lie: func(n int, v Version) *Version {
			if n == 2 {
				v.Version, v.CreateRevision = 1, v.ModRevision
			}
			return &v
		}},
		"it was created later": {follows: "was created at revision", lie: func(n int, v Version) *Version {
			if n == 2 {
				v.CreateRevision = v.ModRevision
			}
			return &v
		}},
	} {
		s := &hashing{store: newStore(1, 1)}
		for i := range 4 { // put, put, put, and another key
			s.revision++
			v := &Version{KeyValue: kv.KeyValue{Key: []byte("k1"), Value: []byte("v"), ModRevision: s.revision, CreateRevision: 2, Version: int64(i + 1)}}
			if i == 3 {
				v.Key, v.Version, v.CreateRevision = []byte("k2"), 1, s.revision
			}
			s.history, s.at[v] = append(s.history, v), s.shardOf(v.Key)
		}
		n := 0
		s.lie = func(v Version) *Version {
			n++
			return c.lie(n, v)
		}
		v := vaultOf(memory.New())
		b := must[*Backup](t)(v.Create(t.Context(), s, hashed(quiet)))
		if wrong := verifyAll(t, v); len(wrong) > 0 {
			t.Errorf("%s: %v", name, wrong)
		}
		r, _, wrong := recount(t, v, []*Backup{b})
		if err := r.Compare(b); (err == nil) != (name == "nothing is wrong") || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: compared: %v", name, err)
		}
		text := ""
		for _, err := range wrong {
			text += err.Error() + "\n"
		}
		if (text == "") != (c.follows == "") || !strings.Contains(text, c.follows) {
			t.Errorf("%s: %q, want %q", name, text, c.follows)
		}
	}

	// A backup without a hash says so, and one that cannot be asked for it is made all the same.
	s := &hashing{store: newStore(1, 1), fails: true}
	s.write(20)
	v := vaultOf(memory.New())
	b := must[*Backup](t)(v.Create(t.Context(), s, hashed(quiet)))
	r, _, _ := recount(t, v, []*Backup{b})
	if err := r.Compare(b); !errors.Is(err, ErrNoHash) || !strings.Contains(notices, "no hash of the cluster's: no answer") {
		t.Errorf("%v, %q", err, notices)
	}
	b.StateHash = &StateHash{Revision: b.Revision, Compacted: 3}
	b.HistoryFrom = 5
	r, _, _ = recount(t, v, []*Backup{b})
	if err := r.Compare(b); !errors.Is(err, ErrNoHash) || !strings.Contains(err.Error(), "which here begins at 5") {
		t.Error(err)
	}
	b.StateHash.Revision++
	if b.check() == nil {
		t.Error("a hash of a revision that is not there is taken")
	}
}
