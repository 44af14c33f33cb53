package shard

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
)

// Whatever prefix of the batches a crash leaves, replay gives the same state, with the same records, and the same finished. The run is repeated for each batch of the
// follower of the first shard.
func TestCommitCrashAtEveryBatch(t *testing.T) {
	seeds, steps := uint64(20), 1500
	if testing.Short() {
		seeds, steps = 4, 1000
	}
	var total crashedCommits
	all := 0
	for seed := range seeds {
		batches := 0
		for ; ; batches++ {
			seen, crashed, err := crashCommitsAfter(seed+500, batches, steps)
			if err != nil {
				t.Fatalf("seed %d, crash after batch %d: %v", seed, batches, err)
			}
			if !crashed {
				break
			}
			total.replayed += seen.replayed
			total.resolved += seen.resolved
			total.found += seen.found
		}
		all += batches
	}
	if all < 20*int(seeds) {
		t.Errorf("%d batches in %d runs: the test tests too little", all, seeds)
	}
	if t.Logf("%+v", total); total.replayed == 0 || total.resolved == 0 || total.found == 0 {
		t.Error("the test tests too little")
	}
}

// crashedCommits is what was there to be brought back: entries, those of them that resolve something, and records in the engine.
type crashedCommits struct{ replayed, resolved, found int }

func crashCommitsAfter(seed uint64, batches, steps int) (seen crashedCommits, crashed bool, err error) {
	w, err := newCommitWorld(seed)
	if err != nil {
		return seen, false, err
	}
	s := w.shards[0]
	r := s.follower
	for range steps {
		if r.applies == batches {
			w.random = rand.New(rand.NewPCG(seed, uint64(batches)))
			seen, err = crashCommitsTwice(w, s)
			return seen, true, err
		}
		switch n := w.random.IntN(100); {
		case n < 30:
			err = w.applyOne(s, r)
		case n < 45:
			_, err = r.flushSome(1 + w.random.IntN(3))
		default:
			err = w.stepKeepingFollower()
		}
		if err != nil {
			return seen, false, err
		}
	}
	return seen, false, nil
}

// stepKeepingFollower is step without crashes, and without changes of who follows.
func (w *commitWorld) stepKeepingFollower() error {
	s := w.shards[w.random.IntN(len(w.shards))]
	switch n := w.random.IntN(100); {
	case n < 25:
		return w.client(s)
	case n < 32:
		w.beginTxn()
		return nil
	case n < 62:
		return w.moveTxn()
	case n < 80:
		return w.numberBatch(s)
	case n < 85:
		return w.beside(s)
	case n < 88:
		return w.wake(s)
	}
	return w.applyOne(s, s.group.leader)
}

func crashCommitsTwice(w *commitWorld, s *commitShard) (seen crashedCommits, err error) {
	r := s.follower
	want, err := dumpState(r)
	if err != nil {
		return seen, err
	}
	commits, target := dumpCommits(r), r.AppliedIndex()
	options := r.options
	options.LogEnd = target
	first, err := openReplica(r.engine.Crash(w.random), options)
	if err != nil {
		return seen, err
	}
	seen.found, seen.replayed = len(first.transactions.records), int(target-first.AppliedIndex())
	half := first.AppliedIndex() + consensus.Index(w.random.IntN(seen.replayed+1))
	for first.AppliedIndex() < half {
		done, err := first.apply(s.group.log[first.AppliedIndex()])
		if err != nil {
			return seen, fmt.Errorf("replay: %w", err)
		}
		seen.resolved += len(done.Resolved)
	}
	if w.random.IntN(2) == 0 {
		if err := first.flushAll(); err != nil {
			return seen, err
		}
	}
	second, err := openReplica(first.engine.Crash(w.random), options)
	if err != nil {
		return seen, err
	}
	if err := s.group.catchUp(second, target); err != nil {
		return seen, fmt.Errorf("second replay: %w", err)
	}
	if err := second.Check(); err != nil {
		return seen, err
	}
	if got := dumpCommits(second); got != commits {
		return seen, fmt.Errorf("known of transactions is\n%s, want\n%s", got, commits)
	}
	return seen, sameDump(want, second)
}
