package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Driver drives all replicas of a node.
//
// Only the goroutine that calls Round touches what is not in front, and not an atomic value. Once started, that is whoever holds driving. As with driven, the
// fields of a part are named as if they were here, and its methods know only the part.
type Driver struct {
	front
	live *liveness.Core
	node *membership.Node
	clocks
	neighbours
	replicas
	agenda
	evaluating
	outgoing
	writing
	answering
	lastRead consensus.ReadID
	scrubber scrubber
	memory   mvcc.Memory // of all groups
	besideRounds
	flushes  engineFlush
	logLimit logLimit
	backlog  backlog
	metrics  counters
}

// pendingAck is a write that is to be acknowledged to its core when it is durable.
type pendingAck struct {
	replica   *driven
	mark      consensus.Mark
	needSync  bool // somebody waits for it, this replica itself included
	afterSync []consensus.Message
	dropped   *removal // instead: a log was dropped
	then      func()   // instead: what goes on

	backlogBytes int64 // of its entries, if they came from another node
}

// finished is a request whose answer is known.
type finished struct {
	request request
	applied consensus.Index
}

// Open restores every replica of the node from the log and the engine. Nothing moves until Round
// is called, or Start. A group that cannot be opened fails alone (Listener.GroupFailed), and Replica does not have it, unless there is no other one.
func Open(opts Options, clock func() time.Duration) (*Driver, error) {
	opts = opts.WithDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Sequencing == nil {
		opts.Sequencing = unheard{}
	}
	d := &Driver{
		front:      front{opts: opts, clock: clock, wake: make(chan struct{}, 1), support: newSupport(opts.Nodes)},
		clocks:     clocks{opened: clock()},
		neighbours: neighbours{nodes: opts.Nodes, places: opts.Nodes, lingering: make(map[kv.NodeID]time.Duration)},
		replicas: replicas{adding: make(map[consensus.GroupID]*addition), removing: make(map[consensus.GroupID]*removal),
			departed: make(map[consensus.GroupID]*driven)},
	}
	d.roundHere = d.doRoundHere
	d.AskWith(askNobody)
	d.groups.Store(&map[consensus.GroupID]*driven{})
	d.context, d.stop = context.WithCancel(context.Background())
	if d.spawn = opts.Spawn; d.spawn == nil {
		d.spawn = func(work func()) { d.workers.Go(work) }
	}
	var peers []kv.NodeID
	for _, node := range opts.Nodes {
		if node != opts.Self {
			peers = append(peers, node)
			d.out = append(d.out, peerOut{node: node})
		}
	}
	live, err := liveness.New(liveness.Options{
		Self: opts.Self, Peers: peers, Instance: opts.Instance,
		HeartbeatInterval: opts.HeartbeatInterval,
		PromiseDuration:   promiseDuration(opts),
		SuspectAfter:      opts.ElectionTimeout,
	}, clock())
	if err != nil {
		return nil, err
	}
	d.live = live
	if err := d.openNode(); err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	if err := d.openGroups(); err != nil {
		return nil, err
	}
	d.setAside()
	if slices.ContainsFunc(d.order, func(r *driven) bool { return r.machine.Roster().Version != 0 }) {
		d.reckonNodes()
	}
	d.askWhoIsWho()
	d.scrubber.pace = newScrubPace(opts.ScrubInterval, opts.ScrubBytesPerSecond, d.opened, opts.Instance)
	return d, nil
}

// promiseDuration is how long a node holds still for a leader after a heartbeat. Three
// intervals let one heartbeat be lost; the fail-over gap after a crash is about this long.
func promiseDuration(o Options) time.Duration {
	return min(3*o.HeartbeatInterval, o.ElectionTimeout)
}

// Close stops the driver and fails everything that waits with kv.ErrStopped. The log and
// the engine stay open; they belong to the caller.
func (d *Driver) Close() {
	d.stop()
	// Whoever brings input may be doing a round, which may still hand work to a goroutine. After it nobody begins another.
	d.driving.Lock()
	//lint:ignore SA2001 nothing is to be done but to wait
	d.driving.Unlock()
	d.workers.Wait()
	d.driving.Lock()
	defer d.driving.Unlock()
	for _, r := range *d.groups.Load() {
		r.leaveReplaced()
	}
	for _, m := range d.removing {
		m.replica.leaveReplaced()
	}
	d.abandon(kv.ErrStopped)
	_ = d.scrubber.pass.close() // of files that were only read
}

