package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/proto/h2"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// How methods get from a connection to what serves them.

// keptHeaders are the ones that anybody looks at.
var keptHeaders = []string{rpctypes.MetadataRequireLeaderKey, rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger}

// registry collects methods by their paths. It is a grpc.ServiceRegistrar.
type registry map[string]rpc.Method

// RegisterService implements grpc.ServiceRegistrar.
func (r registry) RegisterService(desc *grpc.ServiceDesc, server any) {
	for _, m := range desc.Methods {
		r["/"+desc.ServiceName+"/"+m.MethodName] = rpc.Method{Unary: func(c *rpc.Call) { c.Go(func() { serveTyped(c, server, m.Handler) }) }}
	}
	for _, m := range desc.Streams {
		r["/"+desc.ServiceName+"/"+m.StreamName] = rpc.Method{Stream: func(c *rpc.Call) error {
			return m.Handler(server, &serverStream{call: c, ctx: incoming(c.Context(), c)})
		}}
	}
}

// lookup finds a method; unknown ones answer that they are.
func (s *Server) lookup(path string) rpc.Method {
	if m, known := s.methods[path]; known {
		return m
	}
	return rpc.Method{Unary: func(c *rpc.Call) { c.Fail(unimplemented(path)) }}
}

// statusOf is what a client is told of an error.
func statusOf(err error) h2.Status {
	s, is := status.FromError(err)
	if !is {
		s = status.Convert(toGRPC(err))
	}
	answer := h2.Status{Code: uint32(s.Code()), Message: s.Message()}
	if p := s.Proto(); len(p.GetDetails()) > 0 {
		answer.Details, _ = proto.Marshal(p)
	}
	return answer
}

// hot is a call of a method that is a kv.Request.
type hot struct {
	gateway.Call
	service *Service
	rpc     *rpc.Call
	audited ending
}

// hotMethod serves such calls without a goroutine of their own, unless they may take long.
func (s *Service) hotMethod(operation string, kind kv.Kind) rpc.Method {
	return rpc.Method{Unary: func(c *rpc.Call) {
		h := &hot{service: s, rpc: c}
		h.Done = h.done
		principal, proof, err := s.identify(c)
		if err != nil {
			s.auditRefusal(c, err)
			c.Fail(toGRPC(err))
			return
		}
		caller := Caller{
			Principal: principal, Proof: proof, Deadline: c.Deadline(), RequireLeader: wantsLeader(c.Header(rpctypes.MetadataRequireLeaderKey)), Memory: c,
		}
		if err := s.prepare(&h.Call, kind, caller, c.Request()); err != nil {
			c.Fail(err)
			return
		}
		if s.options.Audit != nil {
			end, err := s.audit(c, operation, h.Req.Principal, h.Req)
			if err != nil {
				c.Fail(err)
				return
			}
			h.audited = end
		}
		h.MoreFollow = c.Hurried()
		switch {
		case gateway.Short(h.Req):
			h.submit()
		case kind == kv.KindRange && lists(h.Req.Range):
			c.GoSending(func() error {
				err := s.sendList(c, &h.Call)
				h.audited.ended(0, err)
				return err
			})
		default:
			c.Go(h.submit)
		}
	}}
}

func (h *hot) submit() {
	h.service.options.Gateway.Submit(&h.Call)
	h.rpc.OnCancel(func() { h.service.options.Gateway.Cancel(&h.Call) })
}

func (h *hot) done(response *kv.Response, err error) {
	if h.audited != nil {
		revision := kv.Revision(0)
		if response != nil {
			revision = response.Revision
		}
		h.audited.ended(revision, err)
	}
	if err != nil {
		h.rpc.Fail(toGRPC(err))
		return
	}
	if h.rpc.ReservedBytes() > asideBytes {
		h.rpc.Aside(func() { h.answer(response) })
	} else {
		h.answer(response)
	}
}

// asideBytes: a larger answer is not encoded by whoever brings it, which may be the driver.
const asideBytes = 256 << 10

// answer sends an answer. What was reserved while it was made is given back if it is encoded: that is counted by itself.
func (h *hot) answer(response *kv.Response) {
	m := answerMessage(h.service.header(), response)
	if m.Next == nil {
		h.rpc.ReleaseAll()
	}
	h.rpc.Answer(m)
}

// answerMessage encodes an answer. A long list is encoded when it is sent, piece by piece, and what is encoded is let go of: it is not in memory
// twice.
func answerMessage(header etcdwire.Header, response *kv.Response) h2.Message {
	size := etcdwire.AnswerSize(header, response)
	if size <= 2*partBytes || response.Kind != kv.KindRange {
		return h2.Message{Bytes: etcdwire.AppendAnswer(make([]byte, 0, size), header, response)}
	}
	return h2.Message{SizeBytes: size, Next: func() ([]byte, error) {
		if len(response.Range.KVs) > 0 {
			return etcdwire.TakeRangeKeys(make([]byte, 0, partBytes), response.Range), nil
		}
		return etcdwire.AppendAnswer(nil, header, response), nil
	}}
}

