package history

import (
	"errors"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// claim is an error that says something about the state: it must be true at one of the revisions that the store can
// have been at when it was given.
type claim struct {
	operation *Operation
	until     kv.Revision
}

func (c *checker) sortClaim(o *Operation) {
	if !errors.Is(o.Err, kv.ErrKeyNotFound) && !errors.Is(o.Err, kv.ErrFutureRevision) && !errors.Is(o.Err, kv.ErrRequestTooLarge) {
		return
	}
	switch o.Request.Kind {
	case kv.KindRange, kv.KindPut, kv.KindDeleteRange, kv.KindTxn:
	default:
		return
	}
	from := max(1, c.times.floor(o.Invoke))
	if o.serializable() {
		from = 1
	}
	until := max(from, c.times.ceiling(o.Return))
	c.claims[from] = append(c.claims[from], &claim{o, until})
}

// tryClaims looks which of the open claims are true at the revision that the model is at.
func (c *checker) tryClaims(at kv.Revision) {
	c.open = append(c.open, c.claims[at]...)
	kept := c.open[:0]
	for _, one := range c.open {
		o := one.operation
		switch {
		case c.refuses(o):
			c.Claims++
		case at >= one.until:
			c.problem("%s was refused: %v. That was not so at any revision it can have been asked at (the last is %d)", o.name(), o.Err, at)
		default:
			kept = append(kept, one)
		}
	}
	clear(c.open[len(kept):])
	c.open = kept
}

// refuses tells whether the operation must be refused, as it was, in the state that the model is in.
func (c *checker) refuses(o *Operation) bool {
	_, written, err := c.model.Try(o.Request)
	if err == nil && errors.Is(o.Err, kv.ErrRequestTooLarge) {
		return c.tooLarge(written)
	}
	if c.Sparse && o.Request.Kind == kv.KindTxn && err != nil && !errors.Is(err, o.Err) {
		return (errors.Is(err, kv.ErrFutureRevision) || errors.Is(err, kv.ErrKeyNotFound)) && c.refusesToo(o)
	}
	return err != nil && errors.Is(err, o.Err)
}

// refusesToo tells whether a transaction that is refused by the model for another reason may be refused as it was: of what is wrong in several shards one
// thing is told, not always the first. So it must be refused for that if nothing else is wrong with it. How much it would write then is not known.
func (c *checker) refusesToo(o *Operation) bool {
	if errors.Is(o.Err, kv.ErrRequestTooLarge) {
		return true
	}
	_, _, err := c.model.Try(&kv.Request{Kind: kv.KindTxn, Txn: withOne(o.Request.Txn, errors.Is(o.Err, kv.ErrFutureRevision))})
	return err != nil && errors.Is(err, o.Err)
}

// withOne returns the transaction without what can be refused as a key that is not there, or, if the future is not what it is about, without revisions.
func withOne(t *kv.TxnRequest, future bool) *kv.TxnRequest {
	one := *t
	for _, ops := range []*[]kv.Op{&one.Success, &one.Failure} {
		*ops = slices.Clone(*ops)
		for i := range *ops {
			switch op := &(*ops)[i]; {
			case op.Txn != nil:
				op.Txn = withOne(op.Txn, future)
			case op.Put != nil && future:
				put := *op.Put
				put.IgnoreValue, put.IgnoreLease = false, false
				op.Put = &put
			case op.Range != nil && !future:
				read := *op.Range
				read.Revision = 0
				op.Range = &read
			}
		}
	}
	return &one
}

// tooLarge tells whether one request may not write that.
func (c *checker) tooLarge(written []model.Version) bool {
	if c.MaxEffectBytes == 0 {
		return false
	}
	bytes := map[kv.ShardID]int{}
	for i := range written {
		shard := kv.ShardID(0)
		if c.ShardOf != nil {
			shard = c.ShardOf(written[i].Key)
		}
		if bytes[shard] += len(written[i].Key) + len(written[i].Value) + EffectOverheadBytes; bytes[shard] > c.MaxEffectBytes {
			return true
		}
	}
	return false
}

func (c *checker) endClaims() {
	for _, one := range c.open {
		c.problem("%s was refused: %v. That was not so at any revision", one.operation.name(), one.operation.Err)
	}
}

// checkCompactions: what was compacted away is not read, and nothing else is refused as compacted.
func (c *checker) checkCompactions() {
	if c.Commits == nil {
		return
	}
	c.checkCompactionLog()
	for i := range c.Operations {
		o := &c.Operations[i]
		switch {
		case o.Outcome == Acknowledged && o.Request.Kind == kv.KindCompact:
			c.checkCompacted(o)
		case o.Outcome == Acknowledged:
			c.checkReadable(o)
		case o.Outcome == Refused && errors.Is(o.Err, kv.ErrCompacted):
			if lowest := lowestRevision(o.Request); !c.compactedBy(lowest, o) {
				c.problem("%s was refused as compacted, but revision %d was not", o.name(), lowest)
			}
		case o.Outcome == Refused && errors.Is(o.Err, kv.ErrFutureRevision) && o.Request.Kind == kv.KindCompact:
			if floor := c.times.floor(o.Invoke); o.Request.Compact.Revision <= floor {
				c.problem("%s was refused as being in the future, but revision %d had been seen before it began", o.name(), floor)
			}
		}
	}
}

// checkCompactionLog: every compaction goes further than the one before, and was asked for by somebody who was not refused.
func (c *checker) checkCompactionLog() {
	asked := map[kv.Revision][]*Operation{}
	for i := range c.Operations {
		if o := &c.Operations[i]; o.Request.Kind == kv.KindCompact && o.Outcome != Refused {
			asked[o.Request.Compact.Revision] = append(asked[o.Request.Compact.Revision], o)
		}
	}
	last := kv.Revision(0)
	for _, one := range c.compactions {
		if one.Compacted <= last || !c.Sparse && one.Compacted > one.Revision {
			c.problem("a compaction at %d followed the one at %d when the store was at revision %d", one.Compacted, last, one.Revision)
		}
		last = one.Compacted
		if len(asked[one.Compacted]) == 0 {
			c.problem("nobody asked for the compaction at %d, or was refused", one.Compacted)
		}
	}
}

func (c *checker) checkCompacted(o *Operation) {
	at := o.Request.Compact.Revision
	if at > o.Response.Revision {
		c.problem("%s was answered at revision %d, which is before", o.name(), o.Response.Revision)
	}
	for _, one := range c.compactions {
		// Several of one entry of the log are told as the last of them.
		if one.Compacted >= at && one.At <= o.Return {
			if one.At < o.Invoke {
				c.problem("%s was answered, but history was compacted at %d before", o.name(), one.Compacted)
			}
			return
		}
	}
	c.problem("lost: %s was answered, but history was not compacted by then", o.name())
}

// checkReadable: whoever answers at a revision after a compaction knows of it.
func (c *checker) checkReadable(o *Operation) {
	lowest := lowestRevision(o.Request)
	if o.Request.Kind == kv.KindTxn && !ran(o, lowest) || lowest == 0 {
		return
	}
	state := o.Response.Revision
	if o.wrote() {
		state--
	}
	for _, one := range c.compactions {
		if one.Compacted > lowest && one.Revision < state && !c.Sparse {
			c.problem("%s was answered at revision %d, but history had been compacted at %d", o.name(), o.Response.Revision, one.Compacted)
			return
		}
	}
	if o.serializable() {
		return
	}
	for _, known := range c.times.compacted {
		if known.operation.Return < o.Invoke && known.operation.Request.Compact.Revision > lowest {
			c.problem("%s was answered, but before that %s was", o.name(), known.operation.name())
			return
		}
	}
}

// compactedBy tells whether a revision may have been compacted when the operation was refused.
func (c *checker) compactedBy(revision kv.Revision, o *Operation) bool {
	for _, one := range c.compactions {
		reaches := one.Compacted > revision
		if o.Request.Kind == kv.KindCompact {
			reaches = one.Compacted >= revision
		}
		if reaches && one.At <= o.Return {
			return true
		}
	}
	return o.Request.Kind == kv.KindCompact && revision <= 0
}

// lowestRevision is the oldest revision that the request asks for; 0: only the present.
func lowestRevision(r *kv.Request) (lowest kv.Revision) {
	if r.Kind == kv.KindCompact {
		return r.Compact.Revision
	}
	eachOp(r, func(op *kv.Op) {
		if op.Range != nil && op.Range.Revision > 0 && (lowest == 0 || op.Range.Revision < lowest) {
			lowest = op.Range.Revision
		}
	})
	return lowest
}

// ran tells whether the branch that a transaction took reads the revision. It looks only at the outer one.
func ran(o *Operation, revision kv.Revision) bool {
	branch := o.Request.Txn.Success
	if !o.Response.Txn.Succeeded {
		branch = o.Request.Txn.Failure
	}
	for i := range branch {
		if branch[i].Range != nil && branch[i].Range.Revision == revision {
			return true
		}
	}
	return false
}
