package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Caller is what an edge knows about who calls.
type Caller struct {
	Principal     string    // empty: anonymous
	Deadline      time.Time // zero: none
	RequireLeader bool      // fail at once while no leader is known
}

// ServeUnary starts one unary call: method is gRPC's full name of it, in the request message,
// out the response message. The input belongs to the call from now on. done is called
// exactly once, on any goroutine and perhaps before ServeUnary returns, and must not block. Its error is a gRPC status.
//
// The returned call may be passed to CancelUnary; it is nil when the call was refused at once.
func (s *Service) ServeUnary(method string, caller Caller, in []byte, done func(out []byte, err error)) *gateway.Call {
	kind, served := unaryKinds[method]
	if !served {
		done(nil, status.Errorf(codes.Unimplemented, "%s is not a plain unary method", method))
		return nil
	}
	call := &gateway.Call{Done: func(response *kv.Response, err error) {
		if err != nil {
			done(nil, toGRPC(err))
			return
		}
		header := s.header()
		done(etcdwire.AppendAnswer(make([]byte, 0, etcdwire.AnswerSize(header, response)), header, response), nil)
	}}
	if err := s.start(call, kind, caller, in); err != nil {
		done(nil, toGRPC(err))
		return nil
	}
	return call
}

// CancelUnary says that nobody waits for the call any more; done is still called.
func (s *Service) CancelUnary(call *gateway.Call) { s.options.Gateway.Cancel(call) }

// start decodes a request and submits it. When it returns an error, Done is not called.
func (s *Service) start(call *gateway.Call, kind kv.Kind, caller Caller, in []byte) error {
	if len(in) > s.options.MaxRequestBytes {
		return fmt.Errorf("a request of %d bytes, the limit is %d: %w", len(in), s.options.MaxRequestBytes, kv.ErrRequestTooLarge)
	}
	request, err := etcdwire.DecodeBody(kind, in, s.limits)
	if err != nil {
		return err
	}
	request.Principal = caller.Principal
	call.Req, call.Deadline, call.RequireLeader = request, caller.Deadline, caller.RequireLeader
	s.options.Gateway.Submit(call)
	return nil
}

func (s *Service) hasLeader() bool {
	leader, _ := s.options.Node.Leader()
	return leader != 0
}

// header of every response; the revision is the response's.
func (s *Service) header() etcdwire.Header {
	_, term := s.options.Node.Leader()
	return etcdwire.Header{ClusterID: s.options.ClusterID, MemberID: s.options.MemberID, RaftTerm: term}
}

// waiter is a call that a goroutine waits for, with its request and answer in one piece of memory.
type waiter struct {
	in      inbound
	call    gateway.Call
	arrived chan struct{} // capacity 1
	answer  answer
	err     error
}

func (s *Service) newWaiter() *waiter {
	w := &waiter{arrived: s.channels.Get().(chan struct{})}
	w.call.Done = w.done
	return w
}

func (w *waiter) done(response *kv.Response, err error) {
	w.answer.response, w.err = response, err
	w.arrived <- struct{}{}
}

// wait returns the answer, or the context's error if that ends first; the call is then canceled.
func (s *Service) wait(ctx context.Context, w *waiter) (*answer, error) {
	select {
	case <-w.arrived: // at once, as reads often are
	default:
		select {
		case <-w.arrived:
		case <-ctx.Done():
			s.options.Gateway.Cancel(&w.call)
			return nil, context.Cause(ctx)
		}
	}
	s.channels.Put(w.arrived)
	w.answer.header = s.header()
	return &w.answer, w.err
}

// handleUnary is the gRPC handler of a method that is a kv.Request.
func (s *Service) handleUnary(ctx context.Context, kind kv.Kind, receive func(any) error) (any, error) {
	w := s.newWaiter()
	if err := receive(&w.in); err != nil {
		return nil, err
	}
	if err := s.start(&w.call, kind, callerOf(ctx), w.in.bytes); err != nil {
		return nil, toGRPC(err)
	}
	out, err := s.wait(ctx, w)
	if err != nil {
		return nil, toGRPC(err)
	}
	return out, nil
}

func callerOf(ctx context.Context) Caller {
	deadline, _ := ctx.Deadline()
	return Caller{Principal: principalOf(ctx), Deadline: deadline, RequireLeader: requiresLeader(ctx)}
}

// principalOf is the one place where a client's identity enters. Nobody has one before users exist.
func principalOf(context.Context) string { return "" }

func requiresLeader(ctx context.Context) bool {
	values := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(values) > 0 && values[0] == rpctypes.MetadataHasLeader
}
