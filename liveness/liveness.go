package liveness

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Core holds what this node promised and was promised. It is not safe for concurrent use.
type Core struct {
	options Options
	peers   []*peer // ascending by id, so that everything happens in a fixed order

	// now is the latest reading of the clock seen in any call. Invariant: it never goes back.
	now time.Duration
	// mayVoteFrom is when promises of an earlier process of this node have surely ended.
	mayVoteFrom time.Duration
	// advanced is the time of the last Advance; a gap after it means that this process slept.
	advanced time.Duration
	// graceUntil: until then nobody is reported as lapsed, because this process slept.
	graceUntil time.Duration

	ready   Ready
	metrics Metrics
}

// peer is everything about one other node.
type peer struct {
	id kv.NodeID
	// leaving: it is no peer any more, and forgotten when what was promised to it has ended.
	leaving bool

	// Our promise to it.
	promised  time.Duration // bound to its process before this time of our clock; 0: never promised
	former    time.Duration // bound before this time to other processes of it, which may live
	restarted bool          // that another process has taken over is to be reported when former has come
	epoch     uint64        // number of the promise's epoch; 0: never promised
	withdrawn bool          // the next promise begins a new epoch
	instance  uint64        // its process that the newest heartbeat came from
	lastSeq   uint64        // newest heartbeat of that process
	lastHeard time.Duration // when it came; at the start, the start
	dead      bool          // evidence of the death of its process
	lapsed    bool          // reported as lapsed, not restored since

	// Its promise to us.
	sent      []sending     // heartbeats whose acknowledgement would count: newer than the last acknowledged one; ascending
	nextSeq   uint64        // of the next heartbeat
	nextBeat  time.Duration // when it is due
	support   Epoch         // epoch of the newest promise
	supported time.Duration // we count on it before this time of our clock
}

// sending is a heartbeat on its way. Invariant: at is not later than the moment it left.
type sending struct {
	seq uint64
	at  time.Duration
}

// Outgoing is a message to be sent.
type Outgoing struct {
	To      kv.NodeID
	Message Message
}

// Ready is work for the driver.
type Ready struct {
	Messages []Outgoing
	// Lapsed nodes must be taken for dead: this node's promise to them has ended, and
	// they are silent or their process is known to have died. Reported once per lapse.
	Lapsed []kv.NodeID
	// Restored nodes had lapsed and send heartbeats again.
	Restored []kv.NodeID
	// Restarted nodes run another process, and what was promised to the one before has ended: that one may live, though another
	// has its name. Reported besides Restored.
	Restarted []kv.NodeID
}

// Metrics counts since the start.
type Metrics struct {
	HeartbeatsSent, HeartbeatsReceived int64
	PromisesReceived                   int64
	// Ignored messages were late, duplicated, or for another process of this node.
	Ignored  int64
	Lapses   int64
	Restores int64
	// Pauses of this process that Advance noticed.
	Pauses int64
}

// New returns the core of a process that starts now. No earlier process of this
// node may be alive any more when now is read.
func New(options Options, now time.Duration) (*Core, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	c := &Core{options: options, now: now, advanced: now, mayVoteFrom: now + options.StartupWait}
	c.SetPeers(now, options.Peers)
	return c, nil
}

// SetPeers says who the other nodes are from now on. One that is no peer any more is neither heard nor told anything; what was promised to it binds until it
// has ended.
func (c *Core) SetPeers(now time.Duration, peers []kv.NodeID) {
	c.observe(now)
	for _, p := range c.peers {
		p.leaving = !slices.Contains(peers, p.id)
	}
	for _, id := range peers {
		if c.peer(id) == nil {
			c.peers = append(c.peers, &peer{id: id, lastHeard: c.now, nextBeat: c.now, nextSeq: 1})
		}
	}
	slices.SortFunc(c.peers, func(a, b *peer) int { return cmp.Compare(a.id, b.id) })
}

// Advance lets the time pass: heartbeats fall due, nodes lapse. The driver calls it
// at Next, and well within PauseThreshold of the last call in any case.
func (c *Core) Advance(now time.Duration) {
	c.observe(now)
	if c.now-c.advanced > c.options.PauseThreshold {
		c.metrics.Pauses++
		c.graceUntil = c.now + 2*c.options.HeartbeatInterval
	}
	c.advanced = c.now
	c.peers = slices.DeleteFunc(c.peers, func(p *peer) bool { return p.leaving && c.now >= max(p.promised, p.former) })
	for _, p := range c.peers {
		c.beat(p)
		c.lapse(p)
		if p.restarted && c.now >= p.former {
			p.restarted = false
			c.ready.Restarted = append(c.ready.Restarted, p.id)
		}
	}
}

