package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is three nodes with real state machines. The test says when frames arrive, when entries are applied
// and who leads; consensus is a slice.
type cluster struct {
	t      testing.TB
	mu     sync.Mutex // log, frames, leader, term
	log    []consensus.Entry
	frames []frame
	leader kv.NodeID
	term   consensus.Term
	lease  bool
	block  map[kv.NodeID]bool // nothing can be sent to them
	mute   map[kv.NodeID]bool // nothing can be sent by them
	limit  int                // of a frame; 0: none
	// largest is how many bytes a frame had at most, refused ones included.
	largest int
	nodes   map[kv.NodeID]*node
	now     time.Duration

	keptHashes map[kv.Revision]uint32
	counter    *counter // revisions come from there; nil: the log is the count
	shard      kv.ShardID
}

type frame struct {
	from, to kv.NodeID
	channel  byte
	payload  []byte
}

// node is a replica as gateway.Shard wants it, and a Sender.
type node struct {
	id      kv.NodeID
	cluster *cluster
	gateway *Gateway

	mu           sync.RWMutex
	engine       *storage.Memory
	machine      *shard.Machine
	pending      []pending
	waits        []wait
	revisions    []wait // for them
	releases     []release
	heldReads    func(*kv.Request, kv.Revision) bool // nil: as the machine says
	appliedSeq   uint64                              // of the term that it leads
	subscribers  []func(*shard.Applied)
	blocked      []*batch // by transactions
	batches      []*batch // evaluated or waiting to be, without revisions
	onRead       func()   // called by Read once it has its answer
	beforeReadAt func()
	onView       func()         // called when a view was made for a list
	evaluated    int            // requests
	held         *[]func()      // requests that wait to be evaluated; nil: none waits
	serving      consensus.Term // the term it leads and is ready to serve in; 0: none
}

type pending struct {
	term consensus.Term
	seq  uint64
	resp *kv.Response
	err  error
	done func(*kv.Response, uint64, error)
}

type wait struct {
	index uint64
	done  func(error)
}

func newCluster(t testing.TB, options Options) *cluster {
	c := newReplicas(t)
	c.open(func(kv.NodeID) Options { return options }, nil)
	return c
}

// newReplicas returns the replicas of one shard on three nodes without gateways.
func newReplicas(t testing.TB) *cluster { return newReplicasOf(t, shard.Options{}) }

func newReplicasOf(t testing.TB, options shard.Options) *cluster {
	c := &cluster{t: t, lease: true, nodes: map[kv.NodeID]*node{}, block: map[kv.NodeID]bool{}, mute: map[kv.NodeID]bool{}}
	for id := kv.NodeID(1); id <= 3; id++ {
		n := &node{id: id, cluster: c, engine: storage.NewMemory(storage.MemoryOptions{})}
		var err error
		options.Rand = rand.New(rand.NewPCG(1, 1))
		if n.machine, err = shard.Open(n.engine, options); err != nil {
			t.Fatal(err)
		}
		c.nodes[id] = n
	}
	return c
}

// open gives the nodes gateways, with the replicas of this shard and of others.
func (c *cluster) open(options func(kv.NodeID) Options, others map[kv.ShardID]*cluster) {
	for id, n := range c.nodes {
		o := options(id)
		o.Self, o.Sender = id, n
		o.Shards = map[kv.ShardID]Shard{kv.SystemShard: n}
		for shard, replicas := range others {
			if replica := replicas.nodes[id]; replica != nil {
				o.Shards[shard] = replica
			}
		}
		if o.ValidateRequest == nil {
			o.ValidateRequest = func(r *kv.Request) error { return shard.Validate(r, shard.Limits{}) }
		}
		if c.counter != nil {
			o.Revisions = &hearing{counter: c.counter, node: id}
		}
		o.Clock = func() time.Duration { return c.now }
		var err error
		if n.gateway, err = New(o); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(n.gateway.Close)
	}
}

