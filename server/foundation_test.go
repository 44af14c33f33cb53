package server

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/transport"
)

func someList(version uint64) *members.List {
	return &members.List{Version: version, Members: []members.Member{
		{ID: 3, Name: "a", PeerURLs: []string{"http://h:1"}, First: 1}, {ID: 7, Name: "b", PeerURLs: []string{"http://h:2", "https://h:3"}, Learner: true}}, Removed: []kv.NodeID{5}}
}

func TestWhatNodesTellOfMembers(t *testing.T) {
	founders := []kv.NodeRecord{{ID: 3}, {ID: 5}}
	for _, version := range []uint64{0, 1, math.MaxUint64} {
		told := appendTold(nil, founders, someList(version))
		gotFounders, list, err := decodeTold(told)
		if err != nil || !reflect.DeepEqual(gotFounders, founders) || list.Version != version || list.Member(7) == nil || !list.WasRemoved(5) {
			t.Errorf("version %d: %v %+v %v", version, gotFounders, list, err)
		}
		for n := range told {
			if _, _, err := decodeTold(told[:n]); err == nil {
				t.Errorf("%d of %d bytes were understood", n, len(told))
			}
		}
	}
	if _, _, err := decodeTold(appendTold(nil, []kv.NodeRecord{{ID: 5}, {ID: 3}}, someList(1))); err == nil {
		t.Error("founders in disorder were taken")
	}
}

func FuzzTold(f *testing.F) {
	f.Add(appendTold(nil, []kv.NodeRecord{{ID: 3}}, someList(0)))
	f.Add(appendTold(nil, []kv.NodeRecord{{ID: 3}, {ID: 9}}, someList(4)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, told []byte) {
		founders, list, err := decodeTold(told)
		if err != nil {
			return
		}
		again, same, err := decodeTold(appendTold(nil, founders, list))
		if err != nil || !reflect.DeepEqual(again, founders) || !reflect.DeepEqual(same, list) {
			t.Fatalf("%v %+v became %v %+v: %v", founders, list, again, same, err)
		}
	})
}

func FuzzMembersMessage(f *testing.F) {
	for _, m := range []membersMessage{{kind: membersVersion, version: 7}, {kind: membersQuestion, instance: 1, id: 2},
		{kind: membersAnswer, instance: 1, id: 300, applied: map[kv.ShardID]uint64{1: 5, 400: 1 << 40}}} {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := decodeMembersMessage(in)
		if err != nil {
			return
		}
		if again, err := decodeMembersMessage(m.append(nil)); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v became %+v: %v", m, again, err)
		}
	})
}

// What a node does about an answer to its question who the members are.
func TestJoin(t *testing.T) {
	options := Options{Node: NodeOptions{Name: "b", DataDir: t.TempDir(), InitialClusterState: ClusterExisting, ListenPeerURLs: []URL{{Host: "127.0.0.1", Port: 2}},
		AdvertisePeerURLs: []URL{{Host: "h", Port: 3}, {Host: "h", Port: 2, TLS: true}}}, Cluster: ClusterOptions{
		Members: []Member{{Name: "a", PeerURLs: []URL{{Host: "h", Port: 1}}}, {Name: "b", PeerURLs: []URL{{Host: "h", Port: 2}, {Host: "h", Port: 3}}}}}}.WithDefaults()
	answer := func(change func(*transport.Answer)) *transport.Answer {
		a := &transport.Answer{Cluster: 9, Node: 3, Name: "a", Metadata: options.Cluster.metadata(), List: appendTold(nil, []kv.NodeRecord{{ID: 3}, {ID: 5}}, someList(4))}
		if change != nil {
			change(a)
		}
		return a
	}
	f, err := options.foundationFrom(answer(nil))
	if err != nil || f.cluster != 9 || f.self != 7 || !f.added || len(f.founders) != 2 || f.list.Version != 4 {
		t.Errorf("a node that was added: %+v %v", f, err)
	}
	f, err = options.foundationFrom(answer(func(a *transport.Answer) { a.List = appendTold(nil, []kv.NodeRecord{{ID: 3}, {ID: 7}}, someList(0)) }))
	if err != nil || f.added || f.self != 7 || !reflect.DeepEqual(f.founders, f.list.Records()) {
		t.Errorf("one that the cluster began with: %+v %v", f, err)
	}
	for what, c := range map[string]struct {
		change func(*transport.Answer)
		says   string
	}{
		"another protocol": {func(a *transport.Answer) { a.Metadata = []byte("paxos") }, "--consensus"},
		"cut":              {func(a *transport.Answer) { a.List = a.List[:len(a.List)-1] }, "malformed"},
		"not a member": {func(a *transport.Answer) {
			a.List = appendTold(nil, []kv.NodeRecord{{ID: 3}}, &members.List{Version: 1, Members: someList(1).Members[:1]})
		}, "error validating peerURLs"},
		"an older version of another cluster": {func(a *transport.Answer) { a.List = nil }, "upgrade it first"},
	} {
		if f, err := options.foundationFrom(answer(c.change)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v %v", what, f, err)
		}
	}
	f, err = options.foundationFrom(answer(func(a *transport.Answer) { a.List, a.Cluster = nil, options.Cluster.computedID() }))
	if f != nil || err != nil {
		t.Errorf("an older version: %+v %v; it is what --initial-cluster says", f, err)
	}
}

