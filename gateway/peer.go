package gateway

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

// sendRequests sends calls to the leader. false: nothing was sent.
func (g *Gateway) sendRequests(to kv.NodeID, calls []*Call) bool {
	timed := g.tellsDeadlines(to)
	sent := g.options.Sender.Append(to, ChannelRequest, func(dst []byte) []byte {
		if !timed {
			dst = appendHeader(dst, messageRequests, g.options.Instance)
			for _, c := range calls {
				dst = appendItem(dst, c.id, func(dst []byte) []byte { return etcdwire.AppendRequest(dst, c.Req) })
			}
			return dst
		}
		dst = appendHeader(dst, messageTimedRequests, g.options.Instance)
		now := time.Duration(g.now.Load())
		for _, c := range calls {
			dst = appendItem(dst, c.id, func(dst []byte) []byte {
				dst = binary.AppendUvarint(dst, uint64(max(0, c.expires-now)/time.Millisecond))
				return etcdwire.AppendRequest(dst, c.Req)
			})
		}
		return dst
	})
	if sent {
		g.metrics.forwarded.Add(int64(len(calls)))
		g.options.Sender.Kick(to)
	}
	return sent
}

func (g *Gateway) sendBarrier(to kv.NodeID, id uint64) bool {
	sent := g.options.Sender.Append(to, ChannelRequest, func(dst []byte) []byte {
		return binary.AppendUvarint(appendHeader(dst, messageBarrier, g.options.Instance), id)
	})
	if sent {
		g.options.Sender.Kick(to)
	}
	return sent
}

// HandleMessage takes a frame of a peer on one of the gateway's channels. The payload belongs to the gateway.
func (g *Gateway) HandleMessage(from kv.NodeID, channel byte, payload []byte) {
	kind, instance, rest, err := decodeHeader(payload)
	switch {
	case err != nil:
	case channel == ChannelRequest && kind == messageRequests:
		err = eachItem(rest, func(id uint64, body []byte) { g.serve(from, instance, id, g.options.RequestTimeout, body) })
	case channel == ChannelRequest && kind == messageTimedRequests:
		err = g.serveTimed(from, instance, rest)
	case channel == ChannelRequest && kind == messageBarrier:
		err = g.serveBarrier(from, instance, rest)
	case channel == ChannelResponse && instance != g.options.Instance:
		// for an earlier process of this node
	case channel == ChannelResponse:
		err = g.takeAnswer(from, kind, rest)
	default:
		err = fmt.Errorf("gateway: unknown message %d on channel %d", kind, channel)
	}
	if err != nil {
		g.options.Listener.BadMessage(from, err)
	}
}

func (g *Gateway) takeAnswer(from kv.NodeID, kind byte, rest []byte) error {
	switch kind {
	case messageAnswers:
		return eachItem(rest, func(id uint64, body []byte) { g.takeOutcome(from, id, body) })
	case messageBarrierPassed, messageBarrierFailed:
		id, n := binary.Uvarint(rest)
		if n <= 0 {
			return errMalformed
		}
		if kind == messageBarrierFailed {
			remote, _, err := etcdwire.DecodeError(rest[n:])
			if err == nil {
				g.barrierAnswered(from, id, 0, remote)
			}
			return err
		}
		index, m := binary.Uvarint(rest[n:])
		if m <= 0 {
			return errMalformed
		}
		g.barrierAnswered(from, id, index, nil)
		return nil
	}
	return fmt.Errorf("gateway: unknown message %d on channel %d", kind, ChannelResponse)
}

// takeOutcome gives a forwarded call its answer, once the local state contains what it tells.
func (g *Gateway) takeOutcome(from kv.NodeID, id uint64, body []byte) {
	o, bad := decodeOutcome(body)
	g.mu.Lock()
	c := g.forward.answered(id, from)
	g.mu.Unlock()
	switch {
	case c == nil: // late
	case bad != nil:
		g.options.Listener.BadMessage(from, bad)
		c.finish(nil, kv.ErrOutcomeUnknown)
	case o.err != nil && c.again(o.err):
		g.metrics.retries.Add(1)
		g.mu.Lock()
		g.forward.refused(c, from, o.leader, g.options.Self)
		g.mu.Unlock()
		g.dropIfAnswered(c)
		g.pump()
	case o.err != nil:
		c.finish(nil, o.err)
	case !c.pays(len(body)):
		// There is no room for the answer of a request that has taken effect.
		c.finish(nil, kv.ErrOutcomeUnknown)
	default:
		g.shard.WaitApplied(o.applied, func(error) {
			// Even if this replica stops before: the leader has said what the outcome is.
			c.finish(o.resp, nil)
		})
	}
}

