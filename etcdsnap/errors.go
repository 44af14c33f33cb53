package etcdsnap

import "errors"

// Why a snapshot is refused. The errors of this package wrap these, and say what was found and what to do.
var (
	ErrTooLarge  = errors.New("the store is too large for a snapshot of etcd")
	ErrNoHash    = errors.New("the snapshot has no hash behind it")
	ErrWrongHash = errors.New("the snapshot is damaged: its hash is not that of its content")
	ErrNotBolt   = errors.New("the file is not a snapshot of etcd")
	ErrDamaged   = errors.New("the snapshot is damaged")
	ErrNewer     = errors.New("the snapshot was written by a newer version of etcd")
)
