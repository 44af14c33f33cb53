package liveness

import "errors"

// Errors of the package; compare with errors.Is.
var (
	// ErrMalformed: the bytes are not a message of this protocol.
	ErrMalformed = errors.New("liveness: malformed message")
	// ErrUnknownNode: the node is not among Options.Peers.
	ErrUnknownNode = errors.New("liveness: unknown node")
)
