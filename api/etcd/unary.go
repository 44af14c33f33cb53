package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// Caller is what an edge knows about who calls.
type Caller struct {
	Principal     string // empty: anonymous
	Proof         kv.Credential
	Deadline      time.Time // zero: none
	RequireLeader bool      // fail at once while no leader is known
	Memory        kv.Memory // pays for what the request holds besides its bytes; nil: nobody counts
}

// start decodes a request and submits it. When it returns an error, Done is not called.
func (s *Service) start(call *gateway.Call, kind kv.Kind, caller Caller, in []byte) error {
	if err := s.prepare(call, kind, caller, in); err != nil {
		return err
	}
	s.options.Gateway.Submit(call)
	return nil
}

// prepare decodes a request.
func (s *Service) prepare(call *gateway.Call, kind kv.Kind, caller Caller, in []byte) error {
	if len(in) > s.options.MaxRequestBytes {
		return fmt.Errorf("a request of %d bytes, the limit is %d: %w", len(in), s.options.MaxRequestBytes, kv.ErrRequestTooLarge)
	}
	limits := s.limits
	if kind == kv.KindTxn && caller.Memory != nil {
		tally := kv.NewTally(caller.Memory)
		limits.Memory = &tally
	}
	request, err := etcdwire.DecodeBody(kind, in, limits)
	if err != nil {
		return err
	}
	request.Principal, request.Credential, request.Memory = caller.Principal, caller.Proof, caller.Memory
	call.Req, call.Deadline, call.RequireLeader = request, caller.Deadline, caller.RequireLeader
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

// answer is a response that is encoded when it is sent.
type answer struct {
	header   etcdwire.Header
	response *kv.Response
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

// callerOf is who began a call, with its context.
func (s *Service) callerOf(ctx context.Context, c *rpc.Call) (Caller, error) {
	principal, proof, err := s.identify(c)
	deadline, _ := ctx.Deadline()
	return Caller{Principal: principal, Proof: proof, Deadline: deadline, RequireLeader: requiresLeader(ctx)}, err
}

func requiresLeader(ctx context.Context) bool {
	values := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(values) > 0 && wantsLeader(values[0])
}

// wantsLeader takes the value of the header by which clients ask that there is a leader.
func wantsLeader(value string) bool { return value == rpctypes.MetadataHasLeader }
