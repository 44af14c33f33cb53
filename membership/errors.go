package membership

import "errors"

var (
	// ErrLost: what this node stored is lost, or another disk has taken its place. The node must not go on with it; it may come back
	// with empty disks under a new disk ID.
	ErrLost = errors.New("membership: what this node stored is lost, or has been replaced")
	// ErrNoCopy: this node has lost its data, and nobody has any.
	ErrNoCopy = errors.New("membership: no other replica has a good copy")

	// ErrNoReplica: the group is to be on this node, and nobody has a replica of it any more. It says nothing about the disk.
	ErrNoReplica = errors.New("membership: no node has a replica of the group any more: where there was one it was removed")
	// ErrStateLeft: a replica was removed from this node, and rows of its state are still there.
	ErrStateLeft = errors.New("membership: rows of the state of a replica that was removed are still there: delete them first")

	errMessage = errors.New("membership: an identity frame makes no sense")
	errMarks   = errors.New("membership: marks of disks make no sense")
)
