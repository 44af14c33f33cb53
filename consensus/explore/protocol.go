package explore

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
)

// Protocol is what the explorer must know of the cores it explores.
type Protocol struct {
	Name string
	// Factory makes cores. They must be deterministic: the same calls, the same work.
	Factory consensustest.Factory
	// Record reads an entry of the log: the entry and the ballot under which it was accepted. Nil stands for a protocol
	// whose logs hold plain entries under their term.
	Record func(consensus.Entry) (consensus.Entry, consensus.Term, error)
	// RaftLogs: an entry is settled by its place in a log. Otherwise each slot is voted on by itself.
	RaftLogs bool
	// Phase2Quorum, if not 0, is how many voters decide, in place of a majority.
	Phase2Quorum int
	// Granted tells whether the message binds its sender to the candidate it is sent to for the term.
	Granted func(*consensus.Message) bool
	// Acknowledged tells up to which index the message says that everything is durable at its sender; 0: nothing.
	Acknowledged func(*consensus.Message) consensus.Index
	// Proposed returns what the message asks to be accepted under its term.
	Proposed func(*consensus.Message) []consensus.Entry
}

func (p *Protocol) record(e consensus.Entry) (record, error) {
	if p.Record == nil {
		return record{e, e.Term}, nil
	}
	inner, ballot, err := p.Record(e)
	return record{inner, ballot}, err
}

// enough tells whether the replicas decide.
func (p *Protocol) enough(config consensus.Config, has func(consensus.ReplicaID) bool) bool {
	if p.Phase2Quorum == 0 {
		return config.HasQuorum(has)
	}
	n := 0
	for _, id := range config.Voters {
		if has(id) {
			n++
		}
	}
	return n >= p.Phase2Quorum
}

// record is an entry with the ballot under which it was accepted.
type record struct {
	entry  consensus.Entry
	ballot consensus.Term
}

// sameEntry tells whether two entries are the same value in the same place.
func sameEntry(a, b consensus.Entry) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Kind == b.Kind && string(a.Data) == string(b.Data)
}
