package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestDerivedIDs: the wanted IDs were computed by etcd 3.7.3 itself
// (membership.NewClusterFromURLsMap).
func TestDerivedIDs(t *testing.T) {
	for _, c := range []struct {
		cluster string
		id      string
		nodes   map[string]string
	}{
		{"default=http://localhost:2380", "cdf818194e3a8c32", map[string]string{"default": "8e9e05c52164694d"}},
		{"c=http://127.0.0.1:32380,a=http://127.0.0.1:2380,b=http://127.0.0.1:22380", "66d3a070bf89b39",
			map[string]string{"c": "628170c800dbcee", "b": "9e737febb6b99eee", "a": "b71f75320dc06a6c"}},
		{"m0=http://10.0.0.1:2381,m0=http://10.0.0.1:2380,m1=http://n2.example.org:2380", "abc3a885ead46329",
			map[string]string{"m1": "80d13398848b4344", "m0": "9f89eae476ac1a04"}},
	} {
		members, err := ParseMembers(c.cluster)
		if err != nil {
			t.Fatal(err)
		}
		cluster := ClusterOptions{Members: members, Token: DefaultToken}
		if got := cluster.ID().String(); got != c.id {
			t.Errorf("%s: cluster ID %s, want %s", c.cluster, got, c.id)
		}
		for _, m := range members {
			if got := m.ID(DefaultToken).String(); got != c.nodes[m.Name] {
				t.Errorf("%s: ID of %s is %s, want %s", c.cluster, m.Name, got, c.nodes[m.Name])
			}
		}
		if other := (ClusterOptions{Members: members, Token: "other"}); other.ID() == cluster.ID() {
			t.Errorf("%s: the token does not change the cluster's ID", c.cluster)
		}
	}
}

