package wal

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options configure a Log.
type Options struct {
	Dir string
	FS  vfs.FS // default: the operating system's
	// SegmentBytes is the size of a segment. Default 16 MiB: the log is rounded up to whole segments, and some are kept unused. The first few are smaller, so that
	// a new node starts at once.
	SegmentBytes int64
	// CacheBytes bounds the recent entries kept in memory. Default 16 MiB.
	CacheBytes int
	// RetainBytes is from when on a group that still needs a few entries of the oldest segment
	// gets them written again at the head, so that the segment can be recycled; from half of it on for groups that are set aside. Default 16 segments.
	RetainBytes int64
	// RewriteBytes is how many bytes one Write writes again at most. Default 256 KiB.
	RewriteBytes int
	// SpareSegments is how many unused segments are kept to be recycled. Default 2.
	SpareSegments int
	// FillBytes is how much of a new segment is written and synced at once. Default 256 KiB.
	FillBytes int
	// Inline prepares segments within Write and not in the background. For
	// tests that must do the same every time.
	Inline   bool
	Listener Listener
}

// Listener hears what happens beside the calls. Functions must return soon and not call the log.
type Listener struct {
	// Waited tells that a Write had to wait for a segment that was not prepared yet.
	Waited func(time.Duration)
	// Problem tells of an error that has no consequence yet: no segment could be prepared
	// in advance, or a surplus file could not be removed.
	Problem func(error)
}

// WithDefaults returns a copy with defaults filled in.
func (o Options) WithDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 16 << 20
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 16 << 20
	}
	if o.RetainBytes == 0 {
		o.RetainBytes = 16 * o.SegmentBytes
	}
	if o.RewriteBytes == 0 {
		o.RewriteBytes = 256 << 10
	}
	if o.FillBytes == 0 {
		o.FillBytes = 256 << 10
	}
	if o.SpareSegments == 0 {
		o.SpareSegments = 2
	}
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Dir == "":
		return fmt.Errorf("wal: the directory of the log is not set")
	case o.SegmentBytes < 2*headerBytes || o.SegmentBytes > maxSegmentBytes || o.SegmentBytes%recordAlignment != 0:
		return fmt.Errorf("wal: segments of %d bytes; they must have %d to %d bytes, a multiple of %d", o.SegmentBytes, 2*headerBytes, maxSegmentBytes, recordAlignment)
	case o.CacheBytes < 0 || o.RetainBytes < 0 || o.RewriteBytes < 1 || o.FillBytes < 1 || o.SpareSegments < 0:
		return fmt.Errorf("wal: a size is negative: %+v", o)
	}
	return nil
}

// firstSegmentBytes is the size of the very first segment; each one after it is twice as large,
// up to Options.SegmentBytes.
const firstSegmentBytes = 1 << 20

func (o Options) sizeOf(generation uint64) int64 {
	size := int64(firstSegmentBytes)
	for g := uint64(1); g < generation && size < o.SegmentBytes; g++ {
		size *= 2
	}
	return min(size, o.SegmentBytes)
}
