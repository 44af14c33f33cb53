package h2

import (
	"cmp"
	"errors"
	"math"
	"time"
)

// Memory is what a connection may hold: an account of package budget. The methods do not block.
type Memory interface {
	// Reserve takes n bytes, or none and returns false.
	Reserve(n int64) bool
	Release(n int64)
	// Force takes n bytes that are held already, whether they fit or not.
	Force(n int64)
	// Tight tells whether so much is used that one should hold less.
	Tight() bool
}

// Options of a Conn.
type Options struct {
	Memory Memory
	// MaxMessageBytes bounds a request.
	MaxMessageBytes int
	// MaxStreams bounds the calls in flight, those that the client has given up and that are not over included.
	MaxStreams uint32
	// MaxHeaderBytes bounds the headers of a call as HTTP/2 counts them: 32 bytes a field and its text. The shell's framer must have the same limit.
	MaxHeaderBytes uint32
	// StreamWindow is what a client may send on a stream before it is asked for more, ConnectionWindow on all streams.
	StreamWindow, ConnectionWindow uint32
	// Keep are the names of the headers that Stream.Header knows, in small letters.
	Keep []string
	// Clients that send pings more often are sent away; see ping.go.
	PingMinInterval time.Duration
}

// WithDefaults returns a copy with defaults for what is not set.
func (o Options) WithDefaults() Options {
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 2<<20)
	o.MaxStreams = cmp.Or(o.MaxStreams, 1<<16)
	o.MaxHeaderBytes = cmp.Or(o.MaxHeaderBytes, 64<<10)
	o.StreamWindow = cmp.Or(o.StreamWindow, 64<<10)
	o.ConnectionWindow = cmp.Or(o.ConnectionWindow, 1<<20)
	o.PingMinInterval = cmp.Or(o.PingMinInterval, 5*time.Second)
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Memory == nil:
		return errors.New("h2: Options.Memory is missing")
	case o.MaxMessageBytes < 1 || o.MaxMessageBytes > math.MaxInt32-maxWindow/4:
		return errors.New("h2: Options.MaxMessageBytes must be from 1 to about 1.5 GiB")
	case o.StreamWindow < 1<<14 || o.StreamWindow > maxWindow/4 || o.ConnectionWindow < o.StreamWindow || o.ConnectionWindow > maxWindow/4:
		return errors.New("h2: a window must have 16 KiB to 512 MiB, and that of the connection no less than that of a stream")
	}
	return nil
}
