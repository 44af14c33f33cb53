package replica

import (
	"encoding/binary"
	"errors"

	"github.com/quoratedb/quorate/kv"
)

// nodeMark is a mark of a node's disk, in a frame and in the log:
//
//	node       uvarint
//	disk       uvarint
//	position   uvarint
//	count      uvarint   of processes, 1 to 8
//	processes  began and instance, uvarint each; oldest first
//
// A frame on ChannelMarks has the mark of the sender, and then those of all nodes that it knows of.
type nodeMark struct {
	node kv.NodeID
	mark
}

var errMarks = errors.New("replica: marks of disks make no sense")

func appendMark(b []byte, node kv.NodeID, m *mark) []byte {
	for _, v := range []uint64{uint64(node), m.disk, m.position, uint64(len(m.processes))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, p := range m.processes {
		b = binary.AppendUvarint(binary.AppendUvarint(b, p.began), p.instance)
	}
	return b
}

// appendOthers appends the marks of all other nodes.
func (s *Store) appendOthers(b []byte) []byte {
	for _, node := range s.opts.Nodes {
		if m, known := s.marks.seen[node]; known {
			b = appendMark(b, node, &m)
		}
	}
	return b
}

// maxMarks bounds what is decoded; no cluster has so many nodes.
const maxMarks = 1000

func decodeMarks(b []byte) (all []nodeMark, err error) {
	for len(b) > 0 {
		var head [4]uint64
		for i := range head {
			if head[i], b, err = uvarint(b); err != nil {
				return nil, errMarks
			}
		}
		m := nodeMark{kv.NodeID(head[0]), mark{disk: head[1], position: head[2]}}
		if m.disk == 0 || head[3] < 1 || head[3] > maxProcesses || len(all) == maxMarks {
			return nil, errMarks
		}
		last := uint64(0)
		for range head[3] {
			var p process
			if p.began, b, err = uvarint(b); err != nil || p.began <= last {
				return nil, errMarks
			}
			if p.instance, b, err = uvarint(b); err != nil {
				return nil, errMarks
			}
			last = p.began
			m.processes = append(m.processes, p)
		}
		if last > m.position {
			return nil, errMarks
		}
		all = append(all, m)
	}
	return all, nil
}
