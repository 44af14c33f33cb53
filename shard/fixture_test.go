package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// replica is a machine with its store and engine, as a driver would hold them.
type replica struct {
	*Machine
	engine  *storage.Memory
	store   *mvcc.Store
	applies int             // batches applied to the engine
	reached consensus.Index // the last entry ever applied
	options Options
}

func testOptions(seed uint64) Options {
	return Options{Rand: rand.New(rand.NewPCG(seed, 1)), MinLeaseTTLSeconds: 1, MaxClockStep: time.Hour}
}

func openReplica(engine *storage.Memory, options Options) (*replica, error) {
	r := &replica{engine: engine, options: options, reached: options.LogEnd}
	return r, r.reopen()
}

func mustOpen(options Options) *replica { return mustOpenSharing(nil, options) }

func mustOpenSharing(files storage.Files, options Options) *replica {
	r, err := openReplica(storage.NewMemory(storage.MemoryOptions{CrashStates: 1 << 20, ManualFlush: true, Files: files}), options)
	if err != nil {
		panic(err)
	}
	return r
}

func (r *replica) reopen() error {
	options := r.options
	options.LogEnd = r.reached
	// Small limits, so that every path is taken.
	options.Versions = mvcc.Options{MaxDirtyKeys: 8, CacheBytes: 2 << 10, BucketRows: 4, ChunkKeys: 3}
	machine, err := Open(r.engine, options)
	if err == nil {
		r.Machine, r.store = machine, machine.store
	}
	return err
}

func (r *replica) batch(fill func(storage.Batch) error) error {
	b := r.engine.NewBatch()
	defer b.Close()
	if err := fill(b); err != nil {
		return err
	}
	if err := r.engine.Apply(b); err != nil {
		return err
	}
	r.applies++
	return nil
}

func (r *replica) apply(e consensus.Entry) (done Applied, err error) {
	err = r.batch(func(b storage.Batch) error {
		done, err = r.Machine.Apply(e, b)
		return err
	})
	r.reached = max(r.reached, e.Index)
	return done, err
}

// flushSome does one chunk of a flush, starting one if none is under way. At its end the engine is made durable.
func (r *replica) flushSome(rows int) (finished bool, err error) {
	if r.flush == nil && !r.Freeze() {
		return true, nil
	}
	done := false
	err = r.batch(func(b storage.Batch) error { done, err = r.FlushChunk(b, rows); return err })
	if err != nil || !done {
		return false, err
	}
	index := r.FlushDone()
	r.engine.Flush(func(flushErr error) {
		if err = flushErr; err == nil {
			r.MarkDurable(index)
		}
	})
	r.engine.CompleteFlush()
	return true, err
}

func (r *replica) flushAll() error {
	for {
		if finished, err := r.flushSome(3); err != nil || finished {
			return err
		}
	}
}

func (r *replica) compactSome(rows int) error {
	if !r.CompactReady() {
		return nil
	}
	return r.batch(func(b storage.Batch) error { _, err := r.store.CompactStep(b, rows); return err })
}

// group is a log and the replicas that apply it, with nothing lost on the way.
type group struct {
	log    []consensus.Entry
	now    time.Duration
	leader *replica
}

func (g *group) append(term consensus.Term, kind consensus.EntryKind, data []byte) {
	g.log = append(g.log, consensus.Entry{Index: consensus.Index(len(g.log) + 1), Term: term, Kind: kind, Data: data})
}

// catchUp applies the log up to the index.
func (g *group) catchUp(r *replica, to consensus.Index) error {
	for r.AppliedIndex() < to {
		if _, err := r.apply(g.log[r.AppliedIndex()]); err != nil {
			return err
		}
	}
	return nil
}

// elect makes the replica leader of the term, with the whole log applied.
func (g *group) elect(r *replica, term consensus.Term) error {
	g.append(term, consensus.EntryBarrier, nil)
	if err := g.catchUp(r, consensus.Index(len(g.log))); err != nil {
		return err
	}
	g.leader = r
	return r.Lead(term, g.now)
}

// propose moves what the leader evaluated into the log.
func (g *group) propose() uint64 {
	data, seq := g.leader.TakeProposal(g.now)
	if seq != 0 {
		g.append(g.leader.lead.term, consensus.EntryCommand, data)
	}
	return seq
}

// decide evaluates a request, beside the rounds if it takes long. Then nothing may be in flight.
func (g *group) decide(r *kv.Request) Outcome {
	out := g.leader.Evaluate(r)
	if out.Beside == nil {
		return out
	}
	job := g.leader.NextBeside()
	if job != out.Beside {
		return Outcome{Fatal: errors.New("nothing is in flight, and the request may not be decided beside the rounds")}
	}
	job.Run(func() bool { return false })
	out = g.leader.FinishBeside(job)
	for out.Staged {
		of, ended := g.leader.StepBulk()
		if of != nil {
			return ended
		}
		if err := g.makeRoomForBulk(); err != nil {
			return Outcome{Fatal: err}
		}
	}
	return out
}

// makeRoomForBulk does what the next part of a bulk waits for.
func (g *group) makeRoomForBulk() error {
	if g.propose() != 0 {
		return g.catchUp(g.leader, consensus.Index(len(g.log)))
	}
	err := g.leader.batch(func(b storage.Batch) error { g.leader.ApplyBulk(b, 1<<30); return nil })
	return errors.Join(err, g.leader.flushAll())
}

// do evaluates, proposes and applies one request, in as many parts as it takes, and beside the rounds if it takes long.
func (g *group) do(r *kv.Request) (*kv.Response, error) {
	out := g.decide(r)
	for out.Begun {
		if g.propose() == 0 {
			return nil, errors.New("a part of the request is said to be done, and there is no proposal")
		}
		if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
			return nil, err
		}
		out = g.decide(r)
	}
	if out.Fatal != nil {
		return nil, fmt.Errorf("fatal: %w", out.Fatal)
	}
	if seq := g.propose(); out.Effects && seq != out.WaitFor {
		return nil, fmt.Errorf("the effects are in proposal %d, the answer waits for %d", seq, out.WaitFor)
	}
	if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
		return nil, err
	}
	return out.Response, out.Err
}
