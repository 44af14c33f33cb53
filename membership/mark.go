package membership

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// How a disk that went back in time is noticed: an older image of it that was put back, a copy that runs somewhere else, or syncs that
// did nothing. What such a disk has forgotten, others have heard; so every node remembers how far it saw the disks of the others, tells
// the rest, and has it on disk a second later. See "Marks" in docs/decisions/0012-lost-replicas.md.
//
// Every write of a node to its log has a number, its position. A process begins with a write of its own, and the log keeps which processes
// there were. On an honest disk each begins above everything that anybody heard of the one before it.

// Process is one process of a node.
type Process struct {
	Began    uint64 // position of its first write
	Instance uint64
}

// Mark is how far a disk was seen.
type Mark struct {
	Disk     uint64
	Position uint64 // was durable
	// Processes are those that wrote to it, the present one last. Invariant: 1 to maxProcesses, ascending by Began.
	Processes []Process
}

// NodeMark is the mark of a node's disk.
type NodeMark struct {
	Node kv.NodeID
	Mark
}

// maxProcesses is how many a disk remembers. A peer that remembers only forgotten processes accepts us if all
// remembered ones began after the position it saw.
const maxProcesses = 8

func (m *Mark) present() Process {
	if len(m.Processes) == 0 {
		return Process{}
	}
	return m.Processes[len(m.Processes)-1]
}

// Continues tells whether m is of the same disk as o, and later or the same: it knows everything that was durable when o was seen.
func (m *Mark) Continues(o *Mark) bool {
	i := slices.Index(m.Processes, o.present())
	switch {
	case m.Disk != o.Disk:
		return false
	case i < 0: // it was forgotten, or never happened here
		return m.Processes[0].Began > o.Position
	case i == len(m.Processes)-1:
		return m.Position >= o.Position
	}
	return m.Processes[i+1].Began > o.Position
}
