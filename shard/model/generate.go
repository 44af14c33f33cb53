package model

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Generator makes random requests over few keys and leases, so that they collide. It knows nothing of the
// state but the revision, which its caller keeps up to date. Not every transaction it makes is
// valid: callers pass requests through shard.Validate.
type Generator struct {
	Rand     *rand.Rand
	Keys     int         // how many different keys
	Leases   int         // how many different leases
	Revision kv.Revision // about where the store is
}

// Request returns a random request.
func (g *Generator) Request() *kv.Request {
	switch n := g.Rand.IntN(100); {
	case n < 35:
		return &kv.Request{Kind: kv.KindPut, Put: g.put()}
	case n < 45:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: g.deleteRange()}
	case n < 60:
		return &kv.Request{Kind: kv.KindRange, Range: g.scan()}
	case n < 82:
		return &kv.Request{Kind: kv.KindTxn, Txn: g.txn(2)}
	case n < 84:
		return &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: g.revision()}}
	}
	return g.other()
}

// Nested returns a random transaction with at least one inside.
func (g *Generator) Nested() *kv.Request {
	t := g.txn(2)
	if !hasNested(t.Success) && !hasNested(t.Failure) {
		branch := &t.Success
		if g.one(2) {
			branch = &t.Failure
		}
		*branch = append(*branch, kv.Op{Txn: g.txn(1)})
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: t}
}

func hasNested(ops []kv.Op) bool {
	return slices.ContainsFunc(ops, func(op kv.Op) bool { return op.Txn != nil })
}

func (g *Generator) other() *kv.Request {
	switch g.Rand.IntN(12) {
	case 0, 1, 2:
		return &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: g.lease(), TTLSeconds: int64(g.Rand.IntN(8))}}
	case 3, 4:
		return &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: g.lease()}}
	case 5, 6:
		return &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: g.lease()}}
	case 7:
		return &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.one(2)}}
	case 8:
		return &kv.Request{Kind: kv.KindLeaseLeases}
	case 9:
		action := kv.AlarmDeactivate
		if g.one(25) {
			action = kv.AlarmActivate
		} else if g.one(3) {
			action = kv.AlarmGet
		}
		alarm := kv.Alarm{Node: kv.NodeID(1 + g.Rand.IntN(2)), Type: kv.AlarmType(g.Rand.IntN(5))}
		if alarm.Type == kv.AlarmFence {
			alarm.Node /= 2 // of the whole cluster, or invalid
		}
		return &kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: action, Alarm: alarm}}
	case 10:
		return &kv.Request{Kind: kv.KindMemberList}
	}
	id := 1 + g.Rand.IntN(3)
	return &kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: kv.NodeID(id), Name: fmt.Sprint("n", g.Rand.IntN(9)), ClientURLs: []string{"http://a", "http://b"}[:g.Rand.IntN(3)]}}
}

func (g *Generator) one(in int) bool { return g.Rand.IntN(in) == 0 }

func (g *Generator) key() []byte { return fmt.Appendf(nil, "k%02d", g.Rand.IntN(g.Keys)) }

func (g *Generator) lease() kv.LeaseID { return kv.LeaseID(1 + g.Rand.IntN(g.Leases)) }

func (g *Generator) revision() kv.Revision {
	if g.Rand.IntN(4) == 0 { // about the next ones, which may matter more
		return g.Revision + kv.Revision(g.Rand.Int64N(6))
	}
	return kv.Revision(g.Rand.Int64N(int64(g.Revision) + 3))
}

func (g *Generator) value() []byte { return fmt.Appendf(nil, "v%d", g.Rand.IntN(50)) }

func (g *Generator) span() kv.Span {
	switch g.Rand.IntN(8) {
	case 0, 1, 2:
		return kv.Span{Start: g.key()}
	case 3:
		return kv.Span{Start: g.key(), End: []byte{0}}
	case 4:
		return kv.Everything()
	}
	return kv.Span{Start: g.key(), End: g.key()}
}

func (g *Generator) put() *kv.PutRequest {
	r := &kv.PutRequest{Key: g.key(), Value: g.value(), PrevKV: g.one(3)}
	if g.one(4) {
		r.Lease = g.lease()
	}
	if g.one(8) {
		r.IgnoreValue, r.Value = true, nil
	}
	if g.one(8) {
		r.IgnoreLease, r.Lease = true, 0
	}
	return r
}

func (g *Generator) deleteRange() *kv.DeleteRangeRequest {
	r := &kv.DeleteRangeRequest{Span: kv.Span{Start: g.key()}, PrevKV: g.one(3)}
	if g.one(3) {
		r.Span = g.span()
	}
	return r
}

func (g *Generator) scan() *kv.RangeRequest {
	r := &kv.RangeRequest{Span: g.span(), KeysOnly: g.one(5), CountOnly: g.one(8)}
	if g.one(3) {
		r.Limit = int64(g.Rand.IntN(6))
	}
	if g.one(3) {
		r.Revision = g.revision()
	}
	if g.one(3) {
		r.SortOrder, r.SortTarget = kv.SortOrder(g.Rand.IntN(3)), kv.SortTarget(g.Rand.IntN(5))
	}
	for _, bound := range []*kv.Revision{&r.MinMod, &r.MaxMod, &r.MinCreate, &r.MaxCreate} {
		if g.one(10) {
			*bound = g.revision()
		}
	}
	return r
}

func (g *Generator) compare() kv.Compare {
	c := kv.Compare{Span: kv.Span{Start: g.key()}, Target: kv.CompareTarget(g.Rand.IntN(5)), Result: kv.CompareResult(g.Rand.IntN(4))}
	if g.one(4) {
		c.Span = g.span()
	}
	switch c.Target {
	case kv.CompareValue:
		c.Value = g.value()
	case kv.CompareVersion:
		c.Integer = int64(g.Rand.IntN(4))
	case kv.CompareLease:
		c.Integer = int64(g.Rand.IntN(g.Leases + 1))
	default:
		c.Integer = int64(g.revision())
		if g.one(2) {
			c.Integer = 0
		}
	}
	return c
}

func (g *Generator) txn(depth int) *kv.TxnRequest {
	t := &kv.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
	for range g.Rand.IntN(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	return t
}

func (g *Generator) ops(depth int) []kv.Op {
	var ops []kv.Op
	for range g.Rand.IntN(4) {
		switch n := g.Rand.IntN(10); {
		case n < 3:
			ops = append(ops, kv.Op{Range: g.scan()})
		case n < 7:
			ops = append(ops, kv.Op{Put: g.put()})
		case n < 9 || depth == 0:
			ops = append(ops, kv.Op{DeleteRange: g.deleteRange()})
		default:
			ops = append(ops, kv.Op{Txn: g.txn(depth - 1)})
		}
	}
	return ops
}