// PeerUp tells that there is a connection to a node, and whether it understands requests that say how much time is left.
func (g *Gateway) PeerUp(node kv.NodeID, deadlines bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peersTold[node] = deadlines
}

func (g *Gateway) tellsDeadlines(node kv.NodeID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peersTold[node]
}

// serveTimed serves requests that say how much time is left.
func (g *Gateway) serveTimed(from kv.NodeID, instance uint64, rest []byte) error {
	malformed := false
	err := eachItem(rest, func(id uint64, body []byte) {
		left, n := binary.Uvarint(body)
		if n <= 0 {
			malformed = true
			return
		}
		longest := g.options.RequestTimeout
		g.serve(from, instance, id, time.Duration(min(left, uint64(longest/time.Millisecond)))*time.Millisecond, body[n:])
	})
	if malformed {
		return errMalformed
	}
	return err
}

func (g *Gateway) answer(to kv.NodeID, instance, id uint64, resp *kv.Response, applied uint64, err error) {
	leader := kv.NodeID(0)
	if err != nil {
		leader, _ = g.shard.Leader()
	} else if applied > 0 {
		g.shard.TellCommitted()
	}
	send := func(resp *kv.Response, applied uint64, err error) bool {
		return g.options.Sender.Append(to, ChannelResponse, func(dst []byte) []byte {
			dst = appendHeader(dst, messageAnswers, instance)
			return appendItem(dst, id, func(dst []byte) []byte { return appendOutcome(dst, resp, applied, err, leader) })
		})
	}
	sent := send(resp, applied, err)
	if !sent && err == nil && applied > 0 {
		// The answer may be larger than a frame: previous values of many keys. "Outcome unknown" goes instead, so that the caller need
		// not wait for its deadline.
		sent = send(nil, 0, kv.ErrOutcomeUnknown)
	}
	if !sent {
		// The connection is broken or as good as that; the peer finds out as it does for any lost answer.
		g.metrics.lostAnswers.Add(1)
	}
}

func (g *Gateway) serveBarrier(from kv.NodeID, instance uint64, rest []byte) error {
	id, n := binary.Uvarint(rest)
	if n <= 0 {
		return errMalformed
	}
	if !g.guests.enter(from, 0) {
		return nil // it asks again; an honest node has one barrier on the way
	}
	g.shard.ReadIndex(func(index uint64, err error) {
		g.guests.leave(from, 0)
		leader, _ := g.shard.Leader()
		sent := g.options.Sender.Append(from, ChannelResponse, func(dst []byte) []byte {
			if err != nil {
				dst = binary.AppendUvarint(appendHeader(dst, messageBarrierFailed, instance), id)
				return etcdwire.AppendError(dst, err, etcdwire.Hints{Leader: leader})
			}
			dst = binary.AppendUvarint(appendHeader(dst, messageBarrierPassed, instance), id)
			return binary.AppendUvarint(dst, index)
		})
		if sent {
			g.options.Sender.Kick(from) // it may have been answered outside of a round
		} else {
			g.metrics.lostAnswers.Add(1)
		}
	})
	return nil
}

// barrierAnswered serves the reads that shared a barrier, once what it names is applied here.
func (g *Gateway) barrierAnswered(from kv.NodeID, id, index uint64, err error) {
	if err != nil {
		g.barrierFailed(id, true)
		g.pump()
		return
	}
	g.mu.Lock()
	calls := g.barriers.done(id, from)
	g.mu.Unlock()
	if len(calls) > 0 {
		g.shard.WaitApplied(index, func(err error) { g.barrierApplied(calls, err) })
	}
	g.pump()
}

func (g *Gateway) barrierFailed(id uint64, hold bool) {
	g.mu.Lock()
	g.barriers.failed(id, hold)
	g.mu.Unlock()
}