// A node that was added asks all others. One that lags behind has not heard of it; the newest list counts, whoever is asked first.
func TestJoinByTheNewestList(t *testing.T) {
	options := Options{Node: NodeOptions{Name: "b", DataDir: t.TempDir(), InitialClusterState: ClusterExisting, ListenPeerURLs: []URL{{Host: "127.0.0.1", Port: 2}},
		AdvertisePeerURLs: []URL{{Host: "h", Port: 3}, {Host: "h", Port: 2, TLS: true}}}, Cluster: ClusterOptions{
		Members: []Member{{Name: "a", PeerURLs: []URL{{Host: "h", Port: 1}}}, {Name: "b", PeerURLs: []URL{{Host: "h", Port: 2}, {Host: "h", Port: 3}}}}}}.WithDefaults()
	answer := func(version uint64, memberToo bool) *transport.Answer {
		list := someList(version)
		if !memberToo {
			list.Members = list.Members[:1]
		}
		return &transport.Answer{Cluster: 9, Node: 3, Name: "a", Metadata: options.Cluster.metadata(), List: appendTold(nil, []kv.NodeRecord{{ID: 3}, {ID: 5}}, list)}
	}
	old, newest, older := answer(3, false), answer(4, true), &transport.Answer{Cluster: 9, Node: 4, Name: "c"} // the last one is of a version without lists
	for _, answers := range [][]*transport.Answer{{old, newest}, {newest, old}, {older, old, newest}, {newest, older}} {
		joined, err := options.judgeAnswers(answers)
		if f := joined.Cluster.recalled; err != nil || f == nil || f.self != 7 || f.list.Version != 4 {
			t.Errorf("%d answers: %+v, %v", len(answers), f, err)
		}
	}
	if _, err := options.judgeAnswers([]*transport.Answer{answer(4, true), answer(5, false)}); err == nil || !strings.Contains(err.Error(), "error validating peerURLs") {
		t.Errorf("removed again: %v", err)
	}
	foreign := answer(9, true)
	foreign.Cluster = 10
	if _, err := options.judgeAnswers([]*transport.Answer{newest, foreign}); err == nil || !strings.Contains(err.Error(), "name nodes of one cluster") {
		t.Errorf("nodes of two clusters: %v", err)
	}
	if joined, err := options.judgeAnswers(nil); err != nil || joined.Cluster.recalled != nil {
		t.Errorf("nobody answered: %+v, %v", joined.Cluster.recalled, err)
	}
}

