package etcd

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/quoratedb/quorate/kv"
	"google.golang.org/grpc"
)

const keepAliveMethod = "/etcdserverpb.Lease/LeaseKeepAlive"

// handleKeepAlive answers a stream of keep-alives in their order. Most have their answer at once, from the leader's memory, and get it where they
// arrive. The others are in flight together, because a client sends those of all its leases in one burst.
func (s *Service) handleKeepAlive(_ any, transport grpc.ServerStream) error {
	return s.withStream(keepAliveMethod, transport, func(one *stream) error {
		caller, err := s.callerOf(transport.Context(), callOf(transport))
		if err != nil {
			return err
		}
		k := &keepAlives{
			service: s, ctx: one.ctx, caller: caller, transport: transport.(arriving),
			queue: make(chan *waiter, s.options.KeepAlivesInFlight),
		}
		var w *waiter
		next := func() any {
			w = k.newCall()
			return &w.in
		}
		k.transport.Arrivals(k.arrived)
		s.receive(one, transport, next, func(any) error { return k.take(w) }, func() { close(k.queue) })
		return k.answerQueued()
	})
}

// keepAlives is a stream of keep-alives.
type keepAlives struct {
	service   *Service
	ctx       context.Context
	caller    Caller
	transport arriving
	queue     chan *waiter
	// unanswered counts what waits in the queue, or was in it and has not been sent. While it is not 0 nothing is answered where it arrives, or it
	// would overtake.
	unanswered atomic.Int64
	full       atomic.Bool // the client takes too little: whoever has the time waits for it
}

// arriving is a stream whose messages are offered where they arrive.
type arriving interface {
	queued
	Arrivals(take func(message []byte) (taken bool))
	TrySend(message any) (full bool, err error)
}

// newCall returns a call for a keep-alive. There may be more of them in the stream.
func (k *keepAlives) newCall() *waiter {
	w := k.service.newWaiter()
	w.call.MoreFollow = true
	return w
}

// arrived takes a keep-alive where it arrives, and must not wait. false: it is for take.
func (k *keepAlives) arrived(message []byte) bool {
	if k.unanswered.Load() > 0 || k.full.Load() || k.ctx.Err() != nil {
		return false
	}
	w := k.newCall()
	if k.service.start(&w.call, kv.KindLeaseKeepAlive, k.caller, message) != nil {
		return false // take finds the same, and ends the stream
	}
	select {
	case <-w.arrived:
	default:
		k.wait(w)
		return true
	}
	if w.err == nil {
		w.answer.header = k.service.header()
		var full bool
		full, w.err = k.transport.TrySend(&w.answer)
		k.full.Store(full)
	}
	if w.err != nil {
		w.arrived <- struct{}{} // for who waits, and ends the stream
		k.wait(w)
		return true
	}
	k.service.channels.Put(w.arrived)
	return true
}

// wait queues the first call that waits. There is room.
func (k *keepAlives) wait(w *waiter) {
	k.unanswered.Add(1)
	k.queue <- w
}

// take submits a keep-alive that arrived does not answer.
func (k *keepAlives) take(w *waiter) error {
	k.full.Store(false) // whoever answers waits for the client
	if err := k.service.start(&w.call, kv.KindLeaseKeepAlive, k.caller, w.in.bytes); err != nil {
		return err
	}
	k.unanswered.Add(1)
	select {
	case k.queue <- w:
		return nil
	case <-k.ctx.Done():
		k.service.options.Gateway.Cancel(&w.call)
		return context.Cause(k.ctx)
	}
}

// answerQueued sends answers until the queue is closed and empty. Those that are there are sent together.
func (k *keepAlives) answerQueued() error {
	for {
		var w *waiter
		var open bool
		select {
		case w, open = <-k.queue:
		default:
			k.transport.FlushMsgs()
			select {
			case w, open = <-k.queue:
			case <-k.ctx.Done():
				return context.Cause(k.ctx)
			}
		}
		if !open {
			return nil
		}
		if len(w.arrived) == 0 {
			k.transport.FlushMsgs()
		}
		if err := k.answer(w); err != nil {
			return err
		}
		k.unanswered.Add(-1)
	}
}

// answer waits for the answer and queues it to be sent.
func (k *keepAlives) answer(w *waiter) error {
	out, err := k.service.wait(k.ctx, w)
	if errors.Is(err, kv.ErrLeaseNotFound) { // etcd answers with a TTL of 0
		id := w.call.Req.LeaseKeepAlive.ID
		out.response, err = &kv.Response{
			Kind: kv.KindLeaseKeepAlive, Revision: k.service.options.Node.Revision(),
			LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: id},
		}, nil
	}
	if err != nil {
		return err
	}
	return k.transport.QueueMsg(out)
}
