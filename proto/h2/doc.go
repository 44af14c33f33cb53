// Package h2 is the server's side of one HTTP/2 connection that carries gRPC: frames in, calls out, answers in, bytes out.
//
// It is a core: no goroutine, lock, clock or socket. A shell reads frames (http2.Framer) and hands them to Conn.Frame, takes the events, answers, and
// writes what Conn.Produce gives it. See RFC 9113, and "gRPC over HTTP2" in gRPC's documentation.
//
// # Memory
//
// Everything that a client makes the connection hold is reserved before (Options.Memory), and given back when it is gone:
//
//   - an open stream, with those headers that are of interest. All others are dropped as soon as they are read.
//   - a request, in full, as soon as its length is announced. Only so much of it is allocated as has come.
//   - what the shell reserves for a call while it is evaluated, and for its answer (Stream.Reserve), until the answer has been sent.
//
// What does not fit ends its call with RESOURCE_EXHAUSTED; the connection lives on. A client may send up to StreamWindow bytes of a stream
// before anybody has asked for them, and they are reserved as well. Windows are opened for what is reserved and no more, so that a client
// that keeps to HTTP/2 cannot send what there is no room for, and one that does not is cut off.
//
// Answers are encoded piece by piece while they are sent (Message.Next). What has been produced and not been written is bounded by the shell: it
// reads no more frames from a client that does not take what was produced for it.
package h2