// elect makes a node the leader of a new term; it serves once it has applied the term's first entry.
func (c *cluster) elect(id kv.NodeID) {
	c.mu.Lock()
	c.term++
	c.leader = id
	if id != 0 {
		c.log = append(c.log, consensus.Entry{Index: consensus.Index(len(c.log) + 1), Term: c.term, Kind: consensus.EntryBarrier})
	}
	c.mu.Unlock()
	for _, n := range c.nodes {
		n.mu.Lock()
		n.serving = 0
		n.machine.Follow()
		lost := append(n.batches, n.blocked...)
		n.batches, n.blocked = nil, nil
		n.mu.Unlock()
		for _, b := range lost {
			b.done(nil, 0, kv.ErrLeaderChanged)
		}
	}
}

// deliver hands over the frames that are on the way, and those they cause.
func (c *cluster) deliver() (count int) {
	for {
		c.mu.Lock()
		frames := c.frames
		c.frames = nil
		c.mu.Unlock()
		if len(frames) == 0 {
			return count
		}
		for _, f := range frames {
			count++
			c.nodes[f.to].gateway.HandleMessage(f.from, f.channel, f.payload)
		}
	}
}

// drop loses the frames that are on the way to or from the node, and breaks its connections.
func (c *cluster) drop(id kv.NodeID) {
	c.mu.Lock()
	kept := c.frames[:0]
	for _, f := range c.frames {
		if f.from != id && f.to != id {
			kept = append(kept, f)
		}
	}
	c.frames = kept
	c.mu.Unlock()
	for other := kv.NodeID(1); other <= 3; other++ {
		if other != id {
			c.nodes[other].gateway.PeerDown(id)
			c.nodes[id].gateway.PeerDown(other)
		}
	}
}

// apply lets a node apply the log.
func (n *node) apply() {
	for n.applyOne() {
	}
}

func (n *node) applyOne() bool {
	n.mu.Lock()
	n.cluster.mu.Lock()
	at := int(n.machine.AppliedIndex())
	if at >= len(n.cluster.log) {
		n.cluster.mu.Unlock()
		n.mu.Unlock()
		return false
	}
	entry, leader, term := n.cluster.log[at], n.cluster.leader, n.cluster.term
	n.cluster.mu.Unlock()
	b := n.engine.NewBatch()
	applied, err := n.machine.Apply(entry, b)
	if err == nil {
		err = n.engine.Apply(b)
	}
	if err == nil && entry.Kind == consensus.EntryBarrier && leader == n.id && entry.Term == term {
		n.serving, n.appliedSeq = term, 0
		err = n.machine.Lead(term, 0)
	}
	if err != nil {
		panic(err)
	}
	var finished []func()
	keptPending := n.pending[:0]
	for _, p := range n.pending {
		switch {
		case p.term > entry.Term || p.term == entry.Term && p.seq > applied.Seq:
			keptPending = append(keptPending, p)
		case p.term == entry.Term && p.seq == applied.Seq && !applied.Void:
			finished = append(finished, func() { p.done(p.resp, uint64(entry.Index), p.err) })
		default:
			finished = append(finished, func() { p.done(nil, 0, kv.ErrLeaderChanged) })
		}
	}
	n.pending = keptPending
	keptWaits := n.waits[:0]
	for _, w := range n.waits {
		if w.index > uint64(entry.Index) {
			keptWaits = append(keptWaits, w)
		} else {
			finished = append(finished, func() { w.done(nil) })
		}
	}
	n.waits = keptWaits
	if n.serving == entry.Term {
		n.appliedSeq = max(n.appliedSeq, applied.Seq)
	}
	for i := 0; i < len(n.revisions); {
		w := n.revisions[i]
		if w.index > uint64(n.machine.Closed()) {
			i++
			continue
		}
		n.revisions = append(n.revisions[:i], n.revisions[i+1:]...)
		finished = append(finished, func() { w.done(nil) })
	}
	finished = append(finished, n.takeReleases()...)
	if n.serving != 0 && len(n.blocked) > 0 {
		n.batches, n.blocked = append(n.batches, n.blocked...), nil
		finished = append(finished, func() {
			n.evaluate()
			for !n.cluster.counter.hold && n.number() {
			}
		})
	}
	subscribers := n.subscribers
	n.mu.Unlock()
	for _, fn := range subscribers {
		fn(&applied)
	}
	for _, f := range finished {
		f()
	}
	return true
}

func (n *node) Leader() (kv.NodeID, uint64) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.cluster.leader, uint64(n.cluster.term)
}

