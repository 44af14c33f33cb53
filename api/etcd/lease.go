package etcd

import (
	"context"
	"errors"

	"github.com/quoratedb/quorate/kv"
	"google.golang.org/grpc"
)

const keepAliveMethod = "/etcdserverpb.Lease/LeaseKeepAlive"

// handleKeepAlive answers a stream of keep-alives in their order. Many are in flight at once: each goes through the
// log, and a client sends those of all its leases in one burst.
func (s *Service) handleKeepAlive(_ any, transport grpc.ServerStream) error {
	return s.withStream(keepAliveMethod, transport, func(one *stream) error {
		queue := make(chan *waiter, s.options.KeepAlivesInFlight)
		caller := callerOf(transport.Context())
		var w *waiter
		next := func() any {
			w = s.newWaiter()
			return &w.in
		}
		handle := func(any) error { return s.startKeepAlive(one.ctx, caller, w, queue) }
		s.receive(one, transport, next, handle, func() { close(queue) })
		return s.answerKeepAlives(one.ctx, transport.(queued), queue)
	})
}

func (s *Service) startKeepAlive(ctx context.Context, caller Caller, w *waiter, queue chan<- *waiter) error {
	if err := s.start(&w.call, kv.KindLeaseKeepAlive, caller, w.in.bytes); err != nil {
		return err
	}
	select {
	case queue <- w:
		return nil
	case <-ctx.Done():
		s.options.Gateway.Cancel(&w.call)
		return context.Cause(ctx)
	}
}

// answerKeepAlives sends answers until the queue is closed and empty. Those that are there are sent together.
func (s *Service) answerKeepAlives(ctx context.Context, transport queued, queue <-chan *waiter) error {
	for {
		var w *waiter
		var open bool
		select {
		case w, open = <-queue:
		default:
			transport.FlushMsgs()
			select {
			case w, open = <-queue:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if !open {
			return nil
		}
		if len(w.arrived) == 0 {
			transport.FlushMsgs()
		}
		out, err := s.wait(ctx, w)
		if errors.Is(err, kv.ErrLeaseNotFound) { // etcd answers with a TTL of 0
			id := w.call.Req.LeaseKeepAlive.ID
			out.response, err = &kv.Response{
				Kind: kv.KindLeaseKeepAlive, Revision: s.options.Node.Revision(),
				LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: id},
			}, nil
		}
		if err != nil {
			return err
		}
		if err := transport.QueueMsg(out); err != nil {
			return err
		}
	}
}
