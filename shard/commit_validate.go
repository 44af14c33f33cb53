package shard

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// validateCommit tells whether a request about a transaction over several shards is well formed.
func validateCommit(r *kv.Request) error {
	c := r.Commit
	if why := malformedCommit(r.Kind, c); why != "" {
		return fmt.Errorf("request of kind %d about transaction %v %s: %w", r.Kind, c.ID, why, kv.ErrInvalidRequest)
	}
	if r.Kind == kv.KindTxnPrepare {
		return validateShare(c.Share)
	}
	return nil
}

// malformedCommit says what is wrong with all but the share; "": nothing is.
func malformedCommit(kind kv.Kind, c *kv.CommitRequest) string {
	none := kv.TransactionID{}
	switch onlyFinished := kind == kv.KindTxnResolve && c.ID == none; {
	case c.Shard == 0:
		return "is for no shard"
	case !c.Finished.Valid():
		return "says that something is finished, and not what"
	case onlyFinished && c.Finished.At == none:
		return "says nothing"
	case onlyFinished:
		return ""
	case c.ID.Anchor == 0 || c.ID.Number == 0:
		return "names none"
	}
	switch kind {
	case kv.KindTxnPrepare, kv.KindTxnPromise:
		if !validParticipants(c) {
			return "has participants that are not in order, too many of them, or not this shard and the anchor"
		}
	case kv.KindTxnDecide, kv.KindTxnResolve, kv.KindTxnAccept:
		if !validDecision(c.Decision) || c.Decision.Verdict == kv.Undecided {
			return "has no decision that makes sense"
		}
	}
	if kind == kv.KindTxnPromise && c.Ballot == (kv.Ballot{}) {
		return "asks for a promise under no ballot"
	}
	return ""
}

func validParticipants(c *kv.CommitRequest) bool {
	list := c.Participants
	for i := range list {
		if list[i] == 0 || i > 0 && list[i] <= list[i-1] {
			return false
		}
	}
	_, here := slices.BinarySearch(list, c.Shard)
	_, anchor := slices.BinarySearch(list, c.ID.Anchor)
	return here && anchor && len(list) <= maxParticipants
}

func validateShare(s *kv.Share) error {
	if b := s.Release; b != nil && (b.Lease == 0 || b.Incarnation == 0 || len(s.Ops) > 0 || len(s.Compares) > 0) {
		return fmt.Errorf("a share that ends a lease names it, and has nothing else: %w", kv.ErrInvalidRequest)
	}
	for i := range s.Compares {
		if len(s.Compares[i].Compare.Span.Start) == 0 {
			return kv.ErrEmptyKey
		}
	}
	for i := range s.Ops {
		if place := s.Ops[i].Place; place > maxPlace || i > 0 && place <= s.Ops[i-1].Place {
			return fmt.Errorf("operations of a share whose places do not ascend, or are above %d: %w", maxPlace, kv.ErrInvalidRequest)
		}
		if s.Ops[i].Op.Txn != nil {
			return fmt.Errorf("a transaction within a share: %w", kv.ErrInvalidRequest)
		}
		if err := validateOp(&s.Ops[i].Op, 0, false); err != nil {
			return err
		}
	}
	return nil
}