func (n *node) IsLeader() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.serving != 0
}

func (n *node) Propose(req *kv.Request, by kv.Asker, done func(*kv.Response, uint64, error)) (queued bool) {
	if n.cluster.counter != nil {
		return n.proposeNumbered(req, by, done)
	}
	n.mu.Lock()
	if n.serving == 0 {
		n.mu.Unlock()
		done(nil, 0, kv.ErrNotLeader)
		return false
	}
	if n.held != nil {
		hold := *n.held
		*n.held = append(hold, func() { n.Propose(req, by, done) })
		n.mu.Unlock()
		return true
	}
	if !by.Waits() {
		n.mu.Unlock()
		done(nil, 0, kv.ErrTimeout)
		return false
	}
	n.evaluated++
	out := n.machine.Evaluate(req)
	if !out.Effects {
		index := uint64(n.machine.AppliedIndex())
		n.mu.Unlock()
		done(out.Response, index, out.Err)
		return false
	}
	data, seq := n.machine.TakeProposal(0)
	n.pending = append(n.pending, pending{term: n.serving, seq: seq, resp: out.Response, err: out.Err, done: done})
	n.cluster.mu.Lock()
	n.cluster.log = append(n.cluster.log, consensus.Entry{
		Index: consensus.Index(len(n.cluster.log) + 1), Term: n.serving, Kind: consensus.EntryCommand, Data: data,
	})
	n.cluster.mu.Unlock()
	n.mu.Unlock()
	return true
}

func (n *node) ReadIndex(done func(uint64, error)) {
	if !n.IsLeader() {
		done(0, kv.ErrNotLeader)
		return
	}
	n.cluster.mu.Lock()
	index := uint64(len(n.cluster.log))
	n.cluster.mu.Unlock()
	done(index, nil)
}

func (n *node) CompactionHash(_ context.Context, revision kv.Revision) (mvcc.HashSum, kv.Revision, bool, error) {
	hash, kept := n.cluster.keptHashes[revision]
	return mvcc.HashSum(hash), revision - 1, kept, nil
}

func (n *node) LeaseValid() bool {
	n.cluster.mu.Lock()
	lease := n.cluster.lease
	n.cluster.mu.Unlock()
	return lease && n.IsLeader()
}

func (n *node) Renew(req *kv.LeaseKeepAliveRequest, _ bool) (*kv.Response, uint64, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	resp, renewed := n.machine.Renew(req, 0)
	return resp, uint64(n.machine.AppliedIndex()), renewed
}

