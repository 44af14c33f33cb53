package driver

import (
	"sync"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/membership"
)

// request waits to be evaluated, or, once evaluated, for the entry that decides its fate.
type request struct {
	replica *driven
	req     *kv.Request
	by      kv.Asker // nil: nobody in particular
	done    func(resp *kv.Response, applied uint64, err error)
	resp    *kv.Response
	err     error
	begun   bool // a part of what it wants is proposed, and may take effect
	bulk    bool // its effects were put into the log bit by bit
	// granted: whoever asked was told that the prepare has its locks (kv.CommitRequest.Granted).
	granted bool
	// informed: since it came, the sequencer has said how far the store is.
	informed bool
	// sizeBytes is what the request was let in for; see Options.MaxQueuedBytes.
	sizeBytes int
}

// wanted tells whether somebody still waits for the answer, or nobody need: a lease that ends has to end.
func (q *request) wanted() bool {
	return q.by == nil || q.req != nil && q.req.Kind == kv.KindLeaseRelease || q.by.Waits()
}

func (q *request) finish(applied consensus.Index) {
	if q.err == nil && applied > 0 && q.by != nil && q.by.Elsewhere() {
		q.replica.driver.tellCommitted() // it is answered there when it is applied there
	}
	q.done(q.resp, uint64(applied), q.err)
}

// groupMessage is a message of a peer for one of our groups. If the sender vouched that it follows this
// replica, epoch is that of its promise to this node at the time of sending.
type groupMessage struct {
	group   consensus.GroupID
	from    kv.NodeID // the node it came from
	epoch   liveness.Epoch
	sender  membership.Sender // zero if it did not say
	life    uint64            // of the replica that it came from, on its disk
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
	closed   bool // nothing is taken any more
}

type contents struct {
	messages   []groupMessage
	heartbeats []nodeFrame
	requests   []request
	calls      []call
}

// call is something to be done in the driver's goroutine. When the driver has stopped, refused is called
// instead, if there is one.
type call struct {
	do      func()
	refused func(error)
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

// takeRequests returns the requests only.
func (i *inbox) takeRequests() []request {
	i.mu.Lock()
	defer i.mu.Unlock()
	taken := i.contents.requests
	i.contents.requests = nil
	return taken
}

func (i *inbox) release(c contents) {
	c.reset()
	i.mu.Lock()
	i.spare = c
	i.mu.Unlock()
}

// urgent tells whether something has arrived since the last take that does not see to its round by itself: requests
// wake the driver when it can do something for them.
func (i *inbox) urgent() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := &i.contents
	return len(c.messages)+len(c.heartbeats)+len(c.calls) > 0
}

// waiting tells whether something has arrived since the last take.
func (i *inbox) waiting() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.contents.empty()
}

// close refuses everything from now on, and returns what had arrived. Whoever adds something learns
// whether it was taken, so that everything is answered exactly once.
func (i *inbox) close() contents {
	i.mu.Lock()
	defer i.mu.Unlock()
	taken := i.contents
	i.contents, i.spare, i.closed = contents{}, contents{}, true
	return taken
}

func (i *inbox) addCall(c call) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.contents.calls = append(i.contents.calls, c)
	}
	return !i.closed
}

func (i *inbox) addRequest(q request) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.contents.requests = append(i.contents.requests, q)
	}
	return !i.closed
}

func (i *inbox) addMessages(m []groupMessage) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.contents.messages = append(i.contents.messages, m...)
	}
	return !i.closed
}

// addReceived adds those messages that are taken.
func (i *inbox) addReceived(m []groupMessage, taken func(*groupMessage) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return
	}
	for at := range m {
		if taken(&m[at]) {
			i.contents.messages = append(i.contents.messages, m[at])
		}
	}
}

func (i *inbox) addHeartbeat(f nodeFrame) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.contents.heartbeats = append(i.contents.heartbeats, f)
	}
}
