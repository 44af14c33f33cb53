package etcd

import (
	"context"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const rangeStreamMethod = "/etcdserverpb.KV/RangeStream"

// handleRangeStream sends a range in portions. The last one, which has the last keys, has the header, count and more too: clients
// act upon what they have when the last keys come (Kubernetes makes a page's continue token of it), so an end of its own would be too late.
func (s *Service) handleRangeStream(_ any, transport grpc.ServerStream) error {
	return s.withStream(rangeStreamMethod, transport, func(one *stream) error {
		var in inbound
		if err := transport.RecvMsg(&in); err != nil {
			return err
		}
		request, err := etcdwire.DecodeBody(kv.KindRange, in.bytes, s.limits)
		if err != nil {
			return err
		}
		if err := checkRangeStream(request.Range); err != nil {
			return err
		}
		caller, err := s.callerOf(transport.Context(), callOf(transport))
		if err != nil {
			s.auditRefusal(callOf(transport), err)
			return err
		}
		request.Principal, request.Credential = caller.Principal, caller.Proof
		call := callOf(transport)
		end, err := s.audit(call, "RangeStream", request.Principal, request)
		if err != nil {
			return err
		}
		if lists(request.Range) {
			err = s.streamList(one.ctx, call, request)
		} else {
			request.Memory = call // all of it is in memory while it is sent
			err = s.sendRange(one.ctx, transport, request)
		}
		end.ended(0, err)
		return err
	})
}

// checkRangeStream refuses what etcd refuses, in its words and order.
func checkRangeStream(r *kv.RangeRequest) error {
	switch {
	case len(r.Span.Start) == 0:
		return kv.ErrEmptyKey
	case r.SortOrder > kv.SortDescend || r.SortTarget > kv.SortByValue:
		return kv.ErrInvalidSortOption
	case r.SortOrder != kv.SortNone && !(r.SortTarget == kv.SortByKey && r.SortOrder == kv.SortAscend):
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	case r.Filters():
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	return nil
}

func (s *Service) sendRange(ctx context.Context, transport grpc.ServerStream, request *kv.Request) error {
	return s.options.Gateway.RangeStream(ctx, request, func(r *kv.Response, last bool) error {
		var header *etcdwire.Header
		if last {
			h := s.header()
			h.Revision = r.Revision
			header = &h
		}
		chunk := make([]byte, 0, etcdwire.RangeChunkSize(header, r.Range))
		return transport.SendMsg(&outbound{[][]byte{etcdwire.AppendRangeChunk(chunk, header, r.Range)}})
	})
}
