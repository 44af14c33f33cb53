package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Store drives all replicas of a node.
//
// Only the goroutine that calls Round touches the fields below "driver"; everything above is
// safe for all. Once started, that is whoever holds driving.
type Driver struct {
	opts    Options
	clock   func() time.Duration
	inbox   inbox
	wake    chan struct{}
	support *support
	groups  atomic.Pointer[map[consensus.GroupID]*Replica] // the map is never changed in place
	queued  atomic.Int64                                   // requests that are not answered
	// queuedBytes are their sizes.
	queuedBytes atomic.Int64
	holding     atomic.Bool // notices wait for another message to the same node
	hurry       atomic.Bool // somebody waits for them
	inRound     atomic.Bool
	beat        atomic.Int64 // when the last round ended
	failure     atomic.Pointer[error]
	asker       atomic.Pointer[Asker]
	// unwitnessed is what Unwitnessed returns.
	unwitnessed atomic.Pointer[[]kv.NodeID]

	context context.Context // ends with Close
	stop    context.CancelFunc
	workers sync.WaitGroup // run loop, syncs and snapshots
	spawn   func(func())
	started atomic.Bool
	driving sync.Mutex
	timer   *time.Timer // of the run loop; guarded by driving

	// driver
	live   *liveness.Core
	opened time.Duration // when Open was called
	node   *membership.Node
	list   kv.Roster   // the newest list of members that was told
	nodes  []kv.NodeID // that this one has to do with; never changed in place
	places []kv.NodeID // all that it ever had to do with: positions in support, which never change
	// lingering are those that this one has nothing more to do with, and until when it listens to them; see linger.
	lingering map[kv.NodeID]time.Duration
	// beginningMarks: this node is not alone any more, and its log is being told.
	beginningMarks bool
	attended       []*Replica // whose membership core wants ticks
	order          []*Replica // by group ID; never changed in place
	adding         map[consensus.GroupID]*addition
	removing       map[consensus.GroupID]*removal
	departed       map[consensus.GroupID]*Replica // were removed, and not all other nodes know
	dirty          []*Replica                     // have work in their core
	spareDirty     []*Replica
	working        []*Replica // have requests to evaluate, or leases to watch
	ticking        []*Replica // need ticks
	spareAttended  []*Replica
	unclean        []*Replica // are to be called clean (Sequencing)
	maintaining    []*Replica // have a flush or a compaction to do
	nextTick       time.Duration
	// evaluateUntil is when the round should stop evaluating, and evaluated whether it has begun to.
	evaluateUntil time.Duration
	evaluated     bool
	proposing     int  // groups with own rounds in flight
	freed         bool // some of them were applied since the last evaluation
	// nextDue is not later than anything that a core of leadership has due; 0 if there is nothing.
	nextDue   time.Duration
	out       []peerOut // frames under construction, one a peer
	appends   []storage.GroupAppend
	unsynced  []pendingAck  // written, and waiting for the next sync
	syncing   []pendingAck  // waiting for the sync in flight
	finished  []finished    // to be answered at the end of the round
	answered  []func()      // to be called after that
	granted   []func()      // to be told that prepares have their locks
	slowUntil time.Duration // a sync was slow: use the goroutine until then
	lastRead  consensus.ReadID
	scrubber  scrubber
	memory    mvcc.Memory // of all groups
	besides   int         // requests that goroutines decide
	shipping  int         // snapshots on their way to other nodes
	flushes   engineFlush
	logLimit  logLimit
	backlog   backlog
	metrics   counters
}

// pendingAck is a write that is to be acknowledged to its core when it is durable.
type pendingAck struct {
	replica   *Replica
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
	d := &Driver{
		opts: opts, clock: clock,
		wake:    make(chan struct{}, 1),
		support: newSupport(opts.Nodes),
		nodes:   opts.Nodes,
		places:  opts.Nodes,

		lingering: make(map[kv.NodeID]time.Duration),
		adding:    make(map[consensus.GroupID]*addition),
		opened:    clock(),

		removing: make(map[consensus.GroupID]*removal),
		departed: make(map[consensus.GroupID]*Replica),
	}
	d.groups.Store(&map[consensus.GroupID]*Replica{})
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
	if slices.ContainsFunc(d.order, func(r *Replica) bool { return r.machine.Roster().Version != 0 }) {
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

// Err returns why the driver stopped by itself; nil while it works.
func (d *Driver) Err() error {
	if p := d.failure.Load(); p != nil {
		return *p
	}
	return nil
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

// stopped tells why nothing is taken any more; nil while the driver works.
func (d *Driver) stopped() error {
	switch {
	case d.Err() != nil:
		return kv.ErrUnhealthy
	case d.context.Err() != nil:
		return kv.ErrStopped
	}
	return nil
}

// kick makes the run loop do a round soon.
func (d *Driver) kick() {
	if d.opts.Wake != nil {
		d.opts.Wake()
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// call runs do in the driver's goroutine in the next round, unless the driver stops before.
func (d *Driver) call(do func()) {
	if d.inbox.addCall(call{do: do}) {
		d.kick()
	}
}

// ask is call for somebody who waits: exactly one of do and refused is called.
func (d *Driver) ask(do func(), refused func(error)) {
	if d.inbox.addCall(call{do: do, refused: refused}) {
		d.kick()
		return
	}
	err := d.stopped()
	if err == nil {
		err = kv.ErrStopped
	}
	refused(err)
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

func (d *Driver) markDirty(r *Replica) {
	if !r.in.dirty && !r.ended && !r.held() {
		r.in.dirty = true
		d.dirty = append(d.dirty, r)
	}
}

// markWorking makes evaluate look at the replica.
func (d *Driver) markWorking(r *Replica) {
	if !r.in.working {
		r.in.working = true
		d.working = append(d.working, r)
	}
}

// setTicking adds or removes the replica from those that get ticks. An idle group whose
// leader is known to be alive gets none, and so costs nothing.
func (d *Driver) setTicking(r *Replica, on bool) {
	if on = on && !r.ended; on == r.ticking {
		return
	}
	r.ticking = on
	if on && !r.in.ticking {
		r.in.ticking = true
		d.ticking = append(d.ticking, r)
	} // a replica that stopped ticking leaves the list with the next tick
}
