package txn

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// Anchor returns the lowest shard that a request may write in, in whichever branch. If there are no keys that it may write, it is the lowest one that it
// touches at all, or the system shard.
func Anchor(table *partition.Table, req *kv.Request) kv.ShardID {
	if req.Kind == kv.KindLeaseEnd {
		return kv.SystemShard // it has the record of the lease
	}
	written, touched := kv.ShardID(0), kv.ShardID(0)
	req.EachSpan(func(span kv.Span, writes bool) bool {
		overlapping := table.Overlapping(span)
		if len(overlapping) == 0 {
			return true
		}
		first := overlapping[0].Shard // they ascend
		if touched == 0 || first < touched {
			touched = first
		}
		if writes && (written == 0 || first < written) {
			written = first
		}
		return true
	})
	return cmp.Or(written, touched, kv.SystemShard)
}

// Plan is a request along a path, cut into shares.
type Plan struct {
	// Participants are the shards that take part, ascending. The anchor always does.
	Participants []kv.ShardID
	// Shares are theirs. They refer to the request.
	Shares []*kv.Share

	request *kv.Request
	path    Path
	// compares are those whose outcome all participants of their spans make together: each reads its part of the span, in the first places.
	compares []sharedCompare
	ops      []sharedOp // those of the path but for ranges at revisions, in the order of execution
}

// sharedCompare is a compare over a span of several participants.
type sharedCompare struct {
	compare *kv.Compare
	holds   bool  // is expected
	at      []int // participants
}

// sharedOp is an operation, and the participants that it is for, by their positions.
type sharedOp struct {
	op *kv.Op
	at []int
}

// Cut cuts a valid request along a path. false: the request cannot take it, because a compare over a span that can have no key comes out otherwise.
// It costs as much as the request has operations and compares on the path, times the shards that each is for.
//
// A share has the compares of its participant that decide the path: of a branch of success all, of one of failure the one that the path names. A compare over a
// span of several shards is in the shares of all if each can tell for itself; otherwise they read the keys of the span, as they are before the request, and
// Met finds what comes out. Ranges are without order, filters and options that need more than one share: Join does that.
//
// The end of a lease has the same share for each shard that is named, and none for the anchor if that is not among them.
func Cut(table *partition.Table, req *kv.Request, path Path) (*Plan, bool) {
	if req.Kind == kv.KindLeaseEnd {
		return releases(req), true
	}
	c := cutter{plan: &Plan{request: req, path: path}, table: table, path: path}
	c.touched = []kv.ShardID{Anchor(table, req)}
	if !c.walk(req) {
		return nil, false
	}
	p := c.plan
	slices.Sort(c.touched)
	p.Participants = slices.Compact(c.touched)
	p.Shares = make([]*kv.Share, len(p.Participants))
	for i := range p.Shares {
		p.Shares[i] = &kv.Share{}
	}
	c.share()
	return p, true
}

// releases is the plan for the end of a lease.
func releases(req *kv.Request) *Plan {
	b := req.LeaseBinding
	p := &Plan{request: req, Participants: slices.Clone(b.Shards)}
	if !slices.Contains(b.Shards, kv.SystemShard) {
		p.Participants = slices.Insert(p.Participants, 0, kv.SystemShard) // it is the lowest
	}
	for _, id := range p.Participants {
		share := &kv.Share{}
		if slices.Contains(b.Shards, id) {
			share.Release = &kv.LeaseBinding{Lease: b.Lease, Incarnation: b.Incarnation, Shard: id}
		}
		p.Shares = append(p.Shares, share)
	}
	return p
}

// cutter walks through a request.
type cutter struct {
	plan    *Plan
	table   *partition.Table
	path    Path // what is left of it
	touched []kv.ShardID
	// single are the compares that each participant of their span can tell.
	single []kv.Expectation
	place  uint32
}

func (c *cutter) walk(req *kv.Request) bool {
	if req.Kind == kv.KindDeleteRange {
		c.op(&kv.Op{DeleteRange: req.DeleteRange})
		return true
	}
	return c.transaction(req.Txn)
}

func (c *cutter) transaction(t *kv.TxnRequest) bool {
	turn := c.path.next()
	if turn >= len(t.Compare) {
		return false
	}
	for i := range t.Compare {
		if (turn == Holds || turn == i) && !c.compare(&t.Compare[i], turn == Holds) {
			return false
		}
	}
	ops := branch(t, turn)
	for i := range ops {
		switch o := &ops[i]; {
		case o.Txn != nil:
			if !c.transaction(o.Txn) {
				return false
			}
		case o.Range == nil || !isPast(o.Range):
			c.op(o)
		}
	}
	return true
}

