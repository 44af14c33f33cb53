package transport

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Errors of the package; compare with errors.Is.
var (
	// ErrClosed: the transport was closed.
	ErrClosed = errors.New("transport: closed")
	// ErrUnknownNode: the node is no peer; see SetPeers.
	ErrUnknownNode = errors.New("transport: unknown node")
	// ErrMalformed: bytes are not what the protocol asks for at this place.
	ErrMalformed = errors.New("transport: malformed data")
	// ErrStreamRejected: the receiver of a stream answered with an error.
	ErrStreamRejected = errors.New("transport: the receiver rejected the stream")
)

// Refusal says why a handshake was refused. The numbers are on the wire: add, never renumber.
type Refusal uint8

// The refusals.
const (
	RefusalNone           Refusal = 0
	RefusalCluster        Refusal = 1 // the caller belongs to another cluster
	RefusalUnknownNode    Refusal = 2 // the caller is not a node of this cluster
	RefusalWrongNode      Refusal = 3 // the caller looks for a node that does not live here
	RefusalVersion        Refusal = 4 // no common format version
	RefusalDuplicate      Refusal = 5 // another live process has the caller's node id
	RefusalBusy           Refusal = 6 // too many streams
	RefusalInvalidRequest Refusal = 7 // a handshake that makes no sense
	RefusalMetadata       Refusal = 8 // the caller's metadata says that the two cannot work together
	RefusalSecurity       Refusal = 9 // the caller does not speak TLS, or its certificate is not that of the node it says it is
	// RefusalRemoved: the caller's node was removed from the cluster, for ever.
	RefusalRemoved Refusal = 10
)

// RefusedError is a refused handshake, as both sides see it. Text is written for the operator.
type RefusedError struct {
	Node    kv.NodeID // the other side; 0 if it did not say who it is
	Address string    // of the other side
	Refusal Refusal
	Text    string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("transport: connection with node %s at %s refused: %s", e.Node, e.Address, e.Text)
}