// What the data directory remembers counts, and --initial-cluster only for what the former does not say.
func TestRecall(t *testing.T) {
	options := Options{Node: NodeOptions{Name: "a", DataDir: t.TempDir()}, Cluster: ClusterOptions{Token: "t",
		Members: []Member{{Name: "a", PeerURLs: []URL{{Host: "h", Port: 1}}}, {Name: "b", PeerURLs: []URL{{Host: "h", Port: 2}}}}}}.WithDefaults()
	founded := options.foundation()
	write := func(f *foundation) {
		t.Helper()
		dir := datadir.Dir{Path: options.Node.DataDir}
		if err := dir.WriteMembers(f.members()); err != nil {
			t.Fatal(err)
		}
	}
	recall := func(o Options) *foundation {
		t.Helper()
		o, err := o.Recall()
		if err != nil {
			t.Fatal(err)
		}
		return o.foundation()
	}
	if f := recall(options); !reflect.DeepEqual(f, founded) {
		t.Errorf("an empty directory: %+v", f)
	}
	write(founded)
	if f := recall(options); !reflect.DeepEqual(f, founded) {
		t.Errorf("the first restart: %+v, not %+v", f, founded)
	}
	other := options
	other.Cluster.Token, other.Cluster.Members = "u", other.Cluster.Members[:1]
	if f := recall(other); f.cluster != founded.cluster || f.self != founded.self || len(f.founders) != 2 || f.founders[0].Name == "" {
		t.Errorf("another --initial-cluster: %+v", f)
	}
	withTLS := options
	withTLS.Cluster.Members = cloneMembers(options.Cluster.Members)
	for i := range withTLS.Cluster.Members {
		withTLS.Cluster.Members[i].PeerURLs[0].TLS = true
	}
	if f := recall(withTLS); f.cluster != founded.cluster || f.founders[0].PeerURLs[0][:8] != "https://" {
		t.Errorf("a cluster that takes to TLS: %+v", f)
	}
	changed := *founded
	changed.list = someList(4)
	write(&changed)
	f := recall(options)
	if f.list.Version != 4 || !slices.Equal(f.nodes(), slices.Sorted(slices.Values([]kv.NodeID{3, 7, f.self}))) || !reflect.DeepEqual(f.founders, founded.founders) {
		t.Errorf("after changes: %+v", f)
	}
	changed.removed = true
	write(&changed)
	if _, err := options.settle(t.Context()); !errors.Is(err, errRemoved) {
		t.Errorf("a node that was removed: %v", err)
	}
}

func TestRosterKeepsWhatIsNeeded(t *testing.T) {
	list := &members.List{Members: []members.Member{{ID: 1, PeerURLs: []string{"http://h:1"}}, {ID: 2, PeerURLs: []string{"http://h:2"}}, {ID: 3, PeerURLs: []string{"http://h:3"}}}}
	r := newRoster(&foundation{self: 1, founders: []kv.NodeRecord{{ID: 1}}, list: list})
	addresses := func() (texts []string) {
		for _, a := range r.peers() {
			texts = append(texts, a...)
		}
		slices.Sort(texts)
		return texts
	}
	want := func(what string, texts ...string) {
		t.Helper()
		if got := addresses(); !slices.Equal(got, texts) {
			t.Errorf("%s: the peers are %v, not %v", what, got, texts)
		}
	}
	want("at the start", "h:2", "h:3")
	// Node 3 is no member any more, 4 is one: the driver still needs 3, and does not know 4 yet.
	next := &members.List{Version: 1, Members: []members.Member{list.Members[0], list.Members[1], {ID: 4, PeerURLs: []string{"http://h:4", "no URL", "unix:///x"}}}, Removed: []kv.NodeID{3}}
	hosts := []string{}
	prove := func(h []string) error { hosts = h; return nil }
	if err := r.Told(9, appendTold(nil, r.founders, next), prove); err == nil {
		t.Error("a list was taken from somebody who is not in it")
	}
	if err := r.Told(4, appendTold(nil, r.founders, next), func([]string) error { return errors.New("no") }); err == nil || r.newest() != list {
		t.Error("a list was taken from somebody who does not prove who it is")
	}
	if err := r.Told(4, appendTold(nil, r.founders, next), prove); err != nil || r.newest().Version != 1 || !slices.Equal(hosts, []string{"h", ""}) {
		t.Errorf("version %d, hosts %q: %v", r.newest().Version, hosts, err)
	}
	want("with a newer list", "h:2", "h:3", "h:4")
	r.need([]kv.NodeID{1, 2, 4})
	want("when 3 is not needed any more", "h:2", "h:4")
	r.offer(list)
	want("an older list changes nothing", "h:2", "h:4")
	named := *next
	named.Members = slices.Clone(next.Members)
	named.Members[2].Name = "d"
	r.applied(&named)
	if got := r.newest().Member(4).Name; got != "d" {
		t.Errorf("node 4 is called %q", got)
	}
}
