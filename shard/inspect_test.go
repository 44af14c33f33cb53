package shard

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Evaluated is the revision of the applied state overlaid with everything in flight.
func (m *Machine) Evaluated() kv.Revision {
	if m.lead != nil {
		return m.lead.revision
	}
	return m.applied.Revision
}

// DurableIndex is the index from which the log is replayed after a crash.
func (m *Machine) DurableIndex() consensus.Index { return m.durable.Index }

// HashKV hashes the versions up to a revision (0: the newest): equal on all replicas that can read the revision.
func (m *Machine) HashKV(at kv.Revision) (uint32, error) { return m.store.Hash(at) }

func (o *overlay) empty() bool { return o.changes.size() == 0 && o.ops.size() == 0 }
