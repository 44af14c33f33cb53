package workload

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// Errors that a client's own side gives, beside those of the nodes.
var (
	// ErrConnection: the connection to the node broke, or there is none; a request may have taken effect.
	ErrConnection = errors.New("workload: the connection broke")
	// ErrClientTimeout: the client waited long enough; a request may have taken effect, or may yet.
	ErrClientTimeout = errors.New("workload: the client gave up waiting")
	// ErrEnded: the run is over; the client should return.
	ErrEnded = errors.New("workload: the run is over")
)

// Client is one user of the cluster, as a workload sees it. The simulator makes real ones; a fake one serves the tests of the oracle. A workload's code
// runs as a coroutine: a call that waits lets virtual time pass, and nothing else runs in between calls. It must not keep anything between clients that
// it does not guard by what the store answers. Every call is recorded in the history that the oracle checks.
type Client interface {
	// Number counts the clients of the run from 1. Nodes are numbered from 1 to Nodes.
	Number() int
	Nodes() int
	// Now is the true virtual time since the beginning of the run; no node's clock shows it.
	Now() time.Duration
	// Rand is this client's own.
	Rand() *rand.Rand
	// Sleep lets time pass.
	Sleep(time.Duration) error
	// Do asks a node and waits for its answer, at most timeout (0: 5 s). The error is that of the node, ErrConnection,
	// ErrClientTimeout, or ErrEnded.
	Do(node int, req *kv.Request, timeout time.Duration) (*kv.Response, error)
	// List is Do for a range that the node reads portion by portion, of about so many bytes; 0: by RangeStream. Linearizable ones are answered by a
	// leader that has a lease, and refused by others.
	List(node int, req *kv.Request, portionBytes int64, timeout time.Duration) (*kv.Response, error)
	// Watch opens a stream of watches at a node. Streams do not survive the node's process or the connection.
	Watch(node int) (WatchStream, error)
	// Ended tells that the client should finish soon: it is asked to stop before the cluster is checked.
	Ended() bool
	// Mark counts that something worth covering happened.
	Mark(name string)
	// Fail ends the run: the workload has seen what must not be.
	Fail(format string, args ...any)
}

// WatchStream is a client's stream of watches.
type WatchStream interface {
	// Create, Cancel and Progress send and do not wait.
	Create(watch.CreateRequest)
	Cancel(watch.ID)
	Progress()
	// Next waits for the next batch, at most timeout: then ErrClientTimeout. After ErrConnection the stream is dead.
	Next(timeout time.Duration) (watch.Batch, error)
	Close()
}