func TestDefaultsAreValidAndCopied(t *testing.T) {
	given := Options{Cluster: ClusterOptions{Members: []Member{{Name: "default", PeerURLs: []URL{{Host: "localhost", Port: DefaultPeerPort}}}}}}
	options := given.WithDefaults()
	if err := options.Validate(); err != nil {
		t.Fatal(err)
	}
	if options.NodeID() != kv.NodeID(0x8e9e05c52164694d) {
		t.Errorf("node ID %s", options.NodeID())
	}
	options.Cluster.Members[0].PeerURLs[0].Port = 1
	if given.Cluster.Members[0].PeerURLs[0].Port != DefaultPeerPort {
		t.Error("WithDefaults shares memory with what it was given")
	}
	if err := (Options{}).Validate(); err == nil {
		t.Error("options without defaults are valid")
	}
	if id := (Options{}).NodeID(); id != 0 {
		t.Errorf("node ID of nobody: %s", id)
	}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"name not in cluster":  {func(o *Options) { o.Node.Name = "x" }, "not in --initial-cluster"},
		"name is not text":     {func(o *Options) { o.Node.Name = "\xff" }, "not UTF-8"},
		"other peer URL":       {func(o *Options) { o.Node.AdvertisePeerURLs = []URL{{Host: "127.0.0.1", Port: DefaultPeerPort}} }, "does not match --initial-cluster"},
		"duplicate URL":        {func(o *Options) { o.Node.ListenPeerURLs = []URL{{Host: "::1", Port: 1}, {Host: "::1", Port: 1}} }, "names http://[::1]:1 twice"},
		"no listener":          {func(o *Options) { o.Node.ListenPeerURLs = nil }, "--listen-peer-urls is empty"},
		"empty host":           {func(o *Options) { o.Node.ListenPeerURLs = []URL{{Port: 1}} }, "0.0.0.0"},
		"metrics on peer port": {func(o *Options) { o.Node.ListenMetricsURLs = o.Node.ListenPeerURLs }, "both name"},
		"snapshot count":       {func(o *Options) { o.Node.SnapshotCount = 0 }, "--snapshot-count"},
		"state":                {func(o *Options) { o.Node.InitialClusterState = "x" }, "--initial-cluster-state"},
		"progress":             {func(o *Options) { o.Node.WatchProgressNotifyInterval = -1 }, "--watch-progress"},
		"streams":              {func(o *Options) { o.Node.MaxConcurrentStreams = 0 }, "--max-concurrent-streams"},
		"consensus":            {func(o *Options) { o.Cluster.Consensus = "zab" }, "must be"},
		"heartbeat":            {func(o *Options) { o.Cluster.HeartbeatInterval = -1 }, "--heartbeat-interval"},
		"election":             {func(o *Options) { o.Cluster.ElectionTimeout = 499 * time.Millisecond }, "at least 5 times"},
		"long election":        {func(o *Options) { o.Cluster.ElectionTimeout = time.Minute }, "at most 50s"},
		"duplicate member":     {func(o *Options) { o.Cluster.Members = append(o.Cluster.Members, o.Cluster.Members[0]) }, "name of its own"},
		"duplicate peer URL": {func(o *Options) {
			o.Cluster.Members = append(o.Cluster.Members, Member{"b", o.Cluster.Members[0].PeerURLs})
		}, "twice (default and b)"},
	} {
		options := Options{}.WithDefaults()
		c.change(&options)
		err := options.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrBadOptions) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestQuorums(t *testing.T) {
	five, err := ParseMembers("default=http://localhost:2380,b=http://b:1,c=http://c:1,d=http://d:1,e=http://e:1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		protocol Consensus
		quorums  Quorums
		want     string // empty: no objection
		text     string // of the protocol
	}{
		"majorities":       {ConsensusPaxos, Quorums{}, "", "paxos"},
		"raft":             {ConsensusRaft, Quorums{}, "", "raft"},
		"small second":     {ConsensusPaxos, Quorums{4, 2}, "", "paxos (phase-1 quorum 4, phase-2 quorum 2)"},
		"small first":      {ConsensusPaxos, Quorums{2, 4}, "", "paxos (phase-1 quorum 2, phase-2 quorum 4)"},
		"one is enough":    {ConsensusPaxos, Quorums{5, 1}, "", "paxos (phase-1 quorum 5, phase-2 quorum 1)"},
		"only the first":   {ConsensusPaxos, Quorums{Phase1: 5}, "", "paxos (phase-1 quorum 5, phase-2 quorum majority)"},
		"they do not meet": {ConsensusPaxos, Quorums{3, 2}, "--paxos-phase1-quorum=4 with --paxos-phase2-quorum=2", ""},
		"a lone second":    {ConsensusPaxos, Quorums{Phase2: 2}, "need not have a node in common", ""},
		"more than all":    {ConsensusPaxos, Quorums{6, 2}, "has only 5 nodes", ""},
		"second too large": {ConsensusPaxos, Quorums{3, 6}, "--paxos-phase2-quorum=6", ""},
		"negative":         {ConsensusPaxos, Quorums{-1, 5}, "above 0", ""},
		"with raft":        {ConsensusRaft, Quorums{4, 2}, "with raft every quorum is a majority", ""},
	} {
		options := Options{Cluster: ClusterOptions{Members: five, Consensus: c.protocol, Quorums: c.quorums}}.WithDefaults()
		err := options.Validate()
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrBadOptions)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if c.text != "" && options.Cluster.Protocol() != c.text {
			t.Errorf("%s: it is called %s", name, options.Cluster.Protocol())
		}
	}
}

// TestJudgePeer: nodes that count different quorums never talk.
func TestJudgePeer(t *testing.T) {
	own := ClusterOptions{Consensus: ConsensusPaxos, Quorums: Quorums{4, 2}}
	if why := own.judgePeer([]byte(own.Protocol())); why != "" {
		t.Errorf("a node like this one is refused: %s", why)
	}
	for _, other := range []ClusterOptions{{Consensus: ConsensusPaxos}, {Consensus: ConsensusRaft}, {Consensus: ConsensusPaxos, Quorums: Quorums{2, 4}}} {
		if why := own.judgePeer([]byte(other.Protocol())); !strings.Contains(why, other.Protocol()) || !strings.Contains(why, own.Protocol()) {
			t.Errorf("%s: %q", other.Protocol(), why)
		}
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add("a=http://10.0.0.1:2380,b=http://[::1]:1")
	f.Add("a=http://x:1,a=http://y:2,,")
	f.Fuzz(func(t *testing.T, text string) {
		members, err := ParseMembers(text)
		if err != nil {
			return
		}
		again, err := ParseMembers(FormatMembers(members))
		if err != nil || FormatMembers(again) != FormatMembers(members) {
			t.Fatalf("%q: %v does not read back: %v, %v", text, members, again, err)
		}
	})
}
