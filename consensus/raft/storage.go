package raft

import (
	"errors"
	"fmt"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// logStorage is the log and the applied state as the library wants to see them.
//
// The library panics when a read of the log fails in a way it does not expect. So a failure is
// remembered in failed, the library gets an answer of the right shape, and the core gives out
// nothing from then on: a made-up answer never leaves it.
type logStorage struct {
	log       consensus.LogReader
	recent    *recent
	hardState consensus.HardState // as restored
	// applied is the state machine's position; a snapshot is always offered there.
	applied position
	failed  error
}

// position is a point in the log with the membership in force there.
type position struct {
	index  consensus.Index
	term   consensus.Term
	config consensus.Config
}

func (s *logStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return toHardState(s.hardState), toConfState(s.applied.config), nil
}

func (s *logStorage) FirstIndex() (uint64, error) { return uint64(s.log.First()), nil }
func (s *logStorage) LastIndex() (uint64, error)  { return uint64(s.log.Last()), nil }

func (s *logStorage) Term(i uint64) (uint64, error) {
	term, err := s.log.Term(consensus.Index(i))
	switch {
	case err == nil:
		return uint64(term), nil
	case errors.Is(err, consensus.ErrCompacted):
		return 0, etcdraft.ErrCompacted
	case errors.Is(err, consensus.ErrUnavailable):
		return 0, etcdraft.ErrUnavailable
	}
	s.fail(fmt.Errorf("reading the term of entry %d: %w", i, err))
	return 0, nil
}

func (s *logStorage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if found := s.recent.slice(consensus.Index(lo), consensus.Index(hi), int(min(maxSize, 1<<62))); len(found) > 0 {
		return found, nil
	}
	entries, err := s.log.Entries(consensus.Index(lo), consensus.Index(hi), int(min(maxSize, 1<<62)))
	if errors.Is(err, consensus.ErrCompacted) {
		return nil, etcdraft.ErrCompacted
	}
	if err == nil && len(entries) == 0 {
		err = errors.New("the log returned none")
	}
	if err != nil {
		s.fail(fmt.Errorf("reading entries from %d to %d: %w", lo, hi-1, err))
		entries = []consensus.Entry{{Index: consensus.Index(lo)}}
	}
	return toEntries(entries), nil
}

// Snapshot returns the metadata of a snapshot at the applied position. The driver ships the data.
func (s *logStorage) Snapshot() (*raftpb.Snapshot, error) {
	if s.applied.index == 0 {
		return nil, etcdraft.ErrSnapshotTemporarilyUnavailable
	}
	return toSnapshot(&consensus.SnapshotMeta{Index: s.applied.index, Term: s.applied.term, Config: s.applied.config}), nil
}

func (s *logStorage) fail(err error) {
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	}
}
