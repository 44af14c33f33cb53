package members

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
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
	dst = appendString(dst, m.Name)
	for _, urls := range [2][]string{m.PeerURLs, m.ClientURLs} {
		dst = binary.AppendUvarint(dst, uint64(len(urls)))
		for _, u := range urls {
			dst = appendString(dst, u)
		}
	}
	learner := byte(0)
	if m.Learner {
		learner = 1
	}
	return binary.AppendUvarint(append(dst, learner), m.First)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Decode reads what Append wrote; nothing of it shares the bytes.
func Decode(in []byte) (*List, error) {
	d := &reader{in: in}
	if format := d.byte(); !d.bad && format != listFormat {
		return nil, fmt.Errorf("a list of format %d, this version knows %d: %w", format, listFormat, ErrMalformed)
	}
	l := &List{Version: d.uvarint()}
	for range d.count() {
		m := Member{ID: kv.NodeID(d.uvarint()), Name: d.string()}
		m.PeerURLs, m.ClientURLs = d.strings(), d.strings()
		m.Learner, m.First = d.bool(), d.uvarint()
		l.Members = append(l.Members, m)
	}
	for range d.count() {
		distance := d.uvarint()
		id := kv.NodeID(distance)
		if last := len(l.Removed) - 1; last >= 0 {
			if id += l.Removed[last]; distance == 0 || id < l.Removed[last] {
				d.fail()
			}
		}
		l.Removed = append(l.Removed, id)
	}
	if d.bad || len(d.in) > 0 {
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

// reader reads; once something is bad all that comes is zero.
type reader struct {
	in  []byte
	bad bool
}

func (d *reader) fail() { d.bad, d.in = true, nil }

func (d *reader) byte() byte {
	if len(d.in) == 0 {
		d.fail()
		return 0
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b
}

func (d *reader) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail()
	}
	return b == 1
}

func (d *reader) uvarint() uint64 {
	v, n := binary.Uvarint(d.in)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.in = d.in[n:]
	return v
}

// count reads how many things come, each of which takes a byte at least.
func (d *reader) count() int {
	n := d.uvarint()
	if n > uint64(len(d.in)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *reader) string() string {
	n := d.count()
	s := string(d.in[:n])
	d.in = d.in[n:]
	return s
}

func (d *reader) strings() (all []string) {
	for range d.count() {
		all = append(all, d.string())
	}
	return all
}
