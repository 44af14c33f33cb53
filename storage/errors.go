package storage

import "errors"

// ErrClosed is wrapped by what every call returns after Close.
var ErrClosed = errors.New("storage: closed")

// ErrUnusable is wrapped by what every call returns after a write to disk failed:
// nobody knows any more what the disk holds, so nothing is retried. The cause is
// wrapped too. Restart the node to go on from what is known to be durable.
var ErrUnusable = errors.New("storage: unusable after a failed write")
