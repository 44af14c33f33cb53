package members

import (
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestFit: what has to be found out before a change, in which order, and what is refused.
func TestFit(t *testing.T) {
	list := Founded([]kv.NodeRecord{{ID: 1, Name: "a", PeerURLs: []string{"http://a:1"}}, {ID: 2, Name: "b", PeerURLs: []string{"http://b:1"}}})
	list = list.next()
	list.Members = append(list.Members, Member{ID: 3, PeerURLs: []string{"http://c:1"}, Learner: true}) // never started
	nobody := func() Connections {
		no := func(kv.NodeID) bool { return false }
		return Connections{Self: 1, Up: no, Steady: no}
	}
	add := kv.MemberRequest{Action: kv.MemberAdd, ID: 4, PeerURLs: []string{"http://d:1"}}
	promote := kv.MemberRequest{Action: kv.MemberPromote, ID: 3}
	for _, c := range []struct {
		name    string
		request kv.MemberRequest
		found   Findings
		lack    Lack
		err     error
	}{
		{"add", add, Findings{}, LacksSettled, nil},
		{"add, settled", add, Findings{Settled: Holds}, LacksNothing, nil},
		{"add, unsettled", add, Findings{Settled: Fails}, LacksNothing, kv.ErrUnhealthy},
		{"add, strictly", add, Findings{Settled: Holds, Strict: nobody}, LacksNothing, kv.ErrUnhealthy},
		{"add, an address that is taken", kv.MemberRequest{Action: kv.MemberAdd, ID: 4, PeerURLs: []string{"http://a:1"}}, Findings{}, LacksNothing, kv.ErrPeerURLExists},
		{"promote", promote, Findings{}, LacksInSync, nil},
		{"promote, behind", promote, Findings{InSync: Fails}, LacksNothing, kv.ErrLearnerNotReady},
		{"promote, in sync", promote, Findings{InSync: Holds}, LacksSettled, nil},
		{"promote, all", promote, Findings{InSync: Holds, Settled: Holds}, LacksNothing, nil},
		{"promote a voter", kv.MemberRequest{Action: kv.MemberPromote, ID: 2}, Findings{}, LacksNothing, kv.ErrMemberNotLearner},
		{"remove", kv.MemberRequest{Action: kv.MemberRemove, ID: 2}, Findings{}, LacksSettled, nil},
		{"remove one that never started", kv.MemberRequest{Action: kv.MemberRemove, ID: 3}, Findings{Settled: Fails}, LacksNothing, nil},
		{"remove nobody", kv.MemberRequest{Action: kv.MemberRemove, ID: 9}, Findings{}, LacksNothing, kv.ErrMemberNotFound},
	} {
		c.request.Version = list.Version
		if lack, err := list.Fit(&c.request, c.found); lack != c.lack || !errors.Is(err, c.err) {
			t.Errorf("%s: lacks %d, %v; want %d, %v", c.name, lack, err, c.lack, c.err)
		}
	}
	if Found(true) != Holds || Found(false) != Fails {
		t.Error("findings")
	}
}

func TestBehind(t *testing.T) {
	there := map[kv.ShardID]uint64{1: 5, 2: 7}
	for _, c := range []struct {
		applied map[kv.ShardID]uint64
		behind  bool
	}{
		{map[kv.ShardID]uint64{1: 5, 2: 7}, false}, {map[kv.ShardID]uint64{1: 9, 2: 8, 3: 1}, false},
		{map[kv.ShardID]uint64{1: 5, 2: 6}, true}, {map[kv.ShardID]uint64{1: 9}, true}, {nil, true},
	} {
		if Behind(there, c.applied) != c.behind {
			t.Errorf("%v: want %v", c.applied, c.behind)
		}
	}
}

func TestSupersedes(t *testing.T) {
	for _, c := range []struct {
		heard, known      uint64
		toldBy, appliedBy bool
	}{{0, 0, false, false}, {1, 0, true, true}, {1, 1, false, true}, {1, 2, false, false}} {
		heard, known := &List{Version: c.heard}, &List{Version: c.known}
		if heard.Supersedes(known, false) != c.toldBy || heard.Supersedes(known, true) != c.appliedBy {
			t.Errorf("%+v", c)
		}
	}
}
