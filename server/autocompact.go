package server

import (
	"errors"
	"time"

	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/kv"
)

// compactByItself compacts history as the policy says, wherever the system shard is led. Every node takes samples.
func (s *Server) compactByItself() {
	core, err := autocompact.New(s.options.Cluster.AutoCompaction, s.clock(), s.revision())
	if err != nil {
		s.fail(err)
		return
	}
	timer := time.NewTimer(core.Next() - s.clock())
	defer timer.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-timer.C:
		}
		leads := s.leaderOf(kv.SystemShard) == s.options.NodeID() && !s.leaving.Load()
		if at, compact := core.Wake(s.clock(), s.revision(), leads); compact {
			core.Ended(s.clock(), s.revision(), s.compactAt(at))
		}
		timer.Reset(core.Next() - s.clock())
	}
}

// compactAt tells whether history is compacted at the revision, or above it, by whomever.
func (s *Server) compactAt(at kv.Revision) bool {
	err := s.submit(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at}})
	if err != nil && !errors.Is(err, kv.ErrCompacted) {
		s.logger.Warn("compacting history automatically failed; it is tried again", "revision", at, "error", err)
		return false
	}
	s.logger.Info("compacted history automatically", "revision", at)
	return true
}
