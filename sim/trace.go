package sim

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"time"
)

// tracer sums up everything that happens, in order. The sum is taken over numbers, never over text, so that it costs little
// and does not depend on whether anybody reads along.
type tracer struct {
	hash  uint64
	lines io.Writer // nil: nobody reads along
}

// what names what is summed up.
type what uint64

const (
	traceRound what = iota + 1
	traceFrame
	traceDeliver
	traceApplied
	traceRole
	traceRequest
	traceResponse
	traceBatch
	traceFault
	traceStart
	traceCrash
	traceSync
	traceJob
)

const tracePrime = 0x9e3779b97f4a7c15

func (t *tracer) add(values ...uint64) {
	h := t.hash
	for _, v := range values {
		h = bits.RotateLeft64(h^v, 29) * tracePrime
		h ^= h >> 32
	}
	t.hash = h
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint64 { return uint64(crc32.Checksum(b, castagnoli))<<24 | uint64(len(b)) }

// happened sums up an event of a node (0: none).
func (w *world) happened(what what, number int, a, b uint64) {
	w.trace.add(uint64(w.now), uint64(what)<<32|uint64(number), a, b)
}

// line writes for people. Call it only if w.trace.lines is set: making the arguments costs too.
func (w *world) line(format string, args ...any) {
	fmt.Fprintf(w.trace.lines, "%12.6f | %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
}

func (w *world) reading() bool { return w.trace.lines != nil }

func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }
