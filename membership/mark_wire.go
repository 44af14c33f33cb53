package membership

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/kv"
)

// A mark of a node's disk, in a frame and in the log:
//
//	node       uvarint
//	disk       uvarint
//	position   uvarint
//	count      uvarint   of processes, 1 to 8
//	processes  began and instance, uvarint each; oldest first
//
// A frame has the mark of the sender, and then those of all nodes that it knows of.

// AppendMarks appends the marks.
func AppendMarks(b []byte, all []NodeMark) []byte {
	for i := range all {
		m := &all[i]
		for _, v := range []uint64{uint64(m.Node), m.Disk, m.Position, uint64(len(m.Processes))} {
			b = binary.AppendUvarint(b, v)
		}
		for _, p := range m.Processes {
			b = binary.AppendUvarint(binary.AppendUvarint(b, p.Began), p.Instance)
		}
	}
	return b
}

// maxMarks bounds what is decoded; no cluster has so many nodes.
const maxMarks = 1000

// DecodeMarks is the inverse of AppendMarks. It fails if the marks cannot be true of any disk.
func DecodeMarks(b []byte) (all []NodeMark, err error) {
	for len(b) > 0 {
		var head [4]uint64
		for i := range head {
			if head[i], b, err = uvarint(b); err != nil {
				return nil, errMarks
			}
		}
		m := NodeMark{kv.NodeID(head[0]), Mark{Disk: head[1], Position: head[2]}}
		if m.Disk == 0 || head[3] < 1 || head[3] > maxProcesses || len(all) == maxMarks {
			return nil, errMarks
		}
		last := uint64(0)
		for range head[3] {
			var p Process
			if p.Began, b, err = uvarint(b); err != nil || p.Began <= last {
				return nil, errMarks
			}
			if p.Instance, b, err = uvarint(b); err != nil {
				return nil, errMarks
			}
			last = p.Began
			m.Processes = append(m.Processes, p)
		}
		if last > m.Position {
			return nil, errMarks
		}
		all = append(all, m)
	}
	return all, nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errMarks
	}
	return v, b[n:], nil
}
