package members

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/packed"
)

// ErrMalformed: bytes that are no list of members.
var ErrMalformed = errors.New("malformed list of members")

// listFormat is that of an encoded list. 1 is the format of what a node says about itself, in the rows beside which a list is kept.
const listFormat = 2

// Append writes a list, as it is in the log, in its row, and between nodes. It has less than 256 KiB, unless the cluster began with longer addresses:
//
//	byte    format
//	uvarint version
//	uvarint number of members, ascending; each: uvarint ID, bytes name (length first, as all bytes here), uvarint number of peer URLs, each: bytes, the same of
//	        client URLs, byte 1: learner, uvarint first replica
//	uvarint number of removed IDs, ascending; each: uvarint distance to the one before
func (l *List) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, listFormat), l.Version)
	dst = binary.AppendUvarint(dst, uint64(len(l.Members)))
	for i := range l.Members {
		dst = appendMember(dst, &l.Members[i])
	}
	dst = binary.AppendUvarint(dst, uint64(len(l.Removed)))
	before := kv.NodeID(0)
	for _, id := range l.Removed {
		dst = binary.AppendUvarint(dst, uint64(id-before))
		before = id
	}
	return dst
}

func appendMember(dst []byte, m *Member) []byte {
	dst = binary.AppendUvarint(dst, uint64(m.ID))
	dst = packed.AppendString(dst, m.Name)
	dst = packed.AppendStrings(packed.AppendStrings(dst, m.PeerURLs), m.ClientURLs)
	return binary.AppendUvarint(packed.AppendBool(dst, m.Learner), m.First)
}

// Decode reads what Append wrote; nothing of it shares the bytes.
func Decode(in []byte) (*List, error) {
	d := packed.NewReader(in)
	if format := d.Byte(); !d.Failed() && format != listFormat {
		return nil, fmt.Errorf("a list of format %d, this version knows %d: %w", format, listFormat, ErrMalformed)
	}
	l := &List{Version: d.Uvarint()}
	for range d.Count() {
		m := Member{ID: kv.NodeID(d.Uvarint()), Name: d.String()}
		m.PeerURLs, m.ClientURLs = d.Strings(), d.Strings()
		m.Learner, m.First = d.Bool(), d.Uvarint()
		l.Members = append(l.Members, m)
	}
	for range d.Count() {
		distance := d.Uvarint()
		id := kv.NodeID(distance)
		if last := len(l.Removed) - 1; last >= 0 {
			if id += l.Removed[last]; distance == 0 || id < l.Removed[last] {
				d.Fail()
			}
		}
		l.Removed = append(l.Removed, id)
	}
	if !d.Done() {
		return nil, ErrMalformed
	}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrMalformed)
	}
	return l, nil
}

// Check tells what is wrong with a list.
func (l *List) Check() error {
	voters := len(l.Members) - l.learners()
	for i := range l.Members {
		switch m := &l.Members[i]; {
		case m.ID == 0 || i > 0 && m.ID <= l.Members[i-1].ID:
			return errors.New("the members are not in order")
		case l.WasRemoved(m.ID):
			return fmt.Errorf("member %v was removed", m.ID)
		}
	}
	switch {
	case l.Version > 0 && voters == 0:
		return errors.New("no member has a vote")
	case len(l.Members)+len(l.Removed) > MaxEver:
		return fmt.Errorf("%d members, and %d that were removed: there can be %d", len(l.Members), len(l.Removed), MaxEver)
	}
	return nil
}
