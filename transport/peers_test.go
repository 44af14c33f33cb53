package transport

import (
	"errors"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/transport/tcpproxy"
)

// set gives a node other peers, at the addresses of the cluster.
func (c *cluster) set(t *testing.T, n *node, removed []kv.NodeID, peers ...kv.NodeID) {
	t.Helper()
	addresses := map[kv.NodeID][]string{}
	for _, id := range peers {
		addresses[id] = []string{c.proxies[id].Addr()}
	}
	if err := n.SetPeers(addresses, removed); err != nil {
		t.Fatal(err)
	}
}

// alone opens a node without peers.
func alone(o *Options) { o.Peers = nil }

func TestPeerComesAndGoes(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.open(t, 1, 11, alone), c.open(t, 2, 12)
	c.expose(t, a)
	c.expose(t, b)
	b.awaitEvent(t, "refused by 1 (2)", "member add")
	c.set(t, a, nil, 2)
	a.awaitUp(t, 2, 1)
	b.awaitUp(t, 1, 1)
	if !a.Append(2, ChannelConsensus, text("1")) {
		t.Fatal("no room")
	}
	a.Flush()
	b.await(t, "a frame", func() bool { return b.last(1) == "1:1" })
	// The same again changes nothing.
	c.set(t, a, nil, 2)

	// Node 2 goes: the connections end both ways, and it is told why it is not let in again.
	c.set(t, a, []kv.NodeID{2})
	if a.Append(2, ChannelConsensus, text("x")) {
		t.Fatal("a frame for a node that is no peer any more was taken")
	}
	a.await(t, "the end of the connection", func() bool { return slices.Equal(a.downs[2], []bool{false}) })
	b.await(t, "its end at the other side", func() bool { return len(b.downs[1]) == 1 })
	b.await(t, "the reason", func() bool {
		return slices.ContainsFunc(b.refused, func(e *RefusedError) bool { return e.Refusal == RefusalRemoved && e.Node == 1 })
	})
	if peers := a.Metrics().Peers; len(peers) != 0 {
		t.Fatalf("node 1 still has peers: %v", peers)
	}
	// It comes back as a peer although it was removed: whoever says so knows better.
	c.set(t, a, []kv.NodeID{2}, 2)
	a.awaitUp(t, 2, 2)
	b.awaitUp(t, 1, 2)
	a.recorder.mu.Lock()
	ups, downs := len(a.ups[2]), len(a.downs[2])
	a.recorder.mu.Unlock()
	if ups != 2 || downs != 1 {
		t.Fatalf("connected %d times and disconnected %d times; setting the same peers again must do nothing", ups, downs)
	}
}

// What goes on with others is not disturbed.
func TestPeerGoesAndOthersStay(t *testing.T) {
	c := newCluster(t, 3)
	var nodes []*node
	for id := range kv.NodeID(3) {
		nodes = append(nodes, c.open(t, id+1, uint64(id)+11))
		c.expose(t, nodes[id])
	}
	a := nodes[0]
	for id := range kv.NodeID(3) {
		for other := range kv.NodeID(3) {
			if id != other {
				nodes[id].awaitUp(t, other+1, 1)
			}
		}
	}
	a.note(func() { clear(a.downs) })
	c.set(t, a, nil, 3)
	a.await(t, "the end of the connection", func() bool { return len(a.downs[2]) == 1 })
	a.Append(3, ChannelConsensus, text("1"))
	a.Flush()
	nodes[2].await(t, "a frame", func() bool { return nodes[2].last(1) == "1:1" })
	a.recorder.mu.Lock()
	defer a.recorder.mu.Unlock()
	if len(a.ups[3]) != 1 || len(a.downs[3]) != 0 {
		t.Fatalf("node 3: connected %d times, disconnected %d times", len(a.ups[3]), len(a.downs[3]))
	}
}

func TestPeerMoves(t *testing.T) {
	c, a, b := pair(t)
	other, err := tcpproxy.New(b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	// One address more does not break the connection that there is.
	if err := a.SetPeers(map[kv.NodeID][]string{2: {other.Addr(), c.proxies[2].Addr()}}, nil); err != nil {
		t.Fatal(err)
	}
	if peers := a.Metrics().Peers; !peers[0].Connected {
		t.Fatal("the connection broke")
	}
	if err := a.SetPeers(map[kv.NodeID][]string{2: {other.Addr()}}, nil); err != nil {
		t.Fatal(err)
	}
	a.awaitEvent(t, "disconnected", "has other addresses")
	a.awaitUp(t, 2, 2)
	c.proxies[2].Refuse() // the way that was before
	a.Append(2, ChannelConsensus, text("1"))
	a.Flush()
	b.await(t, "a frame on the new way", func() bool { return b.last(1) == "1:1" })
}

// The hosts that a certificate has to speak for are those of the peer's present addresses.
func TestPeerMovesWithTLS(t *testing.T) {
	authority := newAuthority(t)
	c := newCluster(t, 2)
	a := c.open(t, 1, 11, secureBy(t, authority, "127.0.0.1"), func(o *Options) { o.Peers = map[kv.NodeID][]string{2: {"elsewhere.invalid:1"}} })
	b := c.open(t, 2, 12, secureBy(t, authority, "127.0.0.1"))
	c.expose(t, a)
	c.expose(t, b)
	b.awaitEvent(t, "refused by 1 (9)", "does not prove that it is node")
	c.set(t, a, nil, 2)
	a.awaitUp(t, 2, 1)
	b.awaitUp(t, 1, 1)
}

func TestSetPeersRefuses(t *testing.T) {
	c := newCluster(t, 2)
	a := c.open(t, 1, 11)
	for what, peers := range map[string]map[kv.NodeID][]string{
		"itself": {1: {"127.0.0.1:1"}}, "no address": {2: nil}, "no port": {2: {"127.0.0.1"}}, "no node": {0: {"127.0.0.1:1"}},
	} {
		if err := a.SetPeers(peers, nil); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if peers := a.Metrics().Peers; len(peers) != 1 || peers[0].Node != 2 {
		t.Errorf("the peers are %v", peers)
	}
	_ = a.Close()
	if err := a.SetPeers(nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
