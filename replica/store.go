package replica

import (
	"context"
	"errors"
	"fmt"
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
type Store struct {
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
	live          *liveness.Core
	opened        time.Duration // when Open was called
	node          *membership.Node
	attended      []*Replica                        // whose membership core wants ticks
	order         []*Replica                        // by group ID; never changed in place
	adding        map[consensus.GroupID]func(error) // groups that are being added, and who waits for that
	removals      []*removal                        // that wait for goroutines at work
	dirty         []*Replica                        // have work in their core
	spareDirty    []*Replica
	working       []*Replica // have requests to evaluate, or leases to watch
	ticking       []*Replica // need ticks
	spareAttended []*Replica
	maintaining   []*Replica // have a flush or a compaction to do
	nextTick      time.Duration
	// evaluateUntil is when the round should stop evaluating, and evaluated whether it has begun to.
	evaluateUntil time.Duration
	evaluated     bool
	// nextDue is not later than anything that a core of leadership has due; 0 if there is nothing.
	nextDue   time.Duration
	out       []peerOut // frames under construction, one a peer
	appends   []storage.GroupAppend
	unsynced  []pendingAck  // written, and waiting for the next sync
	syncing   []pendingAck  // waiting for the sync in flight
	finished  []finished    // to be answered at the end of the round
	slowUntil time.Duration // a sync was slow: use the goroutine until then
	lastRead  consensus.ReadID
	scrubber  scrubber
	memory    mvcc.Memory // of all groups
	besides   int         // requests that goroutines decide
	shipping  int         // snapshots on their way to other nodes
	flushes   engineFlush
	logLimit  logLimit
	metrics   counters
}

// pendingAck is a write that is to be acknowledged to its core when it is durable.
type pendingAck struct {
	replica   *Replica
	mark      consensus.Mark
	needSync  bool // somebody waits for it, this replica itself included
	afterSync []consensus.Message
	dropped   *removal // instead: a log was dropped
}

// finished is a request whose answer is known.
type finished struct {
	request request
	applied consensus.Index
}

// Open restores every replica of the node from the log and the engine. Nothing moves until Round
// is called, or Start.
func Open(opts Options, clock func() time.Duration) (*Store, error) {
	opts = opts.WithDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, clock: clock,
		wake:    make(chan struct{}, 1),
		support: newSupport(opts.Nodes),
		adding:  make(map[consensus.GroupID]func(error)),
		opened:  clock(),
	}
	s.groups.Store(&map[consensus.GroupID]*Replica{})
	s.context, s.stop = context.WithCancel(context.Background())
	if s.spawn = opts.Spawn; s.spawn == nil {
		s.spawn = func(work func()) { s.workers.Go(work) }
	}
	var peers []kv.NodeID
	for _, node := range opts.Nodes {
		if node != opts.Self {
			peers = append(peers, node)
			s.out = append(s.out, peerOut{node: node})
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
	s.live = live
	if err := s.openNode(); err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	for _, group := range opts.Groups {
		r, err := s.openReplica(group)
		if err != nil {
			return nil, fmt.Errorf("replica: group %d: %w", group, err)
		}
		s.begin(r)
	}
	s.askWhoIsWho()
	s.scrubber.pace = newScrubPace(opts.ScrubInterval, opts.ScrubBytesPerSecond, s.opened, opts.Instance)
	return s, nil
}

// promiseDuration is how long a node holds still for a leader after a heartbeat. Three
// intervals let one heartbeat be lost; the fail-over gap after a crash is about this long.
func promiseDuration(o Options) time.Duration {
	return min(3*o.HeartbeatInterval, o.ElectionTimeout)
}

// Close stops the driver and fails everything that waits with kv.ErrStopped. The log and
// the engine stay open; they belong to the caller.
func (s *Store) Close() {
	s.stop()
	// Whoever brings input may be doing a round, which may still hand work to a goroutine. After it nobody begins another.
	s.driving.Lock()
	//lint:ignore SA2001 nothing is to be done but to wait
	s.driving.Unlock()
	s.workers.Wait()
	s.driving.Lock()
	defer s.driving.Unlock()
	s.abandon(kv.ErrStopped)
	_ = s.scrubber.pass.close() // of files that were only read
}

// abandon answers everything that waits, and refuses everything that comes later.
func (s *Store) abandon(err error) {
	in := s.inbox.close()
	for i := range in.requests {
		s.letOut(int64(in.requests[i].sizeBytes))
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
	for _, r := range s.order {
		r.serving.Store(false)
		r.lease.Store(nil)
		r.failAll(err)
		r.discardStaged()
	}
	s.abandonLives(err)
	s.answer()
}

// Check verifies the invariants of all cores and replicas. It is for the goroutine that calls Round, between rounds.
func (s *Store) Check() error {
	errs := []error{s.live.Check(), s.node.Check()}
	for _, r := range s.order {
		errs = append(errs, r.core.Check(), r.check())
	}
	return errors.Join(append(errs, s.checkMemory())...)
}

// Err returns why the driver stopped by itself; nil while it works.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

var errFailed = errors.New("replica: the node stopped")

// fail stops the node for good: what the disk holds is in doubt, or an invariant broke.
func (s *Store) fail(err error) {
	if s.Err() != nil {
		return
	}
	err = fmt.Errorf("%w: %w", errFailed, err)
	s.failure.Store(&err)
	s.abandon(kv.ErrUnhealthy)
	if s.opts.Listener.Failed != nil {
		s.opts.Listener.Failed(err)
	}
}

// stopped tells why nothing is taken any more; nil while the driver works.
func (s *Store) stopped() error {
	switch {
	case s.Err() != nil:
		return kv.ErrUnhealthy
	case s.context.Err() != nil:
		return kv.ErrStopped
	}
	return nil
}

// kick makes the run loop do a round soon.
func (s *Store) kick() {
	if s.opts.Wake != nil {
		s.opts.Wake()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// call runs do in the driver's goroutine in the next round, unless the driver stops before.
func (s *Store) call(do func()) {
	if s.inbox.addCall(call{do: do}) {
		s.kick()
	}
}

// ask is call for somebody who waits: exactly one of do and refused is called.
func (s *Store) ask(do func(), refused func(error)) {
	if s.inbox.addCall(call{do: do, refused: refused}) {
		s.kick()
		return
	}
	err := s.stopped()
	if err == nil {
		err = kv.ErrStopped
	}
	refused(err)
}

// Receive takes a frame of a peer. The payload belongs to the driver from now on. ReceiveDone
// makes the round that deals with it happen.
func (s *Store) Receive(from kv.NodeID, channel byte, payload []byte) {
	switch channel {
	case ChannelLiveness:
		s.inbox.addHeartbeat(nodeFrame{from: from, payload: payload})
	case ChannelConsensus, ChannelMarked:
		messages, err := decodeFrame(payload, channel == ChannelMarked)
		if err != nil {
			s.call(func() { s.refused(0, from, err) })
			return
		}
		for i := range messages {
			messages[i].from = from
		}
		s.inbox.addMessages(messages)
	case ChannelIdentity:
		m, err := membership.DecodeMessage(payload)
		s.call(func() {
			if err != nil {
				s.refused(0, from, err)
			} else if err := s.receiveIdentity(from, m); err != nil {
				s.refused(m.Group, from, err)
			}
		})
	case ChannelMarks:
		all, err := membership.DecodeMarks(payload)
		s.call(func() {
			if err != nil {
				s.refused(0, from, err)
				return
			}
			s.receiveMarks(from, all)
		})
	default:
		s.call(func() { s.refused(0, from, unknownChannel(channel)) })
	}
}

// ReceiveDone tells that all frames of a read burst have been given to Receive.
func (s *Store) ReceiveDone() { s.roundHere() }

// PeerDown tells that the connection to a node broke; refused says that the node's
// port refused a new one, which shows that the process died.
func (s *Store) PeerDown(node kv.NodeID, refused bool) {
	s.call(func() {
		if refused {
			s.live.PeerDown(s.clock(), node)
		}
		for _, r := range s.order {
			if r.role.Role == consensus.RoleLeader {
				r.core.Unreachable(r.membership.Newest(node))
				s.markDirty(r)
			}
		}
	})
}

// PeerUp tells that a connection to a node exists, on which frames of the version are spoken.
func (s *Store) PeerUp(node kv.NodeID, version uint16) {
	s.call(func() {
		s.live.PeerUp(s.clock(), node)
		s.node.Connected(node, version)
		s.carryOutNode()
		s.askWhoIsWho()
	})
}

func (s *Store) refused(group consensus.GroupID, from kv.NodeID, err error) {
	s.metrics.messagesRefused.Add(1)
	if s.opts.Listener.MessageRefused != nil {
		s.opts.Listener.MessageRefused(group, from, err)
	}
}

func (s *Store) markDirty(r *Replica) {
	if !r.dirty && !r.ended && !r.held() {
		r.dirty = true
		s.dirty = append(s.dirty, r)
	}
}

// markWorking makes evaluate look at the replica.
func (s *Store) markWorking(r *Replica) {
	if !r.working {
		r.working = true
		s.working = append(s.working, r)
	}
}

// setTicking adds or removes the replica from those that get ticks. An idle group whose
// leader is known to be alive gets none, and so costs nothing.
func (s *Store) setTicking(r *Replica, on bool) {
	if on = on && !r.ended; on == r.ticking {
		return
	}
	r.ticking = on
	if on && !r.listed {
		r.listed = true
		s.ticking = append(s.ticking, r)
	} // a replica that stopped ticking leaves the list with the next tick
}
