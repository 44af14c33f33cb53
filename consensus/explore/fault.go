package explore

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
)

// Fault breaks a correct core, or what is around it, in one place, so that tests can show that the explorer would notice.
// The zero Fault breaks nothing.
type Fault struct {
	// Heard and Said change messages on the way into a core and out of it.
	Heard, Said func(consensus.Core, *consensus.Message)
	// Early lets everything leave before it is durable.
	Early bool
	// Credulous answers read barriers at once.
	Credulous bool
	// Start changes what a core is started with.
	Start func(*consensustest.Member)
	// Make changes a core that was just made.
	Make func(consensus.Core)
	// Work changes what a core wants done.
	Work func(consensus.Core, *consensus.Ready)
	// Disk changes the log after each sync, Snapshot what a snapshot says of itself.
	Disk     func(*consensustest.Log)
	Snapshot func(meta *consensus.SnapshotMeta, applied consensus.Index)
}

// broken is a core with a fault.
type broken struct {
	consensus.Core
	fault Fault
	reads []consensus.ReadState
}

// Step implements consensus.Core.
func (b *broken) Step(m consensus.Message) error {
	if b.fault.Heard != nil {
		b.fault.Heard(b.Core, &m)
	}
	return b.Core.Step(m)
}

// ReadBarrier implements consensus.Core.
func (b *broken) ReadBarrier(id consensus.ReadID) error {
	status := b.Core.Status()
	if !b.fault.Credulous || status.Role != consensus.RoleLeader {
		return b.Core.ReadBarrier(id)
	}
	b.reads = append(b.reads, consensus.ReadState{ID: id, Index: status.Commit})
	return nil
}

// HasReady implements consensus.Core.
func (b *broken) HasReady() bool { return len(b.reads) > 0 || b.Core.HasReady() }

// Ready implements consensus.Core.
func (b *broken) Ready() consensus.Ready {
	rd := b.Core.Ready()
	rd.Reads = append(rd.Reads, b.reads...)
	b.reads = nil
	if b.fault.Said != nil {
		for _, list := range [][]consensus.Message{rd.Messages, rd.Append.AfterSync} {
			for i := range list {
				b.fault.Said(b.Core, &list[i])
			}
		}
	}
	if b.fault.Early {
		rd.Messages = append(rd.Messages, rd.Append.AfterSync...)
		rd.Append.AfterSync = nil
	}
	if b.fault.Work != nil {
		b.fault.Work(b.Core, &rd)
	}
	return rd
}