// compare takes one that is expected to hold, or not to.
func (c *cutter) compare(compare *kv.Compare, holds bool) bool {
	switch n := c.touch(compare.Span); {
	case n == 0:
		return holds == compare.HoldsOfNone()
	case n == 1 || holds && compare.HoldsOfNone():
		c.single = append(c.single, kv.Expectation{Compare: *compare, Holds: holds})
	default:
		c.plan.compares = append(c.plan.compares, sharedCompare{compare: compare, holds: holds})
	}
	return true
}

func (c *cutter) op(o *kv.Op) {
	c.touch(spanOf(o))
	c.plan.ops = append(c.plan.ops, sharedOp{op: o})
}

// touch takes note of the shards of a span, and returns their number.
func (c *cutter) touch(span kv.Span) int {
	overlapping := c.table.Overlapping(span)
	for i := range overlapping {
		c.touched = append(c.touched, overlapping[i].Shard)
	}
	return len(overlapping)
}

// share gives each participant what it has to do.
func (c *cutter) share() {
	p := c.plan
	for _, e := range c.single {
		for _, at := range c.positions(e.Compare.Span) {
			p.Shares[at].Compares = append(p.Shares[at].Compares, e)
		}
	}
	for i := range p.compares {
		shared := &p.compares[i]
		shared.at = c.positions(shared.compare.Span)
		c.put(kv.Op{Range: &kv.RangeRequest{Span: shared.compare.Span, KeysOnly: shared.compare.Target != kv.CompareValue}}, shared.at)
	}
	for i := range p.ops {
		shared := &p.ops[i]
		shared.at = c.positions(spanOf(shared.op))
		o := *shared.op
		if o.Range != nil {
			o.Range = partOf(o.Range)
		}
		c.put(o, shared.at)
	}
}

// put gives an operation its place, in the shares of participants.
func (c *cutter) put(o kv.Op, at []int) {
	for _, i := range at {
		share := c.plan.Shares[i]
		share.Ops = append(share.Ops, kv.PlacedOp{Place: c.place, Op: o})
	}
	c.place++
}

// positions are those of the participants of a span.
func (c *cutter) positions(span kv.Span) []int {
	overlapping := c.table.Overlapping(span)
	if len(overlapping) == 0 {
		return nil
	}
	first, _ := slices.BinarySearch(c.plan.Participants, overlapping[0].Shard)
	at := make([]int, len(overlapping)) // they are in a row
	for i := range at {
		at[i] = first + i
	}
	return at
}

func spanOf(o *kv.Op) kv.Span {
	switch {
	case o.Range != nil:
		return o.Range.Span
	case o.Put != nil:
		return kv.Span{Start: o.Put.Key}
	}
	return o.DeleteRange.Span
}

// partOf is what each participant reads for a range: all keys that may be in the answer, in their order.
func partOf(r *kv.RangeRequest) *kv.RangeRequest {
	if r.CountOnly {
		return &kv.RangeRequest{Span: r.Span, CountOnly: true}
	}
	return &kv.RangeRequest{Span: r.Span, Limit: r.FirstKeys(), KeysOnly: r.KeysSuffice()}
}

// Check tells whether an answer is one to the prepare of the i-th participant, if that is prepared.
func (p *Plan) Check(i int, answer *kv.CommitResponse) error {
	share := p.Shares[i]
	if len(answer.Results) != len(share.Ops) {
		return fmt.Errorf("txn: shard %d answered %d operations, and has %d in its share", p.Participants[i], len(answer.Results), len(share.Ops))
	}
	for n := range share.Ops {
		o, result := &share.Ops[n].Op, &answer.Results[n]
		if (o.Range != nil) != (result.Range != nil) || (o.Put != nil) != (result.Put != nil) || (o.DeleteRange != nil) != (result.DeleteRange != nil) {
			return fmt.Errorf("txn: shard %d answered operation %d of its share as if it were another", p.Participants[i], n)
		}
	}
	return nil
}

// Met tells whether the compares come out as expected, if all participants are prepared: those that need the answers of several.
func (p *Plan) Met(answers []*kv.CommitResponse) bool {
	r := results{answers: answers, at: make([]int, len(answers))}
	for i := range p.compares {
		shared := &p.compares[i]
		if holdsOf(shared.compare, r.ranges(shared.at)) != shared.holds {
			return false
		}
	}
	return true
}

// Compares tells whether there is any compare on the path.
func (p *Plan) Compares() bool {
	return len(p.compares) > 0 || slices.ContainsFunc(p.Shares, func(s *kv.Share) bool { return len(s.Compares) > 0 })
}
