package target

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// MaxObjectBytes is the largest object. Put, PutNew and ReadAt refuse more with ErrTooLarge.
const MaxObjectBytes = 64 << 20

// Target is a place for objects. The names of objects obey CheckName; where a target is a directory, no object's name may be a folder of another's.
// Several goroutines may call all methods at once, except that Close ends the use.
//
// Methods try again what may succeed (network, 5xx, 429, time-outs, truncated bodies) until the context ends or Options.Patience is over, and then
// say what the last try said. Errors name the operation, the object and the place, and hold no secrets.
//
// A target holds no object's bytes but those that the caller gives, and at most a page of names (1,000, or those of one directory) for each List.
type Target interface {
	// Put writes an object, whole or not at all, durably, in place of one of that name. After an error it may have been written or not, and is
	// whole in either case.
	Put(ctx context.Context, name string, data []byte) error
	// PutNew writes an object as Put does if there is none of that name; otherwise ErrExists. A try whose answer was lost and that finds its own
	// bytes there has succeeded: the data of different writers must differ.
	PutNew(ctx context.Context, name string, data []byte) error
	// ReadAt fills p with the bytes of an object from offset on. As with io.ReaderAt, fewer bytes mean an error, which is io.EOF where the object
	// ends. ErrNotFound if there is no such object.
	ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error)
	// Size is the number of bytes of an object; ErrNotFound.
	Size(ctx context.Context, name string) (int64, error)
	// List gives the objects whose names begin with prefix to fn, in the order of their names, byte by byte, each once. An error of fn ends
	// it and is given back. Objects that come or go meanwhile may be left out or not.
	List(ctx context.Context, prefix string, fn func(name string, size int64) error) error
	// Delete removes an object, durably; it is no error if there is none.
	Delete(ctx context.Context, name string) error
	// String is the URL, without secrets.
	String() string
	// Close releases connections and files.
	Close() error
}

// Options of a Target.
type Options struct {
	// Patience is how long a call goes on trying: none begins later than that after the first, or after the last page of List that came. Default: 2 minutes.
	Patience time.Duration
	// StallTimeout ends a try over the network in which less than 64 KiB moved for so long. Default: 20 s.
	StallTimeout time.Duration
	// Rand spreads the pauses between tries. It may be nil.
	Rand *rand.Rand
}

// WithDefaults fills in what is not set.
func (o Options) WithDefaults() Options {
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = 20 * time.Second
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return o
}

// Validate tells what is wrong.
func (o Options) Validate() error {
	switch {
	case o.Patience < 0:
		return fmt.Errorf("backup target: Patience is %s: it must not be negative", o.Patience)
	case o.StallTimeout < 0:
		return fmt.Errorf("backup target: StallTimeout is %s: it must not be negative", o.StallTimeout)
	}
	return nil
}