// serveTyped serves a call on generated messages, for methods whose speed does not matter.
func serveTyped(c *rpc.Call, server any, handler grpc.MethodHandler) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if deadline := c.Deadline(); !deadline.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, deadline)
		defer stop()
	}
	c.OnCancel(cancel)
	ctx = grpc.NewContextWithServerTransportStream(incoming(ctx, c), headers{c})
	var end ending
	if s, ours := server.(*Server); ours && s.options.Audit != nil {
		var err error
		if end, err = s.audit(c, operationOf(c.Method()), s.nameOf(c), nil); err != nil {
			c.Fail(err)
			return
		}
	}
	response, err := handler(server, ctx, func(m any) error { return unmarshal(c.Request(), m) }, nil)
	end.ended(0, err)
	if err != nil {
		c.Fail(err)
		return
	}
	m, err := marshal(response)
	if err != nil {
		c.Fail(err)
		return
	}
	c.Answer(m)
}

// incoming adds the headers that were kept.
func incoming(ctx context.Context, c *rpc.Call) context.Context {
	md := metadata.MD{}
	for _, name := range keptHeaders {
		if value := c.Header(name); value != "" {
			md.Set(name, value)
		}
	}
	return metadata.NewIncomingContext(ctx, md)
}

// headers lets grpc.SetHeader reach the call.
type headers struct{ *rpc.Call }

// SetHeader implements grpc.ServerTransportStream.
func (h headers) SetHeader(md metadata.MD) error {
	for name, values := range md {
		for _, value := range values {
			h.Call.SetHeader(name, value)
		}
	}
	return nil
}

// SendHeader implements grpc.ServerTransportStream: headers go with the first message.
func (h headers) SendHeader(md metadata.MD) error { return h.SetHeader(md) }

// SetTrailer implements grpc.ServerTransportStream.
func (headers) SetTrailer(metadata.MD) error {
	return errors.New("etcd API: trailers of one's own are not supported")
}

// serverStream is a call as grpc's handlers of streams want it.
type serverStream struct {
	call *rpc.Call
	ctx  context.Context
}

// callOf is the call behind a stream that RegisterService made.
func callOf(transport grpc.ServerStream) *rpc.Call { return transport.(*serverStream).call }

func (s *serverStream) SetHeader(md metadata.MD) error  { return headers{s.call}.SetHeader(md) }
func (s *serverStream) SendHeader(md metadata.MD) error { return headers{s.call}.SetHeader(md) }
func (s *serverStream) SetTrailer(metadata.MD)          {}
func (s *serverStream) Context() context.Context        { return s.ctx }

func (s *serverStream) SendMsg(message any) error {
	m, err := marshal(message)
	if err != nil {
		return err
	}
	return s.call.Send(m)
}

// QueueMsg is SendMsg for a message after which another one or FlushMsgs follows at once.
func (s *serverStream) QueueMsg(message any) error {
	m, err := marshal(message)
	if err != nil {
		return err
	}
	return s.call.Queue(m)
}

// FlushMsgs sends what is queued.
func (s *serverStream) FlushMsgs() { s.call.Flush() }

// Arrivals has messages offered where they arrive.
func (s *serverStream) Arrivals(take func(message []byte) bool) { s.call.Arrivals(take) }

// TrySend is QueueMsg that does not wait, for who handles arrivals. It tells whether the client takes too little.
func (s *serverStream) TrySend(message any) (full bool, err error) {
	m, err := marshal(message)
	if err != nil {
		return false, err
	}
	return s.call.TrySend(m), nil
}

// queued is a stream of messages that are sent together.
type queued interface {
	QueueMsg(any) error
	FlushMsgs()
}

func (s *serverStream) RecvMsg(message any) error {
	in, err := s.call.Receive()
	if err != nil {
		return err
	}
	defer s.call.Done(in)
	return unmarshal(in, message)
}

// Messages that pass without protobuf.

// inbound receives the bytes of a message. They are a copy of their own: what is decoded from them may outlive the call.
type inbound struct{ bytes []byte }

// outbound is a message in pieces, which may be shared with other messages.
type outbound struct{ pieces [][]byte }

// partBytes is about how much of a long answer is encoded at once.
const partBytes = 1 << 20

func unmarshal(in []byte, message any) error {
	switch m := message.(type) {
	case *inbound:
		m.bytes = in
		return nil
	case proto.Message:
		if err := proto.Unmarshal(in, m); err != nil {
			return fmt.Errorf("%w: %w", etcdwire.ErrMalformed, err)
		}
		return nil
	}
	return errors.New("etcd API: a message of an unknown type")
}

func marshal(message any) (h2.Message, error) {
	switch m := message.(type) {
	case *answer:
		return answerMessage(m.header, m.response), nil
	case *outbound:
		return m.message(), nil
	case proto.Message:
		out, err := proto.Marshal(m)
		return h2.Message{Bytes: out}, err
	}
	return h2.Message{}, errors.New("etcd API: a message of an unknown type")
}

func (o *outbound) message() h2.Message {
	m := h2.Message{}
	for _, piece := range o.pieces {
		m.SizeBytes += len(piece)
	}
	m.HeldBytes = m.SizeBytes
	rest := o.pieces
	m.Next = func() ([]byte, error) {
		for len(rest) > 0 {
			piece := rest[0]
			if rest = rest[1:]; len(piece) > 0 {
				return piece, nil
			}
		}
		return nil, io.ErrUnexpectedEOF
	}
	return m
}
