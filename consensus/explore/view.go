package explore

import (
	"math"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
)

// view is what an observer may see of a replica.
type view struct {
	id            consensus.ReplicaID
	up            bool
	incarnation   int
	status        consensus.Status
	base          consensus.Index // the log begins after it
	log           []record
	durableBase   consensus.Index
	durable       []record
	seenTerm      consensus.Term // on the disk
	applied, kept consensus.Index
	dueSync       int // writes that a sync must cover
	unsynced      bool
	installing    bool
	queued        int
}

func (r *replica) look(env *environment) *view {
	durable := r.log.Durable()
	v := &view{
		id: r.id, up: r.core != nil, incarnation: r.incarnation, base: r.log.First() - 1, log: env.read(r.log),
		durableBase: durable.First() - 1, durable: env.read(durable), seenTerm: env.seenTerm(durable),
		applied: r.now.index, kept: r.kept.index, dueSync: r.due(), unsynced: len(r.unsynced) > 0, queued: len(r.queue),
	}
	if v.up {
		v.status = r.core.Status()
	}
	v.installing = slices.ContainsFunc(r.unsynced, func(a consensus.Append) bool { return a.Snapshot != nil })
	return v
}

// read returns all records of a log.
func (env *environment) read(log *consensustest.Log) (records []record) {
	entries, err := log.Entries(log.First(), log.Last()+1, math.MaxInt)
	if err != nil {
		return nil // it is empty
	}
	for _, e := range entries {
		if rec, err := env.protocol.record(e); err == nil {
			records = append(records, rec)
		}
	}
	return records
}

// seenTerm is the highest term that the log shows: an entry or a snapshot of a term is as good as a hard state of it.
func (env *environment) seenTerm(log *consensustest.Log) consensus.Term {
	term := log.HardState().Term
	if base, err := log.Term(log.First() - 1); err == nil {
		term = max(term, base)
	}
	for _, rec := range env.read(log) {
		term = max(term, rec.ballot)
	}
	return term
}

// at returns the record of the index, if there is one.
func at(records []record, i consensus.Index) (record, bool) {
	for j := range records {
		if records[j].entry.Index == i {
			return records[j], true
		}
	}
	return record{}, false
}

// identity tells this state of the replica from every other.
func (r *replica) identity(env *environment, v *view) uint64 {
	return fingerprints.Of(r.id, r.core, v, r.now, r.kept, r.unsynced, r.staged, r.queue, r.handed, r.mark, r.role, r.incarnation, r.log.HardState(), r.log.Durable().HardState())
}
