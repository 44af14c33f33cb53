package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/shard"
)

// takeQuestions serves what another node asks of a shard here.
func (g *Gateway) takeQuestions(from kv.NodeID, payload []byte) error {
	q, err := link.DecodeQuestions(payload)
	if err != nil {
		g.metrics.refused.Add(1)
		return err
	}
	l := g.links.byShard[q.Shard]
	switch {
	case l == nil:
		return g.refuseShard(from, &q)
	case q.Barrier:
		l.serveBarrier(from, q.Head, q.ID, q.Settles)
	default:
		q.Each(g.options.RequestTimeout, func(id uint64, left time.Duration, request []byte) {
			l.serve(&visit{link: l, from: from, head: q.Head, id: id, sizeBytes: len(request), expires: g.time() + left}, request)
		})
	}
	return nil
}

// refuseShard answers questions about a shard that is not here: nobody need wait for a deadline to know that.
func (g *Gateway) refuseShard(from kv.NodeID, q *link.Questions) error {
	why, head, barrier := notHere(q.Shard), q.Head, q.ID
	answer := why
	if !head.Numbered {
		answer = kv.ErrNotLeader // the word that older versions have for it
	}
	g.metrics.refused.Add(1)
	if q.Barrier {
		g.send(from, func(dst []byte) []byte { return link.AppendBarrierAnswer(dst, head, barrier, 0, answer, 0) })
	} else {
		q.Each(0, func(id uint64, _ time.Duration, _ []byte) {
			g.send(from, func(dst []byte) []byte { return link.AppendAnswer(dst, head, id, link.Outcome{Err: answer}) })
		})
	}
	g.options.Sender.Kick(from)
	return fmt.Errorf("gateway: a question about %w", why)
}

// send puts an answer into the buffer of the node that asked, and counts those that find no room.
func (g *Gateway) send(to kv.NodeID, encode func([]byte) []byte) {
	if !g.sendAnswer(to, encode) {
		g.metrics.lostAnswers.Add(1)
	}
}

// visit is a request of another node while it is served here.
type visit struct {
	link      *leaderLink
	from      kv.NodeID
	head      link.Head // of the frame
	id        uint64
	sizeBytes int
	expires   time.Duration
	spread    bool  // the request writes in several shards, and link is that of the anchor
	cost      int64 // bytes that it was admitted for: Options.Space
	memory    loan
}

// serve does what a peer forwarded, unless nobody there waits for it any more when it is its turn. It is never forwarded again. What is asked of a
// client's request at the node that takes it is asked of it here once more: this node's limits count, too, while it leads, and whoever reaches the
// port could send anything.
func (l *leaderLink) serve(v *visit, body []byte) {
	g := l.gateway
	if !g.guests.enter(v.from, v.sizeBytes) {
		g.metrics.refused.Add(1)
		v.answer(nil, 0, kv.ErrTooManyRequests)
		g.options.Sender.Kick(v.from)
		return
	}
	v.memory.lender = g.options.GuestMemory(v.from)
	req, err := l.admitForwarded(v, body)
	if err != nil {
		g.metrics.refused.Add(1)
		v.doneNow(nil, 0, err)
		return
	}
	switch {
	case !l.local.IsLeader() && (!l.elected() || v.spread || g.leaderOnly(req)):
		g.metrics.served.Add(1)
		v.doneNow(nil, 0, kv.ErrNotLeader)
	case g.leaderOnly(req) && !g.decided(req):
		g.metrics.served.Add(1)
		l.serveRead(req, v.doneNow)
	case l.serveRenewal(req, v):
		g.metrics.served.Add(1)
	default:
		l.serveWrite(req, v)
	}
}

// elected tells whether the replica here leads, perhaps without serving yet. Then a write may wait there.
func (l *leaderLink) elected() bool {
	leader, _ := l.local.Leader()
	return leader == l.gateway.options.Self
}

// serveWrite has the replica here decide a write, for which there must be room here.
func (l *leaderLink) serveWrite(req *kv.Request, v *visit) {
	g := l.gateway
	if bytes := shard.CostBytes(req); bytes > 0 {
		if !g.options.Space.Admit(bytes) {
			g.metrics.refused.Add(1)
			g.options.Space.Refuse(func() { v.doneNow(nil, 0, kv.ErrNoSpace) })
			return
		}
		v.cost = bytes
	}
	g.metrics.served.Add(1)
	if v.spread {
		l.coordinateFor(v, req)
		return
	}
	if resp := l.undecidedHere(req); resp != nil {
		v.doneNow(resp, 0, nil)
		return
	}
	if !l.local.Propose(req, v, v.done) {
		g.options.Sender.Kick(v.from) // it is answered
	}
}

// Waits implements kv.Asker: what has no time left is not evaluated.
func (v *visit) Waits() bool { return v.expires > v.link.gateway.time() }

// Left implements kv.Asker.
func (v *visit) Left() time.Duration { return v.expires - v.link.gateway.time() }

// Alone implements kv.Asker: what one node forwards comes in frames of many.
func (v *visit) Alone() bool { return false }

// Elsewhere implements kv.Asker.
func (v *visit) Elsewhere() bool { return true }

