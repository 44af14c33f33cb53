package replica

import (
	"sync"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

// request waits to be evaluated, or, once evaluated, for the entry that decides its fate.
type request struct {
	replica *Replica
	req     *kv.Request
	done    func(resp *kv.Response, applied uint64, err error)
	resp    *kv.Response
	err     error
}

func (q *request) finish(applied consensus.Index) { q.done(q.resp, uint64(applied), q.err) }

// groupMessage is a message of a peer for one of our groups. If the sender vouched that it follows this
// replica, epoch is that of its promise to this node at the time of sending.
type groupMessage struct {
	group   consensus.GroupID
	epoch   liveness.Epoch
	message consensus.Message
	staged  *stagedSnapshot
}

// nodeFrame is a heartbeat or an answer to one.
type nodeFrame struct {
	from    kv.NodeID
	payload []byte
}

// inbox is where everything that comes from outside waits for the next round. The slices
// are swapped, not copied, so that filling one never waits for a round.
type inbox struct {
	mu       sync.Mutex
	contents contents
	spare    contents
}

type contents struct {
	messages   []groupMessage
	heartbeats []nodeFrame
	requests   []request
	calls      []func()
}

func (c *contents) empty() bool {
	return len(c.messages) == 0 && len(c.heartbeats) == 0 && len(c.requests) == 0 && len(c.calls) == 0
}

// reset forgets the contents and keeps the memory.
func (c *contents) reset() {
	clear(c.messages)
	clear(c.heartbeats)
	clear(c.requests)
	clear(c.calls)
	c.messages, c.heartbeats = c.messages[:0], c.heartbeats[:0]
	c.requests, c.calls = c.requests[:0], c.calls[:0]
}

// take returns what has arrived; the caller gives it back with release.
func (i *inbox) take() contents {
	i.mu.Lock()
	defer i.mu.Unlock()
	taken := i.contents
	i.contents, i.spare = i.spare, contents{}
	return taken
}

func (i *inbox) release(c contents) {
	c.reset()
	i.mu.Lock()
	i.spare = c
	i.mu.Unlock()
}

// waiting tells whether something has arrived since the last take.
func (i *inbox) waiting() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.contents.empty()
}

func (i *inbox) call(f func()) {
	i.mu.Lock()
	i.contents.calls = append(i.contents.calls, f)
	i.mu.Unlock()
}

func (i *inbox) addRequest(q request) {
	i.mu.Lock()
	i.contents.requests = append(i.contents.requests, q)
	i.mu.Unlock()
}

func (i *inbox) addMessages(m []groupMessage) {
	i.mu.Lock()
	i.contents.messages = append(i.contents.messages, m...)
	i.mu.Unlock()
}

func (i *inbox) addHeartbeat(f nodeFrame) {
	i.mu.Lock()
	i.contents.heartbeats = append(i.contents.heartbeats, f)
	i.mu.Unlock()
}
