package transport

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Channel says who a frame is for. The numbers are on the wire, and belong to the packages whose frames they are: replica and
// gateway.
type Channel uint8

// channelControl is the transport's own channel.
const channelControl Channel = 0

// PeerInfo is what a peer said about itself when it was connected to.
type PeerInfo struct {
	Name string
	// Instance is random and new with each start of the peer's process.
	Instance uint64
	// FormatVersion is the highest that both sides speak.
	FormatVersion uint16
	// Metadata is the peer's Options.Metadata.
	Metadata []byte
}

// Handler takes what comes in. All methods are called from the transport's goroutines and
// concurrently for different nodes; while one blocks, nothing more is read from that node.
type Handler interface {
	// Receive takes a frame; payload belongs to the handler. Frames of one connection
	// come one after the other, in order.
	Receive(from kv.NodeID, channel Channel, payload []byte)
	// ReceiveDone is called once after all the frames of a burst: when the next frame has
	// not fully arrived yet.
	ReceiveDone(from kv.NodeID)
	// PeerUp tells that the connection for frames to the node exists.
	PeerUp(node kv.NodeID, info PeerInfo)
	// PeerDown with refused=false tells that it broke; frames not answered may be lost. With
	// refused=true it tells that a new connection was refused, so that no process listens
	// there: the node's process died. Before the next PeerUp each comes at most once.
	// PeerUp and PeerDown of one node come from one goroutine, frames from another: a
	// last frame may still come after PeerDown.
	PeerDown(node kv.NodeID, refused bool)
	// PeerReturned tells that the node's process has connected to this one again: what it sent on its connection before may be lost. It comes between the last
	// frame of that one and the first of the new one.
	PeerReturned(node kv.NodeID)
	// ReceiveStream reads a stream to its end (io.EOF) and returns when what was in it is safe. The
	// error text goes back to the sender.
	ReceiveStream(from kv.NodeID, name string, stream io.Reader) error
}

// Listener is told what an operator may want to know. Any func may be nil. They are called
// from the transport's goroutines and must be quick.
type Listener struct {
	// Connected: a connection for frames to the node was made.
	Connected func(node kv.NodeID, address string, info PeerInfo)
	// Disconnected: it broke; droppedBytes were in the buffer.
	Disconnected func(node kv.NodeID, address string, reason error, droppedBytes int)
	// DialFailed: the node cannot be reached. Called once per outage and reason.
	DialFailed func(node kv.NodeID, reason error)
	// RefusedBy: the node refused this one. Called once per outage and reason.
	RefusedBy func(refused *RefusedError)
	// Refused: this node refused a caller.
	Refused func(refused *RefusedError)
	// Accepted: a node connected to this one, for frames.
	Accepted func(node kv.NodeID, address string, info PeerInfo)
	// ReceiveFailed: a connection from the node ended with something other than a clean close. A bad
	// frame (ErrMalformed) is among these.
	ReceiveFailed func(node kv.NodeID, address string, reason error)
	// FrameTooLarge: a frame for the node was above Options.MaxFrameBytes and was not sent.
	FrameTooLarge func(node kv.NodeID, channel Channel, sizeBytes int)
	// CallerDropped: there were more callers that had not greeted than Options.MaxCallers, and this one had waited longest. dropped
	// counts them since Open.
	CallerDropped func(address string, dropped int64)
	// AcceptFailed: the listening socket gave an error; accepting goes on.
	AcceptFailed func(reason error)
}

// Options configures a Transport.
type Options struct {
	Cluster kv.ClusterID
	Self    kv.NodeID
	Name    string
	// Instance tells this process apart from others with the same node id: random and new with
	// each start, not 0.
	Instance uint64
	// MinFormatVersion to MaxFormatVersion is what this node understands. Default 1 to 1.
	MinFormatVersion, MaxFormatVersion uint16
	// Metadata is given to peers in PeerInfo. At most 32 KiB.
	Metadata []byte
	// JudgeMetadata, if set, tells why a caller with this metadata is to be refused; empty: it is not.
	JudgeMetadata func(metadata []byte) string
	// ListenAddrs are host:port. Port 0 takes a free one (Transport.Addrs).
	ListenAddrs []string
	// Peers are the other nodes, each with its addresses as host:port, tried in turn, and Removed those that will never be one again, at the start; see
	// Transport.SetPeers.
	Peers    map[kv.NodeID][]string
	Removed  []kv.NodeID
	Handler  Handler
	Listener Listener
	// Lists, if set, keeps the list of members. Without it this node neither has one nor takes one.
	Lists Lists
	// Security, if set, is TLS for all connections: everybody here speaks it, or nobody does.
	Security Security
	// Seed of the jitter of the dial backoff.
	Seed int64

	// MaxFrameBytes bounds a frame's payload. Default 32 MiB.
	MaxFrameBytes int
	// MaxBufferBytes bounds what waits for one peer. Default 64 MiB.
	MaxBufferBytes int
	// MaxStreams bounds the streams received at a time. Default 8.
	MaxStreams int
	// MaxCallers bounds the accepted connections whose caller has not greeted yet. Default 128.
	MaxCallers int
	// StreamTimeout bounds how long the sender of a stream may take for one chunk, 256 KiB at most. Default 5 s.
	StreamTimeout time.Duration
	// DialTimeout bounds one attempt to connect. Default 1 s.
	DialTimeout time.Duration
	// HandshakeTimeout bounds the handshake. Default 5 s.
	HandshakeTimeout time.Duration
	// BackoffMin and BackoffMax bound the pause between attempts. Default 50 ms and 1 s.
	BackoffMin, BackoffMax time.Duration
	// DeadAfter is how long sent data may stay unacknowledged by the peer's kernel, and how long
	// a writer may make no progress, until the connection counts as broken. Default 4 s.
	DeadAfter time.Duration
	// IdentityProbe is how long a connected process has to prove that it lives when
	// another one comes with its node id. Default 1 s.
	IdentityProbe time.Duration
}

const (
	maxNameBytes     = 1 << 10
	maxMetadataBytes = 32 << 10
)

// WithDefaults returns a copy with every zero field set.
func (o Options) WithDefaults() Options {
	o.MinFormatVersion = cmp.Or(o.MinFormatVersion, 1)
	o.MaxFormatVersion = cmp.Or(o.MaxFormatVersion, max(1, o.MinFormatVersion))
	o.MaxFrameBytes = cmp.Or(o.MaxFrameBytes, 32<<20)
	o.MaxBufferBytes = cmp.Or(o.MaxBufferBytes, 64<<20)
	o.MaxStreams = cmp.Or(o.MaxStreams, 8)
	o.MaxCallers = cmp.Or(o.MaxCallers, 128)
	o.StreamTimeout = cmp.Or(o.StreamTimeout, 5*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, time.Second)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, 5*time.Second)
	o.BackoffMin = cmp.Or(o.BackoffMin, 50*time.Millisecond)
	o.BackoffMax = cmp.Or(o.BackoffMax, time.Second)
	o.DeadAfter = cmp.Or(o.DeadAfter, 4*time.Second)
	o.IdentityProbe = cmp.Or(o.IdentityProbe, time.Second)
	return o
}

// Validate tells what is wrong with the options, after WithDefaults.
func (o Options) Validate() error {
	switch {
	case o.Cluster == 0 || o.Self == 0 || o.Instance == 0:
		return errors.New("transport: Options needs Cluster, Self and Instance")
	case o.Handler == nil:
		return errors.New("transport: Options.Handler is not set")
	case len(o.ListenAddrs) == 0:
		return errors.New("transport: there is no address to listen on for peers (--listen-peer-urls)")
	case len(o.Name) > maxNameBytes:
		return fmt.Errorf("transport: the node's name has %d bytes, at most %d are possible (--name)", len(o.Name), maxNameBytes)
	case len(o.Metadata) > maxMetadataBytes:
		return fmt.Errorf("transport: the metadata has %d bytes, at most %d are possible", len(o.Metadata), maxMetadataBytes)
	case o.MinFormatVersion > o.MaxFormatVersion:
		return fmt.Errorf("transport: format versions %d to %d are no range", o.MinFormatVersion, o.MaxFormatVersion)
	case o.MaxFrameBytes < 1 || o.MaxFrameBytes > 1<<30:
		return fmt.Errorf("transport: a frame limit of %d bytes is not between 1 and 1 GiB", o.MaxFrameBytes)
	case o.MaxBufferBytes < o.MaxFrameBytes+frameHeaderBytes:
		return fmt.Errorf("transport: a buffer of %d bytes cannot hold a frame of %d", o.MaxBufferBytes, o.MaxFrameBytes)
	case o.BackoffMin <= 0 || o.BackoffMax < o.BackoffMin:
		return fmt.Errorf("transport: a dial backoff of %v to %v is no range", o.BackoffMin, o.BackoffMax)
	case o.DialTimeout <= 0 || o.HandshakeTimeout <= 0 || o.DeadAfter <= 0 || o.IdentityProbe <= 0 || o.StreamTimeout <= 0 || o.MaxStreams < 0 || o.MaxCallers < 0:
		return errors.New("transport: timeouts and limits must be positive")
	case o.IdentityProbe >= o.HandshakeTimeout:
		return fmt.Errorf("transport: the identity probe of %v must end before the handshake's time of %v", o.IdentityProbe, o.HandshakeTimeout)
	}
	return validatePeers(o.Self, o.Peers)
}
