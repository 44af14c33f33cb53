package issuer

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// Issuer is what one node has of the sequencer of a store. Safe for concurrent use; Attach comes first.
type Issuer struct {
	options Options
	node    Node
	// applied is how far the replica of each shard has come here. The map is never changed.
	applied map[kv.ShardID]*atomic.Int64
	known   atomic.Int64
	alarms  atomic.Uint64 // that a sequencer told last
	here    here
	metrics counters

	mu    sync.Mutex
	time  time.Duration // that Tick told last
	asker *sequencer.Asker
	// unreached: the last frame of the asker could not be sent. It is tried again with the next tick, or when there is a connection.
	unreached bool
	target    target
	led       map[kv.ShardID]*led
	compacted kv.Revision // the highest that a frame has told
	// refusedAsks: the asker had no room for some of led.asked.
	refusedAsks bool
	// uninformed are shards whose leaders need a later present than the asker knows to call them clean. They try again when it has heard one.
	uninformed []kv.ShardID
	issuing    issuing
	learning   learning
	multis     []multi // in the order in which they are asked for
	// calls are to be made without the mutex, in this order. calling: somebody is at it.
	calls   []func()
	calling bool
	// unflushed: frames are in the sender's buffers that are to be written when the mutex is unlocked.
	unflushed bool
	stopped   bool
}

// here is what Now reads without the mutex.
//
// Invariant: whatever was issued in the epoch is at most now before anybody hears of it. epoch is 0 whenever there is no sequencer here, and before a later
// leadership of the system shard has a lease here.
type here struct {
	epoch atomic.Uint64
	now   atomic.Int64
}

// target is where the sequencer is.
type target struct {
	node  kv.NodeID // 0: nobody has ever led
	term  consensus.Term
	since time.Duration
	lost  bool // nobody is known to lead now
}

// led is a shard that is led here.
type led struct {
	leadership sequencer.Leadership
	asked      []asked // in the order of their batches
	learnt     sequencer.Learnt
}

// asked is a batch that waits for its numbers.
type asked struct {
	batch sequencer.Batch
	n     uint64
	bound kv.Bounds
	got   func(first, compacted kv.Revision, issued bool)
}

// issuing is a Sequencer that is here, with what it needs.
type issuing struct {
	core *sequencer.Sequencer // nil: there is none
	term consensus.Term
	// counted is up to where revisions are in the metrics.
	counted kv.Revision
	// frames were made, and wait for the lease or for a quorum. While there are any, the core is asked for no others.
	frames     []sequencer.Outgoing
	made       uint64 // counts the calls of the core that made frames
	confirming bool
	// early are sessions that were begun here while this node was on the way to lead, by node: they are told to begin anew when it does.
	early map[kv.NodeID]sequencer.Session
}

// New returns the issuer of a process. Attach follows, before anything else is called.
func New(options Options) (*Issuer, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	asker, err := sequencer.NewAsker(options.asker())
	if err != nil {
		return nil, err
	}
	i := &Issuer{options: options, asker: asker, applied: make(map[kv.ShardID]*atomic.Int64), led: make(map[kv.ShardID]*led)}
	for _, shard := range options.Shards {
		i.applied[shard] = new(atomic.Int64)
	}
	i.issuing.early = make(map[kv.NodeID]sequencer.Session)
	return i, nil
}

// Attach says what the node is.
func (i *Issuer) Attach(node Node) { i.node = node }

// Tick lets the time pass, which is of a monotonic clock with any origin. Call it every heartbeat interval, about.
func (i *Issuer) Tick(now time.Duration) {
	i.mu.Lock()
	i.time, i.unreached = now, false
	i.asker.Tick(now)
	i.retryAsks()
	i.giveUpLearning()
	i.giveUpMultis()
	i.pump()
	i.unlock()
}

