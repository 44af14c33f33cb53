package placement

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Policy says which nodes should lead.
type Policy uint8

// Policies.
const (
	Gathered Policy = iota + 1
	Spread
)

// Options of a Core.
type Options struct {
	Self   kv.NodeID
	Nodes  []kv.NodeID // of the cluster, in the same order everywhere
	Shards []kv.ShardID
	Policy Policy
	// Settle is how long nothing may have changed before anything is moved.
	Settle time.Duration
	// Rest is for how long a shard that could not be moved to a node is not moved there again.
	Rest time.Duration
	// MaxMoves is how many shards are moved at a time.
	MaxMoves int
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case !slices.Contains(o.Nodes, o.Self):
		return fmt.Errorf("placement: node %v is not among the nodes of the cluster %v", o.Self, o.Nodes)
	case !slices.Contains(o.Shards, kv.SystemShard):
		return errors.New("placement: the system shard is missing")
	case o.Policy != Gathered && o.Policy != Spread:
		return fmt.Errorf("placement: there is no policy %d", o.Policy)
	case o.Settle <= 0 || o.Rest <= 0 || o.MaxMoves < 1:
		return errors.New("placement: the times and the number of moves must be above 0")
	}
	return nil
}

// Move is a shard whose leadership should go to another node.
type Move struct {
	Shard kv.ShardID
	To    kv.NodeID
}

// Core decides for one node.
type Core struct {
	options Options
	shards  map[kv.ShardID]*shard
	peers   map[kv.NodeID]peer // the other nodes
	changed time.Duration      // when anything did last
	moving  int                // moves that have not ended
}

// peer is another node.
type peer struct {
	reachable bool // there is a connection to it
	changed   time.Duration
}

// shard is what is known of one.
type shard struct {
	leader  kv.NodeID // 0: nobody knows
	changed time.Duration
	moving  bool
	// resting are the nodes that it could not be moved to, and until when it is not tried again.
	resting map[kv.NodeID]time.Duration
}

// New returns a core that knows of no leader and reaches nobody.
func New(options Options, now time.Duration) (*Core, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	c := &Core{options: options, shards: make(map[kv.ShardID]*shard), peers: make(map[kv.NodeID]peer), changed: now}
	for _, id := range options.Shards {
		c.shards[id] = &shard{changed: now}
	}
	return c, nil
}

// Leader tells which node leads a shard, as far as this node knows; 0: none.
func (c *Core) Leader(now time.Duration, id kv.ShardID, leader kv.NodeID) {
	if s := c.shards[id]; s != nil && s.leader != leader {
		s.leader, s.changed, s.resting = leader, now, nil
		c.changed = now
	}
}

// Reachable tells whether there is a connection to another node.
func (c *Core) Reachable(now time.Duration, node kv.NodeID, reachable bool) {
	if c.peers[node].reachable != reachable {
		c.peers[node] = peer{reachable, now}
		c.changed = now
	}
}

// Ended tells that a move that Moves returned is over, with success or not.
func (c *Core) Ended(now time.Duration, m Move, moved bool) {
	s := c.shards[m.Shard]
	if s == nil || !s.moving {
		return
	}
	s.moving = false
	c.moving--
	if moved {
		s.changed, c.changed = now, now // who leads now is about to be heard
		return
	}
	if s.resting == nil {
		s.resting = make(map[kv.NodeID]time.Duration)
	}
	s.resting[m.To] = now + c.options.Rest
}

// Moves returns what should be moved now. Ended must follow for each.
func (c *Core) Moves(now time.Duration) []Move {
	if c.moving > 0 {
		return nil
	}
	var moves []Move
	if c.options.Policy == Gathered {
		moves = c.gather(now)
	} else {
		moves = c.spread(now)
	}
	for _, m := range moves {
		c.shards[m.Shard].moving = true
	}
	c.moving = len(moves)
	return moves
}

// gather moves what is led here to where the system shard is led.
func (c *Core) gather(now time.Duration) (moves []Move) {
	system := c.shards[kv.SystemShard]
	to := system.leader
	if to == 0 || to == c.options.Self || !c.settled(now, system.changed) || !c.settled(now, c.peers[to].changed) {
		return nil
	}
	for _, id := range c.options.Shards {
		if len(moves) < c.options.MaxMoves && c.settled(now, c.shards[id].changed) && c.mayMove(now, id, to) {
			moves = append(moves, Move{id, to})
		}
	}
	return moves
}

// spread moves from here, if nobody leads more, to those that lead the fewest.
func (c *Core) spread(now time.Duration) (moves []Move) {
	if !c.settled(now, c.changed) {
		return nil
	}
	count := make(map[kv.NodeID]int)
	for _, s := range c.shards {
		count[s.leader]++
	}
	for _, id := range c.options.Shards {
		if len(moves) == c.options.MaxMoves || c.most(count) != c.options.Self {
			break
		}
		if to := c.fewest(now, id, count); to != 0 {
			count[c.options.Self]--
			count[to]++
			moves = append(moves, Move{id, to})
		}
	}
	return moves
}

// settled tells whether what changed at some time has not for long enough.
func (c *Core) settled(now, changed time.Duration) bool { return now-changed >= c.options.Settle }

// most is the node that leads the most of those that can be reached, the first of them.
func (c *Core) most(count map[kv.NodeID]int) (most kv.NodeID) {
	for _, node := range c.options.Nodes {
		here := node == c.options.Self || c.peers[node].reachable
		if here && (most == 0 || count[node] > count[most]) {
			most = node
		}
	}
	return most
}

// fewest is the node that leads the fewest of those that a shard of this node may be moved to, if that makes the nodes more equal; otherwise 0.
func (c *Core) fewest(now time.Duration, id kv.ShardID, count map[kv.NodeID]int) (fewest kv.NodeID) {
	for _, node := range c.options.Nodes {
		if c.mayMove(now, id, node) && count[node]+2 <= count[c.options.Self] && (fewest == 0 || count[node] < count[fewest]) {
			fewest = node
		}
	}
	return fewest
}

// mayMove tells whether a shard that this node leads may be moved to another one. The system shard stays where it is.
func (c *Core) mayMove(now time.Duration, id kv.ShardID, to kv.NodeID) bool {
	s := c.shards[id]
	return id != kv.SystemShard && s.leader == c.options.Self && to != c.options.Self && c.peers[to].reachable && now >= s.resting[to]
}
