package storage

import (
	"bytes"
	"fmt"

	"github.com/tidwall/btree"
)

// memoryState is the content after a batch. It does not change while it has readers.
type memoryState struct {
	sequence uint64 // number of batches applied so far
	tree     *btree.BTreeG[memoryItem]
	bytes    int64
	readers  int
}

type memoryItem struct{ key, value []byte }

// copy returns a state that can change while s stays as it is.
func (s *memoryState) copy() *memoryState {
	return &memoryState{sequence: s.sequence, tree: s.tree.IsoCopy(), bytes: s.bytes}
}

// readAgain adds a reader to a state that has one.
func (m *Memory) readAgain(s *memoryState) *memoryState {
	m.mu.Lock()
	s.readers++
	m.mu.Unlock()
	return s
}

func (m *Memory) release(s *memoryState) {
	m.mu.Lock()
	s.readers--
	m.mu.Unlock()
}

func lessItem(a, b memoryItem) bool { return bytes.Compare(a.key, b.key) < 0 }

func (s *memoryState) get(key, dst []byte) ([]byte, bool) {
	item, found := s.tree.Get(memoryItem{key: key})
	return append(dst, item.value...), found
}

// apply changes the state.
func (s *memoryState) apply(changes []change) {
	s.sequence++
	for _, c := range changes {
		switch c.kind {
		case changeSet:
			s.set(c.key, c.value)
		case changeDelete:
			s.delete(c.key)
		case changeDeleteRange:
			s.deleteRange(c.key, c.value)
		}
	}
}

func (s *memoryState) set(key, value []byte) {
	if old, replaced := s.tree.Set(memoryItem{key, value}); replaced {
		s.bytes -= old.sizeBytes()
	}
	s.bytes += int64(len(key) + len(value))
}

func (s *memoryState) delete(key []byte) {
	if old, found := s.tree.Delete(memoryItem{key: key}); found {
		s.bytes -= old.sizeBytes()
	}
}

func (s *memoryState) deleteRange(lower, upper []byte) {
	var keys [][]byte
	s.tree.Ascend(memoryItem{key: lower}, func(item memoryItem) bool {
		if bytes.Compare(item.key, upper) >= 0 {
			return false
		}
		keys = append(keys, item.key)
		return true
	})
	for _, key := range keys {
		s.delete(key)
	}
}

func (i memoryItem) sizeBytes() int64 { return int64(len(i.key) + len(i.value)) }

// makeDurable never goes back: a later Ingest may have made more durable already.
func (m *Memory) makeDurable(s *memoryState) {
	if s.sequence <= m.durable.sequence {
		return
	}
	m.durable = s
	if m.oldest.sequence <= s.sequence {
		m.oldest = s
	}
	for len(m.recent) > 0 && m.recent[0].sequence <= s.sequence {
		m.recent[0] = memoryChanges{}
		m.recent = m.recent[1:]
	}
}

type memorySnapshot struct {
	engine *Memory
	state  *memoryState
	closed bool
}

func (s *memorySnapshot) Get(key, dst []byte) ([]byte, bool, error) {
	if s.closed {
		return dst, false, fmt.Errorf("%w: the snapshot", ErrClosed)
	}
	if err := s.engine.Err(); err != nil {
		return dst, false, err
	}
	value, found := s.state.get(key, dst)
	return value, found, nil
}

func (s *memorySnapshot) NewIterator(lower, upper []byte) Iterator {
	return newMemoryIterator(s.engine, s.engine.readAgain(s.state), lower, upper)
}

func (s *memorySnapshot) Close() error {
	if !s.closed {
		s.closed = true
		s.engine.release(s.state)
		s.engine.snapshots.Add(-1)
	}
	return nil
}