// PeerUp: there is a connection to the node.
func (i *Issuer) PeerUp(node kv.NodeID) {
	i.mu.Lock()
	if node == i.target.node {
		i.unreached = false
	}
	i.pump()
	i.unlock()
}

// PeerDown: frames to or from the node may have been lost, because a connection broke, or because the node has connected again.
func (i *Issuer) PeerDown(node kv.NodeID) {
	i.mu.Lock()
	i.asker.Broken(node)
	i.pump()
	i.unlock()
}

// HandleMessage takes a frame of another node from Channel.
func (i *Issuer) HandleMessage(from kv.NodeID, frame []byte) {
	if sequencer.IsRequest(frame) {
		q, err := sequencer.DecodeRequest(frame)
		if err != nil {
			i.refuse(from, err)
			return
		}
		i.mu.Lock()
		i.step(from, q)
	} else {
		r, err := sequencer.DecodeReply(frame)
		if err != nil {
			i.refuse(from, err)
			return
		}
		i.mu.Lock()
		i.get(from, r)
	}
	i.pump()
	i.unlock()
}

// Stop has everything that waits fail with kv.ErrStopped, now and from now on.
func (i *Issuer) Stop() {
	i.mu.Lock()
	i.stopped = true
	i.discardSequencer()
	i.failLearning(kv.ErrStopped)
	i.failMultis(kv.ErrStopped, func(*multi) bool { return true })
	i.unlock()
}

// Check tells what is wrong with the state; nil: nothing. The driver must not be between Hold and Take.
func (i *Issuer) Check() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.asker.Check(); err != nil {
		return err
	}
	if err := i.checkMultis(); err != nil {
		return err
	}
	if core := i.issuing.core; core == nil {
		if epoch := i.here.epoch.Load(); epoch != 0 || len(i.issuing.frames) > 0 {
			return fmt.Errorf("issuer: %d frames of epoch %d without a sequencer", len(i.issuing.frames), epoch)
		}
	} else if now := int64(core.Now()); now != i.here.now.Load() || i.known.Load() < now {
		return fmt.Errorf("issuer: revision %d was issued, %d is told, %d is known", now, i.here.now.Load(), i.known.Load())
	} else if err := core.Check(); err != nil {
		return err
	}
	return nil
}

func (i *Issuer) refuse(from kv.NodeID, err error) {
	if i.options.Refused != nil {
		i.options.Refused(from, err)
	}
}

// Hear is of gateway.Revisions: it takes note of a revision that was issued.
func (i *Issuer) Hear(revision kv.Revision) { raise(&i.known, revision) }

func raise(to *atomic.Int64, revision kv.Revision) {
	for {
		before := to.Load()
		if before >= int64(revision) || to.CompareAndSwap(before, int64(revision)) {
			return
		}
	}
}

// later has something called without the mutex.
func (i *Issuer) later(call func()) { i.calls = append(i.calls, call) }

// unlock ends an input that comes from outside of an evaluation, and calls whoever has waited for what it brought. One goroutine at a time does that, so
// that they hear of things in their order.
func (i *Issuer) unlock() {
	i.flush()
	for !i.calling && len(i.calls) > 0 {
		i.calling = true
		calls := i.calls
		i.calls = nil
		i.mu.Unlock()
		for _, call := range calls {
			call()
		}
		i.mu.Lock()
		i.calling = false
	}
	i.mu.Unlock()
}

// flush has what was sent written, without the mutex: nobody, above all no driver that numbers a batch, waits for a write to a connection.
func (i *Issuer) flush() {
	if i.unflushed {
		i.unflushed = false
		i.mu.Unlock()
		i.options.Sender.Flush()
		i.mu.Lock()
	}
}

// unlockInRound is unlock for who holds the lock of a replica.
func (i *Issuer) unlockInRound() {
	i.flush()
	wait := len(i.calls) > 0 && !i.calling
	i.mu.Unlock()
	if wait {
		i.node.Later(func() {
			i.mu.Lock()
			i.unlock()
		})
	}
}
