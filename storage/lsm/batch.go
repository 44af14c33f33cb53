package lsm

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// entryOverheadBytes is what an entry costs in a memtable beyond key and value: the node of
// the skip list and the trailer, on average.
const entryOverheadBytes = 64

type batch struct {
	batch *pebble.Batch
	// problem is the first error of a change. Pebble reports none for a batch in memory, but could.
	problem error
}

func (b *batch) note(err error) {
	if err != nil && b.problem == nil {
		b.problem = err
	}
}

func (b *batch) Set(key, value []byte) { b.note(b.batch.Set(key, value, nil)) }
func (b *batch) Delete(key []byte)     { b.note(b.batch.Delete(key, nil)) }

func (b *batch) DeleteRange(lower, upper []byte) {
	if bytes.Compare(lower, upper) < 0 {
		b.note(b.batch.DeleteRange(lower, upper, nil))
	}
}

func (b *batch) Count() int     { return int(b.batch.Count()) }
func (b *batch) SizeBytes() int { return b.batch.Len() }

func (b *batch) memTableBytes() int { return b.batch.Len() + int(b.batch.Count())*entryOverheadBytes }

func (b *batch) Reset() {
	b.batch.Reset()
	b.problem = nil
}

// Close gives the memory back to a pool. The batch must not be used any more.
func (b *batch) Close() {
	if b.batch != nil {
		_ = b.batch.Close() // only an iterator on an indexed batch could fail
		b.batch = nil
	}
}
