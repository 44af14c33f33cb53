// Package transport carries frames and streams between the nodes of a cluster, over
// TCP, plain or with TLS (Options.Security). It contains no protocol decision: it moves bytes, says who they came from, and tells
// what it notices about connections. docs/protocols/peer.md has the bytes.
//
// # Frames
//
// Each node dials each other node and sends its frames on the connection it dialled; it receives on
// those it accepted. Append puts a frame into the peer's buffer, Flush writes all
// buffers with one non-blocking write per peer, and what a socket does not take is written
// by that peer's writer goroutine. So a round of the driver costs one system call per peer,
// whatever the number of groups.
//
// What is promised about frames:
//
//   - Frames that one goroutine appends for one peer arrive in that order, if they arrive.
//   - A frame arrives whole or not at all, and never twice.
//   - When a connection breaks, the frames in flight and in the buffer may be lost: all
//     that were appended before PeerDown. Nothing is sent again on a new connection.
//   - Without a connection, or with a full buffer, Append returns false, and the
//     frame is certainly not sent.
//
// # Streams
//
// A stream is a connection of its own for something large, a snapshot. TCP limits its pace; the
// receiver's verdict comes back to the sender.
package transport
