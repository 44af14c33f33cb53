package gateway

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// Dialect is what another node understands of the gateway's frames.
type Dialect = link.Dialect

// peers are the other nodes to which there is a connection, and what they understand. Whoever asks takes no lock.
type peers struct {
	mu       sync.Mutex // of who changes them
	dialects atomic.Pointer[map[kv.NodeID]Dialect]
}

// up tells that there is a connection to a node, and what it understands.
func (p *peers) up(node kv.NodeID, dialect Dialect) {
	p.change(func(all map[kv.NodeID]Dialect) { all[node] = dialect })
}

// down tells that the node may come back as an older version.
func (p *peers) down(node kv.NodeID) {
	p.change(func(all map[kv.NodeID]Dialect) { delete(all, node) })
}

func (p *peers) change(how func(map[kv.NodeID]Dialect)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[kv.NodeID]Dialect{}
	if now := p.dialects.Load(); now != nil {
		all = maps.Clone(*now)
	}
	how(all)
	p.dialects.Store(&all)
}

// connected tells whether there is a connection to the node.
func (p *peers) connected(node kv.NodeID) bool {
	all := p.dialects.Load()
	if all == nil {
		return false
	}
	_, up := (*all)[node]
	return up
}

// understands tells what the node does; nothing beyond the oldest form of frames as long as nobody has said so.
func (p *peers) understands(node kv.NodeID) Dialect {
	all := p.dialects.Load()
	if all == nil {
		return Dialect{}
	}
	return (*all)[node]
}
