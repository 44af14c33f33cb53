package main

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
)

// TestNextReplacement: which step comes next, wherever the command was interrupted, and what is refused.
func TestNextReplacement(t *testing.T) {
	voter := func(id uint64, name string) *pb.Member {
		return &pb.Member{ID: id, Name: name, PeerURLs: []string{"http://" + name + ":1"}}
	}
	learner := func(id uint64, name string) *pb.Member { m := voter(id, name); m.IsLearner = true; return m }
	a, b, c, n := voter(1, "n1"), voter(2, "n2"), voter(3, "n3"), voter(4, "n4")
	for _, test := range []struct {
		name string
		list []*pb.Member
		down []uint64
		old  string
		step replacementStep
		want string // in the refusal
	}{
		{name: "nothing was done", list: []*pb.Member{a, b, c}, old: "n1", step: replaceAdd},
		{name: "the old one is down", list: []*pb.Member{a, b, c}, down: []uint64{1}, old: "n1", step: replaceAdd},
		{name: "another one is down", list: []*pb.Member{a, b, c}, down: []uint64{2}, old: "n1", step: replaceAdd},
		{name: "both others are down", list: []*pb.Member{a, b, c}, down: []uint64{2, 3}, old: "n1", want: "no quorum"},
		{name: "a cluster of one", list: []*pb.Member{a}, old: "1", step: replaceAdd},
		{name: "it was added", list: []*pb.Member{a, b, c, learner(4, "n4")}, old: "n1", step: replacePromote},
		{name: "it has a vote", list: []*pb.Member{a, b, c, n}, old: "n1", step: replaceRemove},
		{name: "it has a vote, and the old one is down", list: []*pb.Member{a, b, c, n}, down: []uint64{1}, old: "n1", step: replaceRemove},
		{name: "it has a vote, and is down, as another one is", list: []*pb.Member{a, b, c, n}, down: []uint64{3, 4}, old: "n1", step: replaceAwait},
		{name: "it has a vote, and all others but the old one are down", list: []*pb.Member{a, b, c, n}, down: []uint64{2, 3, 4}, old: "n1", want: "no quorum"},
		{name: "it has a vote, and is down, and the others are enough", list: []*pb.Member{a, b, c, n}, down: []uint64{4}, old: "n1", step: replaceRemove},
		{name: "a cluster of one whose new node is down", list: []*pb.Member{a, n}, down: []uint64{4}, old: "n1", step: replaceAwait},
		{name: "the old one was removed", list: []*pb.Member{b, c, n}, old: "n1", step: replaced},
		{name: "somebody else removed the old one too early", list: []*pb.Member{b, c, learner(4, "n4")}, old: "n1", step: replacePromote},
		{name: "there is no such member", list: []*pb.Member{a, b, c}, old: "n7", want: "no member n7"},
		{name: "by itself", list: []*pb.Member{a, b, c, n}, old: "n4", want: "is not replaced"},
		{name: "a learner", list: []*pb.Member{a, learner(2, "n2")}, old: "n2", want: "has no vote"},
		{name: "addresses of two", list: []*pb.Member{a, {ID: 9, Name: "x", PeerURLs: []string{"http://n4:1", "http://x:1"}}}, old: "n1", want: "a part of --peer-urls"},
	} {
		up := map[uint64]bool{1: true, 2: true, 3: true, 4: true, 9: true}
		for _, id := range test.down {
			up[id] = false
		}
		step, _, err := nextReplacement(test.list, test.old, []string{"http://n4:1"}, up)
		if test.want == "" && (err != nil || step != test.step) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: step %d, %v", test.name, step, err)
		}
	}
}

// TestReplaceAwaits: the new node has its vote, and does not answer: the command waits for it, says so, and ends when its patience does. The old one stays. When
// the new one answers the same command goes on.
func TestReplaceAwaits(t *testing.T) {
	first, second := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xa}), startFake(t, fakeetcd.Options{MemberID: 0xb, LeaderID: 0xa})
	members := func(clientURL string) []*pb.Member {
		return []*pb.Member{
			{ID: 0xa, Name: "n1", PeerURLs: []string{"http://p1:2380"}, ClientURLs: []string{"http://" + first.Address()}},
			{ID: 0xb, Name: "n2", PeerURLs: []string{"http://p2:2380"}, ClientURLs: []string{clientURL}},
		}
	}
	replace := func() (stdout, stderr string, code int) {
		return invoke(t, []string{"QUORATE_ENDPOINTS=" + first.Address()}, "", "member", "replace", "n1", "--peer-urls=http://p2:2380", "--patience=1ms")
	}
	first.SetMembers(members("http://127.0.0.1:1"))
	stdout, stderr, code := replace()
	if code != 3 || stdout != "" || !strings.Contains(stderr, "waiting: n2 has a vote, and does not answer") || !strings.Contains(stderr, "n1 was not removed") {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	first.SetMembers(members("http://" + second.Address()))
	stdout, stderr, code = replace()
	if code != 0 || !strings.Contains(stdout, "Member b (n2) has taken the place of n1") || !strings.Contains(stderr, "removed n1 (a)") {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}
