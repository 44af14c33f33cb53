package lsm

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/quoratedb/quorate/storage"
)

// iterator hides two things of Pebble's: what a relative move does when the iterator is
// not on a key, and values that could fail to load.
type iterator struct {
	engine  *Engine
	iter    *pebble.Iterator // nil if problem is set or after Close
	valid   bool
	problem error
}

func newIterator(e *Engine, r pebble.Reader, lower, upper []byte) *iterator {
	iter, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return &iterator{engine: e, problem: e.readError(err)}
	}
	return &iterator{engine: e, iter: iter}
}

// settle decides whether the position that a move arrived at counts.
func (it *iterator) settle(found bool) bool {
	it.valid = found && it.engine.failure.err() == nil
	return it.valid
}

func (it *iterator) usable() bool { return it.iter != nil && it.problem == nil }

func (it *iterator) First() bool { return it.usable() && it.settle(it.iter.First()) }
func (it *iterator) Last() bool  { return it.usable() && it.settle(it.iter.Last()) }

func (it *iterator) SeekGE(key []byte) bool { return it.usable() && it.settle(it.iter.SeekGE(key)) }
func (it *iterator) SeekLT(key []byte) bool { return it.usable() && it.settle(it.iter.SeekLT(key)) }

func (it *iterator) Next() bool { return it.valid && it.settle(it.iter.Next()) }
func (it *iterator) Prev() bool { return it.valid && it.settle(it.iter.Prev()) }

func (it *iterator) Valid() bool { return it.valid }
func (it *iterator) Key() []byte { return it.iter.Key() }

func (it *iterator) Value() []byte {
	value, err := it.iter.ValueAndErr()
	if err != nil {
		it.problem, it.valid = it.engine.readError(err), false
	}
	return value
}

func (it *iterator) Error() error {
	switch {
	case it.problem != nil:
		return it.problem
	case it.engine.failure.err() != nil:
		return it.engine.failure.err()
	case it.iter == nil:
		return fmt.Errorf("%w: the iterator", storage.ErrClosed)
	}
	if err := it.iter.Error(); err != nil {
		return it.engine.readError(err)
	}
	return nil
}

// Close returns what Error would have.
func (it *iterator) Close() error {
	if it.iter == nil {
		return nil
	}
	err := it.Error()
	it.valid = false
	if closeErr := it.iter.Close(); err == nil && closeErr != nil {
		err = it.engine.readError(closeErr)
	}
	it.iter = nil
	it.engine.settle()
	return err
}

type snapshot struct {
	engine   *Engine
	snapshot *pebble.Snapshot // nil if problem is set or after Close
	problem  error
}

func (s *snapshot) err() error {
	switch {
	case s.problem != nil:
		return s.problem
	case s.snapshot == nil:
		return fmt.Errorf("%w: the snapshot", storage.ErrClosed)
	}
	return s.engine.err()
}

func (s *snapshot) Get(key, dst []byte) ([]byte, bool, error) {
	if err := s.err(); err != nil {
		return dst, false, err
	}
	return get(s.engine, s.snapshot, key, dst)
}

func (s *snapshot) NewIterator(lower, upper []byte) storage.Iterator {
	if err := s.err(); err != nil {
		return &iterator{engine: s.engine, problem: err}
	}
	return newIterator(s.engine, s.snapshot, lower, upper)
}

func (s *snapshot) Close() error {
	if s.snapshot == nil {
		return nil
	}
	err := s.snapshot.Close()
	s.snapshot = nil
	s.engine.snapshots.Add(-1)
	s.engine.settle()
	return err
}