// Next is when Advance has something to do at the latest.
func (c *Core) Next() time.Duration {
	next := c.advanced + c.options.HeartbeatInterval
	for _, p := range c.peers {
		if p.leaving {
			next = min(next, max(p.promised, p.former))
			continue
		}
		next = min(next, p.nextBeat)
		if !p.lapsed {
			next = min(next, c.lapseTime(p))
		}
		if p.restarted {
			next = min(next, p.former)
		}
	}
	return max(next, c.now)
}

// beat sends a heartbeat when it is due.
func (c *Core) beat(p *peer) {
	if p.leaving || c.now < p.nextBeat {
		return
	}
	// Sendings that are too old to justify anything are forgotten.
	for len(p.sent) > 0 && p.sent[0].at+c.options.PromiseDuration-c.options.DriftMargin <= c.now {
		p.sent = p.sent[1:]
	}
	p.sent = append(p.sent, sending{seq: p.nextSeq, at: c.now})
	c.send(p, Message{Kind: KindHeartbeat, Instance: c.options.Instance, Seq: p.nextSeq})
	c.metrics.HeartbeatsSent++
	p.nextSeq++
	// From the schedule, so that lateness does not add up; but after a pause no burst.
	p.nextBeat = max(p.nextBeat+c.options.HeartbeatInterval, c.now+c.options.HeartbeatInterval/2)
}

// lapse reports a silent node once.
func (c *Core) lapse(p *peer) {
	if p.lapsed || c.now < c.lapseTime(p) {
		return
	}
	p.lapsed = true
	c.metrics.Lapses++
	c.ready.Lapsed = append(c.ready.Lapsed, p.id)
}

// lapseTime is when the peer lapses if nothing more is heard.
func (c *Core) lapseTime(p *peer) time.Duration {
	silent := p.lastHeard + c.options.SuspectAfter
	if p.dead {
		silent = 0
	}
	// mayVoteFrom: before, promises may stand that this process does not know of.
	return max(silent, p.promised, p.former, c.mayVoteFrom, c.graceUntil)
}

// Receive takes a message. now must have been read after the message was taken from
// the network. A message that makes no sense is an error and changes nothing.
func (c *Core) Receive(now time.Duration, from kv.NodeID, m Message) error {
	p := c.peer(from)
	if p == nil || p.leaving {
		return fmt.Errorf("%w: a message came from node %s", ErrUnknownNode, from)
	}
	c.observe(now)
	switch m.Kind {
	case KindHeartbeat:
		c.receiveHeartbeat(p, m)
	case KindPromise:
		c.receivePromise(p, m)
	default:
		return fmt.Errorf("%w: kind %d is unknown", ErrMalformed, m.Kind)
	}
	return nil
}

func (c *Core) receiveHeartbeat(p *peer, m Message) {
	if m.Instance == p.instance && m.Seq <= p.lastSeq && c.now-p.lastHeard < 2*c.options.HeartbeatInterval {
		c.metrics.Ignored++
		return
	}
	c.metrics.HeartbeatsReceived++
	if m.Instance != p.instance {
		p.dead = false // the evidence was about an earlier process
		if p.instance != 0 {
			// The one before may live: two processes were started under one name. To each its own promise.
			p.former, p.promised = max(p.former, p.promised), 0
			p.withdrawn, p.restarted = true, true
		}
	}
	p.instance, p.lastSeq, p.lastHeard = m.Instance, m.Seq, c.now
	if p.lapsed {
		p.lapsed = false
		c.metrics.Restores++
		c.ready.Restored = append(c.ready.Restored, p.id)
	}
	c.promise(p)
	c.send(p, Message{
		Kind: KindPromise, Instance: m.Instance, Seq: m.Seq,
		Epoch:    Epoch{Instance: c.options.Instance, Number: p.epoch},
		Duration: c.options.PromiseDuration,
	})
}

// promise makes or extends our promise to the peer.
func (c *Core) promise(p *peer) {
	if p.withdrawn || c.now >= p.promised || p.epoch == 0 {
		p.epoch++
		p.withdrawn = false
	}
	p.promised = max(p.promised, c.now+c.options.PromiseDuration)
}