// abandon answers everything that waits, and refuses everything that comes later.
func (d *Driver) abandon(err error) {
	in := d.inbox.close()
	for i := range in.requests {
		d.letOut(int64(in.requests[i].sizeBytes))
		in.requests[i].done(nil, 0, err)
	}
	for i := range in.calls {
		if in.calls[i].refused != nil {
			in.calls[i].refused(err)
		}
	}
	for i := range in.messages {
		in.messages[i].staged.discard()
	}
	for _, r := range d.order {
		r.serving.Store(false)
		r.expected.Store(false)
		r.lease.Store(nil)
		r.failAll(err)
		r.staged.discard()
	}
	d.abandonLives(err)
	d.answer()
}

// Check verifies the invariants of all cores and replicas. It is for the goroutine that calls Round, between rounds.
func (d *Driver) Check() error {
	errs := []error{d.live.Check(), d.node.Check()}
	for _, r := range d.order {
		errs = append(errs, r.core.Check(), r.check())
	}
	return errors.Join(append(errs, d.checkMemory(), d.checkFigures(), d.checkBacklog(), d.checkPlaces(), d.checkCrowd())...)
}

var errFailed = errors.New("driver: the node stopped")

// fail stops the node for good: what the disk holds is in doubt, or an invariant broke.
func (d *Driver) fail(err error) {
	if d.Err() != nil {
		return
	}
	err = fmt.Errorf("%w: %w", errFailed, err)
	d.failure.Store(&err)
	d.abandon(kv.ErrUnhealthy)
	if d.opts.Listener.Failed != nil {
		d.opts.Listener.Failed(err)
	}
}

// Receive takes a frame of a peer. The payload belongs to the driver from now on. ReceiveDone
// makes the round that deals with it happen.
func (d *Driver) Receive(from kv.NodeID, channel byte, payload []byte) {
	switch channel {
	case ChannelLiveness:
		d.inbox.addHeartbeat(nodeFrame{from: from, payload: payload})
	case ChannelConsensus, ChannelMarked:
		messages, err := decodeFrame(payload, channel == ChannelMarked)
		if err != nil {
			d.call(func() { d.refused(0, from, err) })
			return
		}
		for i := range messages {
			messages[i].from = from
		}
		d.inbox.addReceived(messages, d.takesIn)
	case ChannelIdentity:
		m, err := membership.DecodeMessage(payload)
		d.call(func() {
			if err != nil {
				d.refused(0, from, err)
			} else if err := d.receiveIdentity(from, m); err != nil {
				d.refused(m.Group, from, err)
			}
		})
	case ChannelMarks:
		all, err := membership.DecodeMarks(payload)
		d.call(func() {
			if err != nil {
				d.refused(0, from, err)
				return
			}
			d.receiveMarks(from, all)
		})
	default:
		d.call(func() { d.refused(0, from, unknownChannel(channel)) })
	}
}

// ReceiveDone tells that all frames of a read burst have been given to Receive.
func (d *Driver) ReceiveDone() { d.roundHere() }

// PeerDown tells that the connection to a node broke; refused says that the node's
// port refused a new one, which shows that the process died.
func (d *Driver) PeerDown(node kv.NodeID, refused bool) {
	d.call(func() {
		if refused {
			d.live.PeerDown(d.clock(), node)
		}
		d.sentInVain(node)
	})
}

// sentInVain tells the leaders here that what they have sent to a node may be lost.
func (d *Driver) sentInVain(node kv.NodeID) {
	for _, r := range d.order {
		if r.role.Role == consensus.RoleLeader {
			r.core.Unreachable(r.membership.Newest(node))
			d.markDirty(r)
		}
	}
}

// PeerUp tells that a connection to a node exists, on which frames of the version are spoken.
func (d *Driver) PeerUp(node kv.NodeID, version uint16) {
	d.call(func() {
		d.live.PeerUp(d.clock(), node)
		d.sentInVain(node) // by who became a leader when there was no connection
		d.node.Connected(node, version)
		d.carryOutNode()
		d.askWhoIsWho()
	})
}

func (d *Driver) refused(group consensus.GroupID, from kv.NodeID, err error) {
	d.metrics.messagesRefused.Add(1)
	if d.opts.Listener.MessageRefused != nil {
		d.opts.Listener.MessageRefused(group, from, err)
	}
}
