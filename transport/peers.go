package transport

import (
	"context"
	"fmt"
	"maps"
	"math/rand"
	"net"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// table is who the peers are at a moment. It never changes; SetPeers makes another one.
type table struct {
	byID    map[kv.NodeID]*peer
	ordered []*peer // ascending by id
	removed map[kv.NodeID]bool
}

// standing is what a node is to this one.
type standing uint8

const (
	standingUnknown standing = iota
	standingPeer
	standingRemoved // it was a member once, and will never be one again
)

func (t *table) standing(node kv.NodeID) standing {
	switch {
	case t.byID[node] != nil:
		return standingPeer
	case t.removed[node]:
		return standingRemoved
	}
	return standingUnknown
}

// validatePeers tells what is wrong with addresses of peers.
func validatePeers(self kv.NodeID, peers map[kv.NodeID][]string) error {
	for id, addresses := range peers {
		if id == self || id == 0 {
			return fmt.Errorf("transport: node %s cannot be its own peer", id)
		}
		if len(addresses) == 0 {
			return fmt.Errorf("transport: node %s has no address (--initial-cluster)", id)
		}
		for _, address := range addresses {
			if _, _, err := net.SplitHostPort(address); err != nil {
				return fmt.Errorf("transport: address of node %s is not host:port (--initial-cluster): %w", id, err)
			}
		}
	}
	return nil
}

// SetPeers says who the peers are from now on, with their addresses, and which nodes were removed for ever. It connects to those that are new. The
// connections with one that is not among them any more end, and PeerDown is called for it. A peer whose addresses are others is
// connected to again, unless its connection goes to one of them. A caller among the removed that is no peer is refused with RefusalRemoved.
//
// It may be called from the handler, and does not wait for anything that is to end.
func (t *Transport) SetPeers(peers map[kv.NodeID][]string, removed []kv.NodeID) error {
	if err := validatePeers(t.options.Self, peers); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return ErrClosed
	}
	before := t.peers.Load()
	after := t.newTable(before, peers, removed)
	t.peers.Store(after)
	for _, p := range before.ordered {
		if after.byID[p.id] == nil {
			t.endPeer(p)
		}
	}
	return nil
}

// newTable takes peers over that stay, and starts those that are new. Under mu.
func (t *Transport) newTable(before *table, peers map[kv.NodeID][]string, removed []kv.NodeID) *table {
	after := &table{byID: map[kv.NodeID]*peer{}, removed: map[kv.NodeID]bool{}}
	for _, id := range removed {
		after.removed[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		p := before.byID[id]
		if p == nil {
			p = t.startPeer(id, peers[id])
		} else {
			p.setAddresses(peers[id])
		}
		after.byID[id] = p
		after.ordered = append(after.ordered, p)
	}
	return after
}

// startPeer begins to connect to a node. What was the same node before has to have ended by then. Under mu.
func (t *Transport) startPeer(id kv.NodeID, addresses []string) *peer {
	p := newPeer(t, id, addresses, rand.New(rand.NewSource(t.options.Seed^int64(id))))
	before := t.ending[id]
	t.done.Go(func() {
		defer p.cancel()
		defer close(p.ended)
		if before != nil {
			<-before // PeerUp and PeerDown of a node come one after the other
		}
		p.run()
	})
	return p
}

// endPeer ends what goes on with a node. Under mu.
func (t *Transport) endPeer(p *peer) {
	p.cancel()
	t.ending[p.id] = p.ended
	t.done.Go(func() {
		<-p.ended
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ending[p.id] == p.ended {
			delete(t.ending, p.id)
		}
	})
	delete(t.heard, p.id)
	if in := t.inbound[p.id]; in != nil {
		_ = in.conn.Close() // its goroutine finds out
	}
}

// setAddresses is for the attempts to connect that come; a connection to another address ends.
func (p *peer) setAddresses(addresses []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.addresses, addresses) {
		return
	}
	p.addresses = slices.Clone(addresses)
	if p.out != nil && !slices.Contains(addresses, p.out.address) {
		p.out.fail(fmt.Errorf("transport: node %s has other addresses now than %s", p.id, p.out.address))
	}
}

// hosts are those that the peer's certificate must speak for one of.
func (p *peer) hosts() (hosts []string) {
	for _, address := range p.where() {
		host, _, _ := net.SplitHostPort(address) // validated
		hosts = append(hosts, host)
	}
	return hosts
}

// where are the addresses of the peer. Nobody changes them in place.
func (p *peer) where() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses
}

func newPeer(t *Transport, id kv.NodeID, addresses []string, random *rand.Rand) *peer {
	p := &peer{t: t, id: id, addresses: slices.Clone(addresses), random: random, kick: make(chan struct{}, 1), ended: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	return p
}
