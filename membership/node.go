package membership

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// FormatMarks is the version of the frames between nodes from which on they say how far the sender's disk is written. Nodes of the version before
// have no marks, and need not be asked.
const FormatMarks uint16 = 3

// Node is what this process knows about its own disk, and about the processes and disks of the other nodes. It is not safe for concurrent use.
type Node struct {
	options  Options
	liveness Liveness
	began    time.Duration // of this process

	groups  []*Group             // that are open, in the order of opening
	formats map[kv.NodeID]uint16 // of the frames that are spoken with each node; none before the first connection

	marks     marks
	record    record
	witnesses witnesses
	// unwitnessed is what was said last of who is missing.
	unwitnessed []kv.NodeID

	ready NodeReady
}

// NodeReady is work for the driver.
type NodeReady struct {
	// Marks are to be sent, to each node.
	Marks []MarksTo
	// Refused: something that a node said is not believed.
	Refused []Refusal
	// Unwitnessed: the nodes that would have to be heard to confirm that this disk is as it was are others than before; it may point to none.
	Unwitnessed *[]kv.NodeID
	// Failed: the node must stop. It wraps ErrLost.
	Failed error
}

// MarksTo are marks for a node: those of the sender's disk first, and those of the others that it knows.
type MarksTo struct {
	To    kv.NodeID
	Marks []NodeMark
}

// Refusal is what a node said, and why it is not believed.
type Refusal struct {
	From kv.NodeID
	Err  error
}

// NewNode returns the core of a node whose log holds the record. Begin follows.
func NewNode(now time.Duration, options Options, liveness Liveness, record storage.NodeRecord) (*Node, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	n := &Node{options: options, liveness: liveness, began: now, formats: make(map[kv.NodeID]uint16)}
	n.marks.seen, n.marks.heard, n.marks.told = make(map[kv.NodeID]disks), make(map[kv.NodeID]uint64), make(map[kv.NodeID]time.Duration)
	if !n.marking() {
		n.marks.own = Mark{Disk: options.Disk, Processes: []Process{{1, options.Instance}}}
	} else if err := n.restore(record); err != nil {
		return nil, err
	}
	n.witnesses = newWitnesses(n.others(), n.marks.seen, n.marking() && record.Position > 0)
	return n, nil
}

// BeginMarks is for a process that had to do with nobody else, before that changes: it tells apart what is on its disk from now on. record is what the log has
// of this node, and what is returned must be durable before SetNodes; nil: nothing.
func (n *Node) BeginMarks(record storage.NodeRecord) (begin *storage.NodeRecord, err error) {
	if n.options.Disk == 0 || n.record.position > 0 {
		return nil, nil
	}
	if err := n.restore(record); err != nil {
		return nil, err
	}
	return n.begin(), nil
}

// SetNodes says which nodes the process has to do with from now on, this one included.
func (n *Node) SetNodes(nodes []kv.NodeID) {
	before := n.options.Nodes
	n.options.Nodes = nodes
	n.witnesses.follow(n.others())
	for _, node := range nodes {
		if !slices.Contains(before, node) {
			n.marks.changed = true // it has heard nothing yet
		}
	}
}

// marking tells whether there is a disk ID, and anybody who could remember how far the disk was.
func (n *Node) marking() bool { return n.options.Disk != 0 && len(n.options.Nodes) > 1 }

// others are all nodes but this one.
func (n *Node) others() []kv.NodeID {
	return slices.DeleteFunc(slices.Clone(n.options.Nodes), func(node kv.NodeID) bool { return node == n.options.Self })
}

// Connected tells that a connection to a node exists, on which frames of the version are spoken.
func (n *Node) Connected(node kv.NodeID, version uint16) {
	n.formats[node] = version
	if version < FormatMarks {
		n.witnesses.spoke(node, 0)
	}
	n.sendMarks(node)
}

// Format is the version of the frames that are spoken with the node; 0 before the first connection.
func (n *Node) Format(node kv.NodeID) uint16 { return n.formats[node] }

// Tick lets the time pass: what is new is told to the others, and it is judged who could have confirmed this disk.
func (n *Node) Tick(now time.Duration) {
	n.spreadMarks()
	n.judgeWitnesses(now)
}

// Ready moves the pending work out.
func (n *Node) Ready() NodeReady {
	ready := n.ready
	n.ready = NodeReady{}
	return ready
}

// HasReady tells whether there is any.
func (n *Node) HasReady() bool {
	r := &n.ready
	return len(r.Marks) > 0 || len(r.Refused) > 0 || r.Unwitnessed != nil || r.Failed != nil
}

func (n *Node) refuse(from kv.NodeID, format string, values ...any) {
	n.ready.Refused = append(n.ready.Refused, Refusal{From: from, Err: fmt.Errorf(format, values...)})
}

// fail stops the node; the first reason counts.
func (n *Node) fail(err error) {
	if n.ready.Failed == nil {
		n.ready.Failed = err
	}
}
