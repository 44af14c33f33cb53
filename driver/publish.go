package driver

import (
	"sync/atomic"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/timeline"
)

// published is what the applied state says of itself, for those who must not wait for the driver. It is written under the exclusive lock.
type published struct {
	revision, compacted atomic.Int64
	effects             atomic.Uint64
	alarms              atomic.Pointer[[]kv.Alarm]
	auth                atomic.Pointer[auth.State]
	members             atomic.Pointer[members.List]
	times               atomic.Pointer[timeline.Series]
	// undecided transactions over several shards, and all records of such.
	undecided, records atomic.Int64
}

func (r *driven) publishState(alarms bool) {
	r.reckonFigures()
	r.published.set(r.machine)
	if r.isSequenced() {
		r.published.setTransactions(r.machine.Metrics())
	}
	if alarms {
		list := r.machine.Alarms()
		r.published.alarms.Store(&list)
	}
	if r.system() {
		r.published.setTimes(r.machine.Times())
	}
}

func (p *published) set(m Machine) {
	p.revision.Store(int64(m.Closed()))
	p.compacted.Store(int64(m.Compacted()))
	p.auth.Store(m.Auth())
	p.members.Store(m.Members())
}

func (p *published) setTransactions(figures shard.Metrics) {
	p.undecided.Store(int64(figures.UndecidedTransactions))
	p.records.Store(int64(figures.TransactionRecords))
}

func (p *published) setTimes(now timeline.Series) {
	if before := p.series(); now.First() != before.First() || now.Last() != before.Last() {
		kept := now // what is kept is not on the stack
		p.times.Store(&kept)
	}
}

func (p *published) series() timeline.Series {
	if times := p.times.Load(); times != nil {
		return *times
	}
	return timeline.Series{}
}

// reckonFigures has the node count what the machine has counted. As with reckonMemory, a replica that is not part of the rounds does not count.
func (r *driven) reckonFigures() {
	if r.counts() {
		r.driver.metrics.reckon(&r.figures, r.machine.Metrics())
		r.published.effects.Store(r.figures.AppliedEffects)
	}
}

// Revision returns the revision of the applied state.
func (r *Replica) Revision() kv.Revision { return kv.Revision(r.published.revision.Load()) }

// Compacted returns the revision below which history is forgotten.
func (r *Replica) Compacted() kv.Revision { return kv.Revision(r.published.compacted.Load()) }

// Alarms lists the active alarms of the applied state. The slice is not to be changed.
func (r *Replica) Alarms() []kv.Alarm { return *r.published.alarms.Load() }

// Auth is the applied state of users and roles, as new as what is read here after the call.
func (r *Replica) Auth() *auth.State { return r.published.auth.Load() }

// Members is the applied list of members, of the replica of the system shard.
func (r *Replica) Members() *members.List { return r.published.members.Load() }

// tellMembers tells of the list of members if it is not the one before any more.
func (r *driven) tellMembers(before *members.List) {
	if list := r.Members(); list != before && r.Shard() == kv.SystemShard && r.driver.opts.Listener.ListChanged != nil {
		r.driver.opts.Listener.ListChanged(list)
	}
}

// Times is the applied series of which revision the store had at which time; empty unless this is the system shard.
func (r *Replica) Times() timeline.Series { return r.published.series() }

// Effects counts the changes of keys that were applied since the state was opened; a snapshot that is installed begins anew.
func (r *Replica) Effects() uint64 { return r.published.effects.Load() }

// Reads counts the reads of the applied state since the start; one of a list counts once.
func (r *Replica) Reads() uint64 { return r.reads.Load() }

// Keys is how many keys the applied state has. It does not walk them, and is no read.
func (r *Replica) Keys() (int64, error) {
	r.mu.Lock()
	machine, view := r.machine, r.viewLocked()
	r.mu.Unlock()
	defer view.Close()
	everything := &kv.RangeRequest{Span: kv.Everything(), CountOnly: true, Serializable: true}
	counted, err := machine.Read(view, r.front.clock(), &kv.Request{Kind: kv.KindRange, AuthVersion: kv.Unjudged, Range: everything})
	if err != nil {
		return 0, err
	}
	return counted.Range.Count, nil
}

// Outside tells whether this replica is no full member of its group: it is lost, or joins and has no vote yet.
func (r *Replica) Outside() bool { return r.standing.outsider.Load() || r.standing.learner.Load() }
