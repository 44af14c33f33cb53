package server

import (
	"context"
	"time"

	"github.com/quoratedb/quorate/corruption"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/transport"
)

// channelHashes is the transport's channel for questions about hashes. Package driver has the list of the others.
const channelHashes transport.Channel = 9

// hashQuestion waits for the answer of one node.
type hashQuestion struct {
	to     kv.NodeID
	answer chan corruption.Answer // has room for it
}

// handleHashes takes a frame of another node.
func (s *Server) handleHashes(from kv.NodeID, payload []byte) {
	question, answer, err := corruption.Decode(payload)
	switch {
	case err != nil:
		if s.quiet.allows("bad message", from.String(), s.clock()) {
			s.logger.Warn("bad message", "from", from, "error", err)
		}
	case question != nil:
		s.serveHash(from, *question)
	case answer.Instance == s.instance:
		s.comparisons.answered(from, *answer)
	}
}

func (c *comparisons) answered(from kv.NodeID, a corruption.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q, found := c.waiting[a.ID]; found && q.to == from {
		delete(c.waiting, a.ID)
		q.answer <- a
	}
}

// lost ends the wait for answers of a node: a connection broke, so that a question or an answer may be gone.
func (c *comparisons) lost(node kv.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, q := range c.waiting {
		if q.to == node {
			delete(c.waiting, id)
			q.answer <- corruption.Answer{State: corruption.NotReady}
		}
	}
}

// serveHash answers beside. Beyond so many questions, none is answered: whoever asks does without.
func (s *Server) serveHash(from kv.NodeID, q corruption.Question) {
	select {
	case s.comparisons.serving <- struct{}{}:
	default:
		return
	}
	begun := s.beside(func() {
		defer func() { <-s.comparisons.serving }()
		s.sendHash(from, s.hashAt(s.context, q))
	})
	if !begun {
		<-s.comparisons.serving
	}
}

// sendHash sends an answer. There may be no connection that way yet, if one of the two nodes has just started.
func (s *Server) sendHash(to kv.NodeID, a corruption.Answer) {
	for range int(catchUpPatience / resendInterval) {
		if s.transport.Append(to, channelHashes, a.Append) {
			s.transport.Kick(to)
			return
		}
		select {
		case <-s.context.Done():
			return
		case <-time.After(resendInterval):
		}
	}
}

// hashAt answers a question from the replica here. One is answered at a time.
func (s *Server) hashAt(ctx context.Context, q corruption.Question) corruption.Answer {
	a := corruption.Answer{Instance: q.Instance, ID: q.ID, State: corruption.NotReady}
	ctx, cancel := context.WithTimeout(ctx, hashPatience)
	defer cancel()
	r := s.replica(q.Shard)
	if r == nil || s.failedShards.of(q.Shard) != nil {
		return a
	}
	for _, free := range []func() bool{
		func() bool { return arrives(ctx, s.comparisons.caughtUp) },
		func() bool {
			came := make(chan struct{})
			r.WaitRevision(q.Revision, func(error) { close(came) })
			return arrivesWithin(ctx, catchUpPatience, came)
		},
		func() bool {
			select {
			case s.comparisons.computing <- struct{}{}:
				return true
			case <-ctx.Done():
				return false
			}
		},
	} {
		if !free() {
			return a
		}
	}
	defer func() { <-s.comparisons.computing }()
	if r.Readable() != nil {
		return a
	}
	view := r.View()
	defer view.Close()
	if a.Compacted = view.Compacted(); a.Compacted > q.Compacted {
		a.State = corruption.Ahead
		return a
	}
	if view.Closed() < q.Revision {
		return a
	}
	if sum, err := view.HashSum(q.Compacted, q.Revision); err == nil {
		a.State, a.Sum = corruption.Hashed, uint64(sum)
	}
	return a
}

func arrives(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

func arrivesWithin(ctx context.Context, patience time.Duration, c <-chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return arrives(ctx, c)
}

// askHash asks another node. It does not answer in time if it is away, or an older version.
func (s *Server) askHash(ctx context.Context, to kv.NodeID, q corruption.Question) corruption.Answer {
	c := s.comparisons
	waits := hashQuestion{to, make(chan corruption.Answer, 1)}
	c.mu.Lock()
	c.next++
	q.ID = c.next
	c.waiting[q.ID] = waits
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, q.ID)
		c.mu.Unlock()
	}()
	if !s.transport.Append(to, channelHashes, q.Append) {
		return corruption.Answer{State: corruption.NotReady}
	}
	s.transport.Kick(to)
	ctx, cancel := context.WithTimeout(ctx, hashPatience)
	defer cancel()
	select {
	case a := <-waits.answer:
		return a
	case <-ctx.Done():
		return corruption.Answer{State: corruption.NotReady}
	}
}