// done ends the visit. It is called once.
func (v *visit) done(resp *kv.Response, applied uint64, err error) {
	g := v.link.gateway
	g.guests.leave(v.from, v.sizeBytes)
	if v.cost > 0 {
		g.options.Space.Answered(v.cost)
	}
	if limit := g.options.Limits.MaxAnswerBytes; err == nil && v.memory.usedBytes() > int64(limit)/2 && etcdwire.ResponseSize(resp) > limit {
		resp, err = nil, kv.ErrOutcomeUnknown // that it cannot be told is told, and it is not encoded in vain
	}
	v.answer(resp, applied, err)
	v.memory.repay() // the answer is in the transport's buffer now
}

// doneNow is done for what no round of the driver answers.
func (v *visit) doneNow(resp *kv.Response, applied uint64, err error) {
	v.done(resp, applied, err)
	v.link.gateway.options.Sender.Kick(v.from)
}

// answer puts the answer into the buffer of the node that asked.
func (v *visit) answer(resp *kv.Response, applied uint64, err error) {
	g := v.link.gateway
	o := link.Outcome{Response: resp, Applied: applied, Err: err}
	if err != nil {
		o.Leader, _ = v.link.local.Leader()
	}
	sent := v.send(o)
	if !sent && err == nil && applied > 0 {
		// The answer may be larger than a frame: previous values of many keys. "Outcome unknown" goes instead, so that the caller need
		// not wait for its deadline.
		sent = v.send(link.Outcome{Err: kv.ErrOutcomeUnknown})
	}
	if !sent {
		g.metrics.lostAnswers.Add(1)
	}
}

func (v *visit) send(o link.Outcome) bool {
	return v.link.gateway.sendAnswer(v.from, func(dst []byte) []byte { return link.AppendAnswer(dst, v.head, v.id, o) })
}

// admitForwarded decodes a forwarded request and tells why it is not served.
func (l *leaderLink) admitForwarded(v *visit, body []byte) (*kv.Request, error) {
	g := l.gateway
	if g.stopped.Load() {
		return nil, kv.ErrNotLeader // so that it looks for another one
	}
	tally := kv.NewTally(&v.memory)
	req, err := etcdwire.DecodeRequest(body, etcdwire.Limits{TxnOps: g.options.Limits.MaxTxnOps, Memory: &tally})
	switch {
	case errors.Is(err, kv.ErrTooManyOps) || errors.Is(err, kv.ErrTooManyRequests):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", kv.ErrInvalidRequest, err)
	}
	req.Memory = &v.memory
	of, err := g.admit(req)
	if err != nil {
		if of, err = g.anchorOf(req, err); err != nil {
			return nil, err
		}
		v.spread = true
	}
	if of != l {
		return nil, fmt.Errorf("a request for shard %d came as one for shard %d: %w", of.shard, l.shard, kv.ErrShardNotHere)
	}
	return req, g.forwardable(v.from, req)
}

// forwardable tells why no node forwards such a request, which is well formed.
func (g *Gateway) forwardable(from kv.NodeID, req *kv.Request) error {
	switch {
	case req.Kind == kv.KindAssignReplica || req.Kind == kv.KindSetRoster || req.Kind == kv.KindRecordTime:
		return fmt.Errorf("only the leader itself says which nodes a shard is on, and which disk a replica is on: %w", kv.ErrInvalidRequest)
	case req.Kind == kv.KindPublishNode && req.PublishNode.ID != from:
		return fmt.Errorf("node %v publishes the record of node %v: %w", from, req.PublishNode.ID, kv.ErrInvalidRequest)
	case shard.IsReadOnly(req) && !g.leaderOnly(req) && (req.Kind != kv.KindTxn || !shard.IsNested(req.Txn)): // earlier versions do forward those
		return fmt.Errorf("a read is answered by the node that takes it: %w", kv.ErrInvalidRequest)
	}
	return nil
}

// serveRenewal answers a keep-alive that needs nothing of the log.
func (l *leaderLink) serveRenewal(req *kv.Request, v *visit) bool {
	resp, applied, ok := l.renewed(req, true)
	if ok {
		v.doneNow(resp, applied, nil) // the other node may not have applied the revision of the answer yet
	}
	return ok
}

// serveRead answers a read that only the leader can answer.
func (l *leaderLink) serveRead(req *kv.Request, done func(*kv.Response, uint64, error)) {
	if l.local.LeaseValid() {
		resp, err := l.readLocal(req)
		if l.local.LeaseValid() {
			done(resp, 0, err)
			return
		}
	}
	l.local.ReadIndex(func(index uint64, err error) {
		if err != nil {
			done(nil, 0, kv.ErrNotLeader)
			return
		}
		l.local.WaitApplied(index, func(err error) {
			if err != nil {
				done(nil, 0, err)
				return
			}
			resp, err := l.readLocal(req)
			done(resp, 0, err)
		})
	})
}

// serveBarrier confirms what the reads of another node have to wait for.
func (l *leaderLink) serveBarrier(from kv.NodeID, head link.Head, id uint64, settles kv.Revision) {
	g := l.gateway
	answer := func(index uint64, err error) {
		leader, _ := l.local.Leader()
		g.send(from, func(dst []byte) []byte { return link.AppendBarrierAnswer(dst, head, id, index, err, leader) })
		g.options.Sender.Kick(from) // it may have been answered outside of a round
	}
	if !g.guests.enter(from, 0) {
		g.metrics.refused.Add(1)
		answer(0, kv.ErrTooManyRequests) // it asks again soon
		return
	}
	l.pass(settles, func(index uint64, err error) {
		g.guests.leave(from, 0)
		answer(index, err)
	})
}
