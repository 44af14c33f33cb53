package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// store is a stupid store: all versions of all shards, in the order of the history.
type store struct {
	rng       *rand.Rand
	shards    int
	history   []*Version
	at        map[*Version]kv.ShardID
	live      map[string]*Version
	revision  kv.Revision
	compacted kv.Revision
	leases    []kv.Lease
	users     []kv.UserRow
	reads     int // versions exported
	fail      func(reads int) error
}

func newStore(seed uint64, shards int) *store {
	return &store{rng: rand.New(rand.NewPCG(seed, 0)), shards: shards, at: map[*Version]kv.ShardID{}, live: map[string]*Version{}, revision: 1}
}

// shardOf divides the keys.
func (s *store) shardOf(key []byte) kv.ShardID { return kv.ShardID(1 + int(key[len(key)-1])%s.shards) }

// write makes so many revisions. One in four changes several keys, of whichever shards; now and then one changes a key twice.
func (s *store) write(revisions int) {
	for range revisions {
		s.revision++
		changes := 1
		if s.rng.IntN(4) == 0 {
			changes = 1 + s.rng.IntN(5)
		}
		for place := range changes {
			s.change(fmt.Appendf(nil, "%c/%d", 'a'+s.rng.IntN(3), s.rng.IntN(40)), place)
		}
	}
}

func (s *store) change(key []byte, place int) {
	v := &Version{KeyValue: kv.KeyValue{Key: key, ModRevision: s.revision}, Sub: uint32(place) << mvcc.PlaceBits}
	before := s.live[string(key)]
	switch {
	case before != nil && s.rng.IntN(3) == 0:
		delete(s.live, string(key))
	case before != nil:
		v.CreateRevision, v.Version = before.CreateRevision, before.Version+1
	default:
		v.CreateRevision, v.Version = s.revision, 1
	}
	if before == nil || v.Version > 0 {
		v.Value = bytes.Repeat([]byte{byte(s.rng.Uint32())}, s.rng.IntN(50))
		if s.rng.IntN(3) == 0 {
			v.Lease = kv.LeaseID(s.rng.Uint64() | 1)
		}
		s.live[string(key)] = v
	}
	s.history = append(s.history, v)
	s.at[v] = s.shardOf(key)
}

// compact forgets what was superseded at a revision.
func (s *store) compact(at kv.Revision) {
	s.compacted = at
	s.history = s.since(at)
}

func (s *store) since(compacted kv.Revision) (kept []*Version) {
	newest := map[string]*Version{}
	for _, v := range s.history {
		if v.ModRevision <= compacted {
			newest[string(v.Key)] = v
		}
	}
	for _, v := range s.history {
		if v.ModRevision >= compacted || newest[string(v.Key)] == v && v.Version > 0 {
			kept = append(kept, v)
		}
	}
	return kept
}

func (s *store) Present(context.Context) (*Present, error) {
	p := &Present{Cluster: 7, Revision: s.revision, Compacted: s.compacted, Time: time.Unix(int64(s.revision), 0), Leases: s.leases, Users: s.users}
	for i := range s.shards {
		p.Shards = append(p.Shards, PresentShard{Shard: kv.ShardID(i + 1), Bytes: 100})
	}
	return p, nil
}

func (s *store) Export(ctx context.Context, shard kv.ShardID, from mvcc.Locator, upTo kv.Revision, begun func(kv.Revision) error, fn func(*Version) error) error {
	if s.compacted > upTo {
		return kv.ErrCompacted
	}
	if err := begun(s.compacted); err != nil {
		return err
	}
	for _, v := range s.history {
		if s.at[v] != shard || v.At().Less(from) || v.ModRevision > upTo {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.reads++; s.fail != nil {
			if err := s.fail(s.reads); err != nil {
				return err
			}
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}

// vaultOf writes small files and small blocks, one shard after the other.
func vaultOf(t *memory.Target) *Vault {
	random, seconds := uint32(0), int64(1_000_000)
	return Open(t, Options{FileBytes: 600, SaveEvery: 1, ReadAheadBytes: 1, Now: func() time.Time {
		seconds++
		return time.Unix(seconds, 0)
	}, Random: func() uint32 {
		random++
		return random
	}})
}

var oneByOne = CreateOptions{Parallel: 1, Notice: func(string) {}, Writer: "test"}

func incrementally(o CreateOptions) CreateOptions {
	o.Incremental = true
	return o
}

// collect reads a source.
func collect(t *testing.T, s *Source) (all []Version, leases []kv.Lease) {
	t.Helper()
	err := s.Versions(t.Context(), func(v *Version, _ int64) error {
		all = append(all, Version{KeyValue: kv.KeyValue{Key: bytes.Clone(v.Key), Value: bytes.Clone(v.Value), CreateRevision: v.CreateRevision, ModRevision: v.ModRevision,
			Version: v.Version, Lease: v.Lease}, Sub: v.Sub})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Leases(t.Context(), func(l kv.Lease) error {
		leases = append(leases, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, leases
}

// same compares what was read with what a store had at a revision.
func same(t *testing.T, found []Version, s []*Version, upTo kv.Revision) {
	t.Helper()
	var wanted []*Version
	for _, v := range s {
		if v.ModRevision <= upTo {
			wanted = append(wanted, v)
		}
	}
	equal := slices.EqualFunc(found, wanted, func(a Version, b *Version) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision && a.ModRevision == b.ModRevision && a.Version == b.Version &&
			a.Lease == b.Lease && a.Sub == b.Sub
	})
	if !equal {
		t.Fatalf("%d versions up to %d, not the %d that there were", len(found), upTo, len(wanted))
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func refused(t *testing.T, err, wanted error) {
	t.Helper()
	if !errors.Is(err, wanted) {
		t.Fatalf("got %v, not %v", err, wanted)
	}
}
