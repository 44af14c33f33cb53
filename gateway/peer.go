package gateway

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// head is what the frames of this link that go to a node begin with.
func (l *leaderLink) head(to link.Dialect) link.Head {
	return link.Head{Instance: l.gateway.options.Instance, Shard: l.shard, Numbered: to.Shards}
}

// reaches tells whether the node can be asked for this shard: to an older version every frame is of the system shard.
func (l *leaderLink) reaches(to link.Dialect) bool { return to.Shards || l.shard == kv.SystemShard }

// sendRequests sends calls to the leader. false: nothing was sent.
func (l *leaderLink) sendRequests(to kv.NodeID, calls []*link.Item) bool {
	g, dialect := l.gateway, l.gateway.peers.understands(to)
	sent := l.reaches(dialect) && g.options.Sender.Append(to, ChannelRequest, func(dst []byte) []byte {
		return link.AppendRequests(dst, l.head(dialect), dialect, g.time(), calls)
	})
	if sent {
		g.metrics.forwarded.Add(int64(len(calls)))
		g.options.Sender.Kick(to)
	}
	return sent
}

func (l *leaderLink) sendBarrier(to kv.NodeID, id uint64, settles kv.Revision) bool {
	g, dialect := l.gateway, l.gateway.peers.understands(to)
	sent := l.reaches(dialect) && (settles == 0 || dialect.Revisions) && g.options.Sender.Append(to, ChannelRequest, func(dst []byte) []byte {
		return link.AppendBarrier(dst, l.head(dialect), id, settles)
	})
	if sent {
		g.options.Sender.Kick(to)
	}
	return sent
}

// HandleMessage takes a frame of a peer on one of the gateway's channels. The payload belongs to the gateway.
func (g *Gateway) HandleMessage(from kv.NodeID, channel byte, payload []byte) {
	var err error
	switch channel {
	case ChannelRequest:
		err = g.takeQuestions(from, payload)
	case ChannelResponse:
		err = g.takeAnswers(from, payload)
	default:
		err = fmt.Errorf("gateway: a frame on channel %d, which is not the gateway's", channel)
	}
	if err != nil {
		g.options.Listener.BadMessage(from, err)
	}
}

// takeAnswers takes what another node answers to this one.
func (g *Gateway) takeAnswers(from kv.NodeID, payload []byte) error {
	a, err := link.DecodeAnswers(payload)
	if err != nil {
		return err
	}
	if a.Instance != g.options.Instance {
		return nil // for an earlier process of this node
	}
	l := g.links.byShard[a.Shard]
	if l == nil {
		return fmt.Errorf("gateway: an answer of %w", notHere(a.Shard))
	}
	if a.Barrier {
		l.barrierAnswered(from, a.ID, a.Index, a.Err)
		return nil
	}
	a.Each(func(id uint64, outcome []byte) { l.takeOutcome(from, id, outcome) })
	return nil
}

// takeOutcome gives a forwarded call its answer, once the local state contains what it tells.
func (l *leaderLink) takeOutcome(from kv.NodeID, id uint64, body []byte) {
	o, bad := link.DecodeOutcome(body)
	l.mu.Lock()
	i := l.core.Answered(id, from)
	l.unlock()
	if i == nil {
		return // late
	}
	c := callOf(i)
	switch {
	case bad != nil:
		l.gateway.options.Listener.BadMessage(from, bad)
		c.finish(nil, kv.ErrOutcomeUnknown)
	case o.Err != nil && c.again(o.Err):
		l.refused(c, from, o.Leader)
	case o.Err != nil:
		c.finish(nil, o.Err)
	case !c.pays(len(body)):
		// There is no room for the answer of a request that has taken effect.
		c.finish(nil, kv.ErrOutcomeUnknown)
	default:
		if revisions := l.gateway.options.Revisions; revisions != nil {
			revisions.Hear(o.Response.Revision) // what this node says next must not be older
		}
		l.local.WaitApplied(o.Applied, func(error) {
			// Even if this replica stops before: the leader has said what the outcome is.
			c.finish(o.Response, nil)
		})
	}
}

// barrierAnswered serves the reads that shared a barrier, once what it names is applied here.
func (l *leaderLink) barrierAnswered(from kv.NodeID, id, index uint64, err error) {
	l.mu.Lock()
	var reads []*link.Item
	switch notHere := errors.Is(err, kv.ErrShardNotHere); {
	case err == nil || notHere:
		reads = l.core.BarrierAnswered(id, from)
	default:
		l.core.BarrierFailed(id, from)
	}
	l.unlock()
	switch {
	case len(reads) == 0:
	case err != nil:
		l.barrierApplied(reads, err)
	default:
		l.local.WaitApplied(index, func(err error) { l.barrierApplied(reads, err) })
	}
	l.pump()
}
