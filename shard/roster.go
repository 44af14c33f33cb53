package shard

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// MaxSeats is how many nodes a roster can have, those that are leaving included.
const MaxSeats = 100

// Roster says on which nodes the shard is to have replicas. Its seats are not to be changed. Shared.
func (m *Machine) Roster() kv.Roster { return m.applied.Roster }

// rosterRequest takes a roster over that is of a higher version. Nothing else changes: a leader that has an old list of members is too late.
func (m *Machine) rosterRequest(r *kv.Roster) (*kv.Response, error) {
	newest := m.applied.Roster
	m.lead.overlay.eachOp(func(p *op) {
		if p.kind == opRoster {
			newest = *p.roster
		}
	})
	answer := &kv.Response{Kind: kv.KindSetRoster}
	if r.Version <= newest.Version {
		return answer, nil
	}
	for _, s := range r.Seats {
		if before, ok := newest.Seat(s.Node); ok && before.Role == kv.SeatVoter && s.Role == kv.SeatLearner {
			return nil, fmt.Errorf("node %v has a vote, and is not made a learner again: remove it, and add it as another one: %w", s.Node, kv.ErrInvalidRequest)
		}
	}
	m.lead.overlay.addOp(op{kind: opRoster, roster: &kv.Roster{Version: r.Version, Seats: slices.Clone(r.Seats)}})
	return answer, nil
}

// checkRoster tells what is wrong with a roster that is to be followed; "": nothing.
func checkRoster(r *kv.Roster) string {
	voters := 0
	for i, s := range r.Seats {
		switch {
		case s.Node == 0 || i > 0 && s.Node <= r.Seats[i-1].Node:
			return "its nodes do not ascend"
		case s.Role < kv.SeatVoter || s.Role > kv.SeatLeaving:
			return fmt.Sprintf("a node has the role %d", s.Role)
		case s.First > MaxReplicaID:
			return fmt.Sprintf("%d is no replica", s.First)
		}
		if s.Role == kv.SeatVoter {
			voters++
		}
	}
	switch {
	case r.Version == 0:
		return "it has no version"
	case voters == 0:
		return "nobody votes"
	case len(r.Seats) > MaxSeats:
		return fmt.Sprintf("it has %d nodes, and %d are possible", len(r.Seats), MaxSeats)
	}
	return ""
}

// appendRoster writes the version and how many seats there are; then of each the node, the first replica, and the role.
func appendRoster(buf []byte, r *kv.Roster) []byte {
	buf = binary.AppendUvarint(buf, r.Version)
	buf = binary.AppendUvarint(buf, uint64(len(r.Seats)))
	for _, s := range r.Seats {
		buf = binary.AppendUvarint(buf, uint64(s.Node))
		buf = append(binary.AppendUvarint(buf, s.First), byte(s.Role))
	}
	return buf
}

const (
	rosterBytes = 12
	seatBytes   = 16
)

func (d *decoder) roster() *kv.Roster {
	r := &kv.Roster{Version: d.uvarint()}
	for range d.count(3) {
		r.Seats = append(r.Seats, kv.Seat{Node: kv.NodeID(d.uvarint()), First: d.uvarint(), Role: kv.SeatRole(d.byte())})
	}
	if wrong := checkRoster(r); d.err == nil && wrong != "" {
		d.fail("a roster that makes no sense: " + wrong)
	}
	return r
}
