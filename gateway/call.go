package gateway

import (
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Call is one request of a client. Done is called exactly once, from any goroutine or before
// Submit returns, and must not block. A Call is used once.
type Call struct {
	Req *kv.Request
	// Deadline ends the call with kv.ErrTimeout; Options.RequestTimeout does so anyway.
	Deadline time.Time
	// RequireLeader ends the call with kv.ErrNoLeader at once when no leader is known.
	RequireLeader bool
	// Hurried: more calls come at once, so that it does not pay to do the work for this one alone.
	Hurried bool
	Done    func(*kv.Response, error)

	gateway  *Gateway
	answered atomic.Bool
	// costBytes is what the call was admitted for: Options.Space.
	costBytes int64
	read      bool // asks for no effect: may be asked again
	// ready, for a call without a request: the barrier was passed.
	ready func(error)

	evaluations int // that came to nothing; one leader at a time has the call

	// Guarded by the gateway's lock.
	state     callState
	id        uint64
	sentTo    kv.NodeID
	sizeBytes int
	// Where barriers have it.
	at    int
	asked bool
	// expires is set once, before the call is handed to anybody. 0: the call was answered in place.
	expires time.Duration
	// Links of the wheel.
	previous, following *Call
	slot                int
}

type callState uint8

const (
	callIdle    callState = iota
	callQueued            // in the forwarder's queue, certainly not sent
	callSent              // in the forwarder's in-flight table
	callBarrier           // in barriers
	callLocal             // with the local replica
)

// freeAnswerBytes of an answer that comes from elsewhere are not counted: there is room for as much where the request is.
const freeAnswerBytes = 1 << 10

// pays reserves for an answer that comes from another node.
func (c *Call) pays(bytes int) bool {
	return c.Req.Memory == nil || bytes <= freeAnswerBytes || c.Req.Memory.Reserve(int64(bytes))
}
