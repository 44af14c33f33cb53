package shard

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

func randomRoster(random *rand.Rand) *kv.Roster {
	r := &kv.Roster{Version: 1 + random.Uint64()>>1}
	node := kv.NodeID(0)
	for range 1 + random.IntN(5) {
		node += 1 + kv.NodeID(random.Uint64()>>4)
		r.Seats = append(r.Seats, kv.Seat{Node: node, First: uint64(random.IntN(MaxReplicaID + 1)), Role: kv.SeatRole(1 + random.IntN(3))})
	}
	r.Seats[random.IntN(len(r.Seats))].Role = kv.SeatVoter
	return r
}

func seats(roles ...kv.SeatRole) (list []kv.Seat) {
	for i, role := range roles {
		if role != 0 {
			list = append(list, kv.Seat{Node: kv.NodeID(i + 1), Role: role})
		}
	}
	return list
}

// A roster is replaced only by a later one, whether that is applied or in flight, and survives a restart; what replicas were called stays taken.
func TestRoster(t *testing.T) {
	g := newGroup(t, testOptions(1))
	config := consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}
	g.append(1, consensus.EntryConfig, consensus.AppendConfig(nil, config))
	set := func(version uint64, list []kv.Seat) error {
		t.Helper()
		_, err := g.do(&kv.Request{Kind: kv.KindSetRoster, SetRoster: &kv.Roster{Version: version, Seats: list}})
		return err
	}
	if err := set(2, seats(1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	entries := len(g.log)
	for _, late := range []uint64{1, 2} {
		if err := set(late, seats(1)); err != nil || len(g.log) != entries {
			t.Errorf("version %d after 2: %v, and %d entries", late, err, len(g.log)-entries)
		}
	}
	if err := set(3, seats(1, 2, 1)); !errors.Is(err, kv.ErrInvalidRequest) {
		t.Errorf("a voter becomes a learner: %v", err)
	}
	if err := set(4, seats(1, 1, 3, 2)); err != nil {
		t.Fatal(err)
	}
	want := kv.Roster{Version: 4, Seats: seats(1, 1, 3, 2)}
	if got := g.leader.Roster(); !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	g.append(1, consensus.EntryConfig, consensus.AppendConfig(nil, consensus.Config{Voters: []consensus.ReplicaID{1, 2}}))
	if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
		t.Fatal(err)
	}
	if err := g.leader.flushAll(); err != nil {
		t.Fatal(err)
	}
	if err := g.leader.reopen(); err != nil {
		t.Fatal(err)
	}
	if got := g.leader.Roster(); !reflect.DeepEqual(got, want) {
		t.Fatalf("after a restart: %v, want %v", got, want)
	}
	if err := g.elect(g.leader, 2); err != nil {
		t.Fatal(err)
	}
	assign := func(node kv.NodeID, disk, first, replaces uint64) {
		t.Helper()
		if _, err := g.do(&kv.Request{Kind: kv.KindAssignReplica, AssignReplica: &kv.AssignReplicaRequest{Node: node, Disk: disk, First: first, Replaces: replaces}}); err != nil {
			t.Fatal(err)
		}
	}
	assign(4, 40, 0, 0)
	assign(4, 41, 0, 0) // too late: the node has a replica
	if got, want := g.leader.Placements(), []Placement{{Node: 4, Site: Site{Disk: 40}, Replica: 4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("the added node has %v, want %v: 3 was the replica of a node that left", got, want)
	}
	assign(4, 41, 0, 4)
	if got := g.leader.Placements(); got[0].Replica != 5 || got[0].Disk != 41 {
		t.Errorf("the added node lost its disk, and has %v", got)
	}
}

func TestRosterInFlight(t *testing.T) {
	g := newGroup(t, testOptions(1))
	for _, version := range []uint64{7, 6} {
		if out := g.leader.Evaluate(&kv.Request{Kind: kv.KindSetRoster, SetRoster: &kv.Roster{Version: version, Seats: seats(1)}}); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	if ops := g.leader.lead.overlay.otherOps; ops != 1 {
		t.Errorf("%d rosters are in flight, and one of them is older than the other", ops)
	}
}

func TestCheckRoster(t *testing.T) {
	for what, r := range map[string]*kv.Roster{
		"no version":       {Seats: seats(1)},
		"nobody":           {Version: 1},
		"learners only":    {Version: 1, Seats: seats(2, 3)},
		"no role":          {Version: 1, Seats: []kv.Seat{{Node: 1, Role: 1}, {Node: 2}}},
		"no node":          {Version: 1, Seats: []kv.Seat{{Role: 1}}},
		"twice":            {Version: 1, Seats: []kv.Seat{{Node: 1, Role: 1}, {Node: 1, Role: 1}}},
		"not in order":     {Version: 1, Seats: []kv.Seat{{Node: 2, Role: 1}, {Node: 1, Role: 1}}},
		"no such replica":  {Version: 1, Seats: []kv.Seat{{Node: 2, Role: 1, First: MaxReplicaID + 1}}},
		"too many members": {Version: 1, Seats: seats(append([]kv.SeatRole{1}, learners()...)...)},
	} {
		if checkRoster(r) == "" || Validate(&kv.Request{Kind: kv.KindSetRoster, SetRoster: r}, Limits{}) == nil {
			t.Errorf("%s: it passes", what)
		}
		d := &decoder{data: appendRoster(nil, r)}
		if d.roster(); d.err == nil {
			t.Errorf("%s: it is decoded", what)
		}
	}
}

// learners is as many learners as there can be nodes.
func learners() (roles []kv.SeatRole) {
	for range MaxSeats {
		roles = append(roles, kv.SeatLearner)
	}
	return roles
}

// A state without a roster is written as it always was.
func TestStateWithoutRoster(t *testing.T) {
	without, with := appendState(nil, &State{Revision: 9}), appendState(nil, &State{Revision: 9, Roster: kv.Roster{Version: 1, Seats: seats(1)}})
	if !bytes.HasPrefix(with, without) || with[len(without)] != 0 {
		t.Errorf("%x is not %x, no limit, and a roster", with, without)
	}
	for cut := range with {
		if s, err := decodeState(with[:cut]); err == nil && cut != len(without) {
			t.Errorf("%d of %d bytes are a state: %+v", cut, len(with), s)
		}
	}
}
