package snapshots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3compactor"

	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/kv"
)

// TestAutoCompactionSameAsEtcd runs etcd's own compactor and ours beside it on virtual time: while revisions come, compactions fail, and the node leads or does
// not. Both have to compact at the same revisions, at the same moments.
func TestAutoCompactionSameAsEtcd(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { compareCompactors(t, rand.New(rand.NewPCG(seed, 11))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// compactedStore is what both compact.
type compactedStore struct {
	mu       sync.Mutex
	began    time.Time
	revision int64
	fails    bool
	did      []string
}

func (s *compactedStore) Rev() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

func (s *compactedStore) Compact(_ context.Context, r *etcdserverpb.CompactionRequest) (*etcdserverpb.CompactionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did = append(s.did, fmt.Sprintf("%v: %d of %d, fails: %v", time.Since(s.began), r.Revision, s.revision, s.fails))
	if s.fails {
		return nil, errors.New("no leader")
	}
	return &etcdserverpb.CompactionResponse{}, nil
}

func compareCompactors(t *testing.T, r *rand.Rand) {
	periods := []time.Duration{5 * time.Second, 10 * time.Minute, 59 * time.Minute, time.Hour, 61 * time.Minute, 7 * time.Hour}
	policy, retention := autocompact.Policy{Mode: autocompact.Periodic, Period: periods[r.IntN(len(periods))]}, time.Duration(0)
	if retention = policy.Period; r.IntN(4) == 0 {
		policy = autocompact.Policy{Mode: autocompact.Revision, Revisions: 1 + int64(r.IntN(200))}
		retention = time.Duration(policy.Revisions) // etcd has one number for both
	}
	theirs := &compactedStore{began: time.Now(), revision: 1}
	etcds, err := v3compactor.New(nil, string(policy.Mode), retention, theirs, theirs)
	if err != nil {
		t.Fatal(err)
	}
	ours := &compactedStore{began: time.Now(), revision: 1}
	core, err := autocompact.New(policy, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	etcds.Run()
	synctest.Wait()
	leads := true
	for range 300 {
		time.Sleep(core.Next() - time.Since(ours.began)) // both act now
		synctest.Wait()
		if at, compact := core.Wake(time.Since(ours.began), kv.Revision(ours.revision), leads); compact {
			_, err := ours.Compact(t.Context(), &etcdserverpb.CompactionRequest{Revision: int64(at)})
			core.Ended(time.Since(ours.began), kv.Revision(ours.revision), err == nil)
		}
		if r.IntN(10) == 0 {
			if leads = !leads; leads {
				etcds.Resume()
			} else {
				etcds.Pause()
			}
		}
		fails, more := r.IntN(5) == 0, int64(max(0, r.IntN(60)-20))
		for _, s := range []*compactedStore{theirs, ours} {
			s.mu.Lock()
			s.fails, s.revision = fails, s.revision+more
			s.mu.Unlock()
		}
	}
	etcds.Stop()
	synctest.Wait()
	if !slices.Equal(ours.did, theirs.did) {
		t.Errorf("%+v: ours\n%q\netcd's\n%q", policy, ours.did, theirs.did)
	}
	if len(theirs.did) == 0 {
		t.Errorf("%+v: etcd compacted nothing", policy)
	}
}