func (n *node) WaitApplied(index uint64, done func(error)) {
	n.mu.Lock()
	if uint64(n.machine.AppliedIndex()) < index {
		n.waits = append(n.waits, wait{index, done})
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	done(nil)
}

func (n *node) Read(req *kv.Request) (*kv.Response, error) {
	view := n.View()
	defer view.Close()
	if n.onRead != nil {
		defer n.onRead()
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.Read(view, 0, req)
}

func (n *node) ReadAt(req *kv.Request, at kv.Present) (*kv.Response, error) {
	if n.beforeReadAt != nil {
		n.beforeReadAt()
	}
	view := n.View()
	defer view.Close()
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.ReadAt(view, req, at)
}

func (n *node) Unsettled(req *kv.Request, rev kv.Revision) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.Unsettled(req, rev)
}

func (n *node) WaitRevision(rev kv.Revision, done func(error)) {
	n.mu.Lock()
	if n.machine.Closed() < rev {
		n.revisions = append(n.revisions, wait{uint64(rev), done})
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	done(nil)
}

// SettleAt confirms leadership when what is in flight is applied.
func (n *node) SettleAt(rev kv.Revision, done func(uint64, error)) {
	n.mu.Lock()
	if n.serving == 0 {
		n.mu.Unlock()
		done(0, kv.ErrNotLeader)
		return
	}
	term, seq := n.serving, n.machine.Settles(rev)
	settled := func(*kv.Response, uint64, error) {
		n.cluster.mu.Lock()
		leads, index := n.cluster.leader == n.id && n.cluster.term == term, uint64(len(n.cluster.log))
		n.cluster.mu.Unlock()
		if leads {
			done(index, nil)
		} else {
			done(0, kv.ErrLeaderChanged)
		}
	}
	if seq > n.appliedSeq {
		n.pending = append(n.pending, pending{term: term, seq: seq, done: settled})
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	settled(nil, 0, nil)
}

func (n *node) Readable() error { return nil }

func (n *node) Unread(err error) error { return err }

func (n *node) View() *mvcc.View {
	if n.onView != nil {
		defer n.onView()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.machine.View()
}

func (n *node) Replaced(at mvcc.Locator) (kv.KeyValue, mvcc.Locator, bool, error) {
	return n.machine.Replaced(at, n.machine.UnderBulk())
}

func (n *node) Revision() kv.Revision {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.Closed()
}

func (n *node) Compacted() kv.Revision {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.Compacted()
}

func (n *node) Subscribe(fn func(*shard.Applied)) kv.Revision {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subscribers = append(n.subscribers, fn)
	return n.machine.Closed()
}

func (n *node) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	payload := encode(nil)
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.cluster.largest = max(n.cluster.largest, len(payload))
	if n.cluster.block[to] || n.cluster.block[n.id] || n.cluster.mute[n.id] || n.cluster.limit > 0 && len(payload) > n.cluster.limit {
		return false
	}
	n.cluster.frames = append(n.cluster.frames, frame{n.id, to, channel, payload})
	return true
}

func (n *node) Kick(kv.NodeID) {}

// exchange has everything that is on its way arrive and be applied.
func (c *cluster) exchange() {
	for range 3 {
		for id := kv.NodeID(1); id <= 3; id++ {
			c.nodes[id].apply()
		}
		c.deliver()
	}
}

// errorText gives errors the name of their sentinel.
func errorText(err error) string {
	if code := kv.CodeOf(err); code != 0 {
		return kv.ErrorOf(code).Error()
	}
	return err.Error()
}

// responseText says what matters of a response.
func responseText(resp *kv.Response, err error) string {
	switch {
	case err != nil:
		return "error: " + errorText(err)
	case resp == nil:
		return "done"
	case resp.Range != nil:
		text := fmt.Sprintf("revision %d:", resp.Revision)
		for _, row := range resp.Range.KVs {
			text += fmt.Sprintf(" %s=%s@%d", row.Key, row.Value, row.ModRevision)
		}
		return text
	case resp.LeaseTimeToLive != nil:
		return fmt.Sprintf("revision %d: lease %d has %d s", resp.Revision, resp.LeaseTimeToLive.ID, resp.LeaseTimeToLive.GrantedTTLSeconds)
	}
	return fmt.Sprintf("revision %d", resp.Revision)
}

var errNoSuchCall = errors.New("no such call")

// speakNewest has all nodes know of each other that they understand the newest frames.
func speakNewest(c *cluster) {
	for id, n := range c.nodes {
		for other := range c.nodes {
			if other != id {
				n.gateway.PeerUp(other, Dialect{Deadlines: true, Shards: true, Revisions: true})
			}
		}
	}
}

// release is a read that waits for the end of a transaction.
type release struct {
	req  *kv.Request
	rev  kv.Revision
	done func(error)
}

func (n *node) holds(req *kv.Request, rev kv.Revision) bool {
	if n.heldReads != nil {
		return n.heldReads(req, rev)
	}
	return n.machine.Held(req, rev)
}

func (n *node) Held(req *kv.Request, rev kv.Revision) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.holds(req, rev)
}

func (n *node) WaitReleased(req *kv.Request, rev kv.Revision, _ kv.Asker, done func(error)) {
	n.mu.Lock()
	if n.holds(req, rev) {
		n.releases = append(n.releases, release{req, rev, done})
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	done(nil)
}

// takeReleases returns what ends the waits of reads that are held no more. The lock is held.
func (n *node) takeReleases() (finished []func()) {
	n.releases = slices.DeleteFunc(n.releases, func(w release) bool {
		held := n.holds(w.req, w.rev)
		if !held {
			finished = append(finished, func() { w.done(nil) })
		}
		return !held
	})
	return finished
}

func (n *node) Undecided() []kv.UnfinishedTransaction {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.Undecided()
}

func (n *node) Finished() kv.Finished {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.machine.Finished(n.machine.Shard())
}
