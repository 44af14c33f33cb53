package watch

import "errors"

var (
	// ErrEmptyRange refuses a watch on a range without keys. The text is etcd's.
	ErrEmptyRange = errors.New("mvcc: watcher range is empty")
	// ErrDuplicateID refuses a watch whose chosen ID is in use. The text is etcd's.
	ErrDuplicateID = errors.New("mvcc: duplicate watch ID provided on the WatchStream")
	// ErrClosed is returned by a stream that was closed.
	ErrClosed = errors.New("watch: the stream is closed")
)
