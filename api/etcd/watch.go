package etcd

import (
	"context"
	"errors"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

const watchMethod = "/etcdserverpb.Watch/Watch"

// handleWatch serves one watch stream: a goroutine takes the client's requests to the stream of
// the watch hub, and this one sends what the hub has for it. While a send blocks, changes collect in the hub.
func (s *Service) handleWatch(_ any, transport grpc.ServerStream) error {
	return s.withStream(watchMethod, transport, func(one *stream) error {
		caller, err := s.callerOf(transport.Context(), callOf(transport))
		if err != nil {
			s.auditRefusal(callOf(transport), err)
			return err
		}
		hub, err := s.options.Gateway.NewWatchStream(caller.Principal, caller.Proof, callOf(transport))
		if err != nil {
			return err
		}
		defer hub.Close()
		next := func() any { return new(etcdserverpb.WatchRequest) }
		handle := func(message any) error {
			r := message.(*etcdserverpb.WatchRequest)
			create := r.GetCreateRequest()
			if create == nil {
				return request(one.ctx, hub, r)
			}
			end, err := s.auditWatch(callOf(transport), caller.Principal, create)
			if err != nil {
				return err
			}
			s.beforeWatch(one.ctx, caller, create)
			err = request(one.ctx, hub, r)
			end.ended(0, err)
			return err
		}
		s.receive(one, transport, next, handle, func() {}) // a client that has no more to ask still gets its events
		for {
			batch, err := hub.Next(one.ctx)
			if err != nil {
				return err
			}
			if err := s.sendBatch(transport.(queued), batch); err != nil {
				return err
			}
		}
	})
}

// beforeWatch sees to it that a watch is not refused because this node has not heard yet that it is allowed.
func (s *Service) beforeWatch(ctx context.Context, caller Caller, r *etcdserverpb.WatchCreateRequest) {
	if s.users() == nil && s.options.Gateway.KnowsUsers() {
		return
	}
	if span := createRequest(r).Span; s.options.Gateway.MayWatch(caller.Principal, caller.Proof, span) != nil {
		_ = s.options.Gateway.CatchUp(ctx, kv.SystemShard) // without it the watch is refused by what is known
	}
}

// request hands a client's request on. An empty one is ignored, as in etcd.
func request(ctx context.Context, hub *watch.Stream, r *etcdserverpb.WatchRequest) error {
	switch r := r.RequestUnion.(type) {
	case *etcdserverpb.WatchRequest_CreateRequest:
		_, err := hub.Create(ctx, createRequest(r.CreateRequest))
		return err
	case *etcdserverpb.WatchRequest_CancelRequest:
		return hub.Cancel(ctx, watch.ID(r.CancelRequest.WatchId))
	case *etcdserverpb.WatchRequest_ProgressRequest:
		return hub.RequestProgress(ctx)
	default:
		return nil
	}
}

func createRequest(r *etcdserverpb.WatchCreateRequest) watch.CreateRequest {
	out := watch.CreateRequest{
		ID:            watch.ID(r.WatchId),
		Span:          kv.Span{Start: r.Key, End: r.RangeEnd},
		StartRevision: kv.Revision(r.StartRevision),
		PrevKV:        r.PrevKv, ProgressNotify: r.ProgressNotify, Fragment: r.Fragment,
	}
	for _, filter := range r.Filters {
		switch filter {
		case etcdserverpb.WatchCreateRequest_NOPUT:
			out.Filters |= watch.FilterNoPut
		case etcdserverpb.WatchCreateRequest_NODELETE:
			out.Filters |= watch.FilterNoDelete
		}
	}
	return out
}

// sendBatch sends a batch once for each of its watches. The encoded events are shared by all of them.
func (s *Service) sendBatch(transport queued, batch *watch.Batch) error {
	head := etcdwire.WatchResponse{Header: s.header()}
	head.Header.Revision = batch.Revision
	switch batch.Kind {
	case watch.KindCreated:
		head.Created = true
		if batch.Err != nil {
			head.Canceled, head.CancelReason = true, refusal(batch.Err)
		}
	case watch.KindCanceled:
		head.Canceled, head.CompactRevision = true, batch.CompactRevision
		if batch.Err != nil {
			head.CancelReason = refusal(batch.Err)
		}
	case watch.KindEvents:
		return s.sendEvents(transport, &head, batch)
	}
	return sendToAll(transport, &head, batch.IDs, nil)
}

// refusal is the reason that etcd gives for a watch that was not created.
func refusal(err error) string {
	switch {
	case errors.Is(err, kv.ErrCompacted):
		return rpctypes.ErrCompacted.Error()
	case errors.Is(err, kv.ErrPermissionDenied):
		return rpctypes.ErrGRPCPermissionDenied.Error()
	default:
		return err.Error()
	}
}

// watchIDBytes is what the ID of a watch takes in a message, at most.
const watchIDBytes = 11

func (s *Service) sendEvents(transport queued, head *etcdwire.WatchResponse, batch *watch.Batch) error {
	if !batch.Fragment {
		return sendToAll(transport, head, batch.IDs, encodedEvents(batch.Events, batch.PrevKV))
	}
	overhead := etcdwire.WatchResponseSize(head) + watchIDBytes
	size := func(e *watch.Event) int { return len(e.Encoded(batch.PrevKV)) }
	limit := s.options.MaxRequestBytes + requestOverheadBytes
	// All parts of one watch go out before the next watch's: etcd's client puts them together as they come.
	for i := range batch.IDs {
		err := batch.Fragments(overhead, limit, size, func(events []*watch.Event, more bool) error {
			head.Fragment = more
			return sendToAll(transport, head, batch.IDs[i:i+1], encodedEvents(events, batch.PrevKV))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// encodedEvents puts the events behind one another. A single one is used as it is.
func encodedEvents(events []*watch.Event, withPrev bool) []byte {
	if len(events) == 1 {
		return events[0].Encoded(withPrev)
	}
	size := 0
	for _, e := range events {
		size += len(e.Encoded(withPrev))
	}
	all := make([]byte, 0, size)
	for _, e := range events {
		all = append(all, e.Encoded(withPrev)...)
	}
	return all
}

func sendToAll(transport queued, head *etcdwire.WatchResponse, ids []watch.ID, events []byte) error {
	for _, id := range ids {
		head.WatchID = int64(id)
		own := etcdwire.AppendWatchResponse(make([]byte, 0, etcdwire.WatchResponseSize(head)+watchIDBytes), head)
		if err := transport.QueueMsg(&outbound{[][]byte{own, events}}); err != nil {
			return err
		}
	}
	transport.FlushMsgs()
	return nil
}
