package membership

import "errors"

var (
	// ErrLost: what this node stored is lost, or another disk has taken its place. The node must not go on with it; it may come back
	// with empty disks under a new disk ID.
	ErrLost = errors.New("membership: what this node stored is lost, or has been replaced")
	// ErrNoCopy: this node has lost its data, and nobody has any.
	ErrNoCopy = errors.New("membership: no other replica has a good copy")

	errMessage = errors.New("membership: an identity frame makes no sense")
	errMarks   = errors.New("membership: marks of disks make no sense")
)
