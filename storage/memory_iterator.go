package storage

import (
	"bytes"
	"fmt"

	"github.com/tidwall/btree"
)

// memoryIterator walks one state, which does not change meanwhile.
type memoryIterator struct {
	engine       *Memory
	state        *memoryState
	iter         btree.IterG[memoryItem]
	lower, upper []byte
	valid        bool
	closed       bool
}

func newMemoryIterator(m *Memory, s *memoryState, lower, upper []byte) *memoryIterator {
	it := &memoryIterator{engine: m, state: s, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
	it.iter.Init(s.tree, false)
	return it
}

// settle decides whether the position that a move arrived at counts.
func (it *memoryIterator) settle(found bool) bool {
	it.valid = found && it.Error() == nil && it.inBounds(it.iter.Item().key)
	return it.valid
}

func (it *memoryIterator) inBounds(key []byte) bool {
	return (it.lower == nil || bytes.Compare(key, it.lower) >= 0) && (it.upper == nil || bytes.Compare(key, it.upper) < 0)
}

func (it *memoryIterator) First() bool {
	if it.lower != nil {
		return it.settle(it.iter.Seek(memoryItem{key: it.lower}))
	}
	return it.settle(it.iter.First())
}

func (it *memoryIterator) Last() bool {
	if it.upper != nil {
		return it.settle(it.before(it.upper))
	}
	return it.settle(it.iter.Last())
}

func (it *memoryIterator) SeekGE(key []byte) bool {
	if it.lower != nil && bytes.Compare(key, it.lower) < 0 {
		key = it.lower
	}
	return it.settle(it.iter.Seek(memoryItem{key: key}))
}

func (it *memoryIterator) SeekLT(key []byte) bool {
	if it.upper != nil && bytes.Compare(key, it.upper) > 0 {
		key = it.upper
	}
	return it.settle(it.before(key))
}

// before moves to the last key below the bound.
func (it *memoryIterator) before(bound []byte) bool {
	if !it.iter.Seek(memoryItem{key: bound}) {
		last := it.iter.Last()
		return last
	}
	return it.iter.Prev()
}

// Next is for long walks: it asks only what can have changed.
func (it *memoryIterator) Next() bool {
	it.valid = it.valid && it.iter.Next() && (it.upper == nil || bytes.Compare(it.iter.Item().key, it.upper) < 0) && it.Error() == nil
	return it.valid
}

func (it *memoryIterator) Prev() bool { return it.valid && it.settle(it.iter.Prev()) }

func (it *memoryIterator) Valid() bool   { return it.valid }
func (it *memoryIterator) Key() []byte   { return it.iter.Item().key }
func (it *memoryIterator) Value() []byte { return it.iter.Item().value }

func (it *memoryIterator) Error() error {
	if it.closed {
		return fmt.Errorf("%w: the iterator", ErrClosed)
	}
	return it.engine.Err()
}

func (it *memoryIterator) Close() error {
	if !it.closed {
		it.closed, it.valid = true, false
		it.iter.Release()
		it.engine.release(it.state)
	}
	return nil
}