func (c *Core) receivePromise(p *peer, m Message) {
	if m.Instance != c.options.Instance || m.Epoch == (Epoch{}) {
		c.metrics.Ignored++
		return
	}
	i, found := slices.BinarySearchFunc(p.sent, m.Seq, func(s sending, seq uint64) int {
		return int(int64(s.seq - seq))
	})
	if !found {
		c.metrics.Ignored++ // a newer one was acknowledged, or it was sent so long ago that it justifies nothing
		return
	}
	c.metrics.PromisesReceived++
	// The margin covers promises up to our own duration; a longer one counts as that.
	duration := min(m.Duration, c.options.PromiseDuration)
	until := p.sent[i].at + duration - c.options.DriftMargin
	if m.Epoch != p.support {
		p.supported = 0 // what the old epoch promised says nothing about the new one
	}
	p.support = m.Epoch
	p.supported = max(p.supported, until)
	p.sent = p.sent[i+1:]
}

// PeerDown tells that the connection to the node broke and that a new one was refused: its
// process is dead. That ends no promise, but what has lapsed by then is reported at once.
func (c *Core) PeerDown(now time.Duration, node kv.NodeID) {
	c.observe(now)
	if p := c.peer(node); p != nil {
		p.dead = true
	}
}

// PeerUp tells that a connection to the node was made: evidence of its death is void.
func (c *Core) PeerUp(now time.Duration, node kv.NodeID) {
	c.observe(now)
	if p := c.peer(node); p != nil {
		p.dead = false
	}
}

// Ready moves the pending work out.
func (c *Core) Ready() Ready {
	ready := c.ready
	c.ready = Ready{}
	return ready
}

// HasReady tells cheaply whether Ready would return work.
func (c *Core) HasReady() bool {
	return len(c.ready.Messages)+len(c.ready.Lapsed)+len(c.ready.Restored)+len(c.ready.Restarted) > 0
}

// Supporting tells whether this node is bound by a promise to a process of the node; instance 0: to any. While it
// is, it must not vote against a leader there, nor campaign.
func (c *Core) Supporting(now time.Duration, node kv.NodeID, instance uint64) bool {
	c.observe(now)
	p := c.peer(node)
	switch {
	case p == nil:
		return false
	case instance == 0:
		return c.now < max(p.promised, p.former)
	case instance != p.instance:
		return c.now < p.former
	}
	return c.now < p.promised
}

// PromiseEpoch is the epoch of the promise that binds this node to the present process of the node.
func (c *Core) PromiseEpoch(now time.Duration, node kv.NodeID) (Epoch, bool) {
	c.observe(now)
	if p := c.peer(node); p == nil || c.now >= p.promised {
		return Epoch{}, false
	}
	return Epoch{Instance: c.options.Instance, Number: c.peer(node).epoch}, true
}

// Withdraw ends the epoch of the promise to the node: whatever is promised from now on
// is of a new one. The promises made so far stand until the returned time of our clock.
func (c *Core) Withdraw(now time.Duration, node kv.NodeID) (freeAt time.Duration) {
	c.observe(now)
	p := c.peer(node)
	if p == nil {
		return c.now
	}
	p.withdrawn = true
	return max(p.promised, p.former, c.now)
}

// Support is the epoch of the node's promise to us, and the time of our clock before which it holds; 0 if there is
// none. Compare it with a reading of the clock that was made after the value to be served was read. What a changed
// epoch means is in the package comment.
func (c *Core) Support(node kv.NodeID) (Epoch, time.Duration) {
	p := c.peer(node)
	if p == nil {
		return Epoch{}, 0
	}
	return p.support, p.supported
}

// MayVote tells whether enough time has passed since the start that no promise of
// an earlier process of this node stands. Before, the node neither votes nor campaigns.
func (c *Core) MayVote(now time.Duration) bool {
	c.observe(now)
	return c.now >= c.mayVoteFrom
}

// Instance is the process of the node that the newest heartbeat came from; 0 if none came.
func (c *Core) Instance(node kv.NodeID) uint64 {
	if p := c.peer(node); p != nil {
		return p.instance
	}
	return 0
}

// Alive tells whether the node has not lapsed.
func (c *Core) Alive(node kv.NodeID) bool {
	p := c.peer(node)
	return p != nil && !p.lapsed
}

// Metrics returns the counters.
func (c *Core) Metrics() Metrics { return c.metrics }

func (c *Core) observe(now time.Duration) { c.now = max(c.now, now) }

func (c *Core) send(p *peer, m Message) {
	c.ready.Messages = append(c.ready.Messages, Outgoing{To: p.id, Message: m})
}

// peer finds a node; nil if it is unknown. Clusters are small: a scan beats a map.
func (c *Core) peer(id kv.NodeID) *peer {
	for _, p := range c.peers {
		if p.id == id {
			return p
		}
	}
	return nil
}
