package server

import (
	"errors"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// replaying is how the state of a stopped node goes on with what its log has beyond it.
type replaying struct {
	machine *shard.Machine
	log     storage.GroupLog
	upTo    consensus.Index // the last entry that takes effect
	paxos   bool            // the log has records of Multi-Paxos
	// fill passes over entries that the log does not have, of which nobody knows what was to be there. Otherwise that is an error.
	fill  bool
	batch storage.Batch
	write func() error // is called now and then, with something in the batch
}

const replayBytes = 1 << 20 // read at a time

// run applies the entries, and returns the highest term that they tell of.
func (r *replaying) run() (term consensus.Term, err error) {
	for r.machine.AppliedIndex() < r.upTo {
		entries, err := r.log.Entries(r.machine.AppliedIndex()+1, r.upTo+1, replayBytes)
		if err != nil && !(r.fill && errors.Is(err, consensus.ErrUnavailable)) {
			return term, err
		}
		if len(entries) == 0 {
			return term, nil // only holes
		}
		for _, e := range entries {
			term = max(term, e.Term)
			if r.paxos {
				var ballot consensus.Term
				if e, ballot, err = paxos.Recorded(e); err != nil {
					return term, err
				}
				term = max(term, ballot)
			}
			for r.fill && r.machine.AppliedIndex()+1 < e.Index {
				if err := r.apply(consensus.Entry{Index: r.machine.AppliedIndex() + 1, Term: r.machine.AppliedTerm(), Kind: consensus.EntryBarrier}); err != nil {
					return term, err
				}
			}
			if err := r.apply(e); err != nil {
				return term, err
			}
		}
	}
	return term, nil
}

func (r *replaying) apply(e consensus.Entry) error {
	if _, err := r.machine.Apply(e, r.batch); err != nil {
		return err
	}
	for pending := 1; pending > 0; _, pending = r.machine.Bulk() {
		r.machine.ApplyBulk(r.batch, 4096)
		if err := r.write(); err != nil {
			return err
		}
	}
	return nil
}
