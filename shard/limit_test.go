package shard

import (
	"errors"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// limited is a system shard, new as one of several shards.
func limited(t *testing.T) (r *replica, g *group) {
	options := testOptions(1)
	options.Sequenced = true
	r, g = mustOpen(options), &group{}
	g.append(0, consensus.EntryBarrier, nil)
	start := consensus.SnapshotMeta{Index: 1, Config: consensus.Config{Voters: []consensus.ReplicaID{1}}}
	if err := r.batch(func(b storage.Batch) error { return r.Bootstrap(start, nil, b) }); err != nil {
		t.Fatal(err)
	}
	r.engine.Flush(func(error) {})
	r.engine.CompleteFlush()
	return r, g
}

func (g *group) limit(t *testing.T, r *replica, term consensus.Term, limit kv.Revision) Applied {
	t.Helper()
	g.append(term, consensus.EntryCommand, AppendLimit(nil, term, limit))
	done, err := r.apply(g.log[len(g.log)-1])
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// TestLimit: a limit is in force when its entry is applied, and never again after the barrier of a later term. It is part of the state through crashes, and
// outside of the chain: a batch that was taken before it, or waits for its numbers, is none the worse.
func TestLimit(t *testing.T) {
	r, g := limited(t)
	if r.Limit() != FoundingLimit {
		t.Errorf("born with limit %d", r.Limit())
	}
	if err := g.elect(r, 1); err != nil {
		t.Fatal(err)
	}
	put := func(key string) { // evaluates, and waits for its number
		t.Helper()
		if err := r.Begin(kv.Present{Revision: r.lead.revision}, false); err != nil {
			t.Fatal(err)
		}
		if out := r.Evaluate(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}}); !out.Effects {
			t.Fatalf("%+v", out)
		}
	}
	put("a")
	if done := g.limit(t, r, 1, 100); done.Limit != 100 || done.Void || done.Seq != 0 || r.Limit() != 100 {
		t.Errorf("%+v, limit %d", done, r.Limit())
	}
	if err := r.Number(50, 0); err != nil {
		t.Fatal(err)
	}
	if g.propose() == 0 {
		t.Fatal("nothing is proposed")
	}
	g.append(1, consensus.EntryCommand, AppendLimit(nil, 1, 60)) // as before a hand-over, behind what is in flight
	if err := g.catchUp(r, consensus.Index(len(g.log))); err != nil || r.Closed() != 50 || r.Limit() != 60 {
		t.Errorf("%v, at revision %d, limit %d", err, r.Closed(), r.Limit())
	}
	for _, flushed := range []bool{false, true} {
		if flushed {
			if err := r.flushAll(); err != nil {
				t.Fatal(err)
			}
		}
		before := r.AppliedIndex()
		r.engine = r.engine.Crash(nil)
		if err := r.reopen(); err != nil {
			t.Fatal(err)
		}
		if flushed != (r.AppliedIndex() == before) {
			t.Errorf("after the crash entry %d is applied, before it was %d", r.AppliedIndex(), before)
		}
		if err := g.catchUp(r, before); err != nil || r.Limit() != 60 {
			t.Errorf("%v, limit %d", err, r.Limit())
		}
	}
	if err := g.elect(r, 2); err != nil {
		t.Fatal(err)
	}
	if done := g.limit(t, r, 1, 10); done.Limit != 0 || done.Void || r.Limit() != 60 {
		t.Errorf("late: %+v, limit %d", done, r.Limit())
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
}

// TestLimitElsewhere: other shards have none, nor has a store of one shard, whose rows are what they always were.
func TestLimitElsewhere(t *testing.T) {
	for name, change := range map[string]func(*Options){"one shard": func(o *Options) { o.Sequenced = false }, "a data shard": func(o *Options) { o.Shard = 2 }} {
		options := testOptions(1)
		options.Sequenced = true
		change(&options)
		r := mustOpen(options)
		if err := r.batch(func(b storage.Batch) error { return r.Bootstrap(consensus.SnapshotMeta{}, nil, b) }); err != nil {
			t.Fatal(err)
		}
		if r.Limit() != 0 {
			t.Errorf("%s is born with limit %d", name, r.Limit())
		}
		if _, err := r.apply(consensus.Entry{Index: 1, Term: 1, Kind: consensus.EntryCommand, Data: AppendLimit(nil, 1, 5)}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	without, with := appendState(nil, &State{Revision: 9}), appendState(nil, &State{Revision: 9, Limit: 10})
	if !slices.Equal(with, append(slices.Clone(without), 10)) {
		t.Errorf("%x without, %x with", without, with)
	}
}

func FuzzDecodeLimit(f *testing.F) {
	f.Add(AppendLimit(nil, 3, 1<<40))
	f.Add(AppendLimit(nil, 0, 0))
	f.Add([]byte{limitFormat})
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isLimit(data) {
			return
		}
		term, limit, err := decodeLimit(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again, same, err := decodeLimit(AppendLimit(nil, term, limit)); again != term || same != limit || err != nil {
			t.Fatalf("%d, %d became %d, %d, %v", term, limit, again, same, err)
		}
	})
}
