package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// system is a running system with a connection to each member.
type system struct {
	name        string
	connections []*grpc.ClientConn
}

func connect(c *cluster) (*system, error) {
	s := &system{name: c.system}
	for _, endpoint := range c.endpoints {
		connection, err := grpc.NewClient(endpoint[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
		if err != nil {
			s.close()
			return nil, err
		}
		s.connections = append(s.connections, connection)
	}
	return s, nil
}

func (s *system) close() {
	for _, c := range s.connections {
		c.Close()
	}
}

// raw passes messages as bytes, so that what is sent need not be a message at all.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) ([]byte, error) {
	return *v.(*[]byte), nil
}
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = slices.Clone(data)
	return nil
}

// method is a method of the API; response makes an empty answer.
type method struct {
	name     string
	response func() proto.Message
	streamed bool // many answers to one request
	stream   bool // a stream of requests, of which one is sent
}

var (
	methodRange         = method{name: "/etcdserverpb.KV/Range", response: func() proto.Message { return new(pb.RangeResponse) }}
	methodRangeStream   = method{name: "/etcdserverpb.KV/RangeStream", response: func() proto.Message { return new(pb.RangeStreamResponse) }, streamed: true}
	methodPut           = method{name: "/etcdserverpb.KV/Put", response: func() proto.Message { return new(pb.PutResponse) }}
	methodDeleteRange   = method{name: "/etcdserverpb.KV/DeleteRange", response: func() proto.Message { return new(pb.DeleteRangeResponse) }}
	methodTxn           = method{name: "/etcdserverpb.KV/Txn", response: func() proto.Message { return new(pb.TxnResponse) }}
	methodCompact       = method{name: "/etcdserverpb.KV/Compact", response: func() proto.Message { return new(pb.CompactionResponse) }}
	methodLeaseGrant    = method{name: "/etcdserverpb.Lease/LeaseGrant", response: func() proto.Message { return new(pb.LeaseGrantResponse) }}
	methodLeaseRevoke   = method{name: "/etcdserverpb.Lease/LeaseRevoke", response: func() proto.Message { return new(pb.LeaseRevokeResponse) }}
	methodTimeToLive    = method{name: "/etcdserverpb.Lease/LeaseTimeToLive", response: func() proto.Message { return new(pb.LeaseTimeToLiveResponse) }}
	methodLeases        = method{name: "/etcdserverpb.Lease/LeaseLeases", response: func() proto.Message { return new(pb.LeaseLeasesResponse) }}
	methodKeepAlive     = method{name: "/etcdserverpb.Lease/LeaseKeepAlive", response: func() proto.Message { return new(pb.LeaseKeepAliveResponse) }, streamed: true, stream: true}
	methodHashKV        = method{name: "/etcdserverpb.Maintenance/HashKV", response: func() proto.Message { return new(pb.HashKVResponse) }}
	methodAlarm         = method{name: "/etcdserverpb.Maintenance/Alarm", response: func() proto.Message { return new(pb.AlarmResponse) }}
	methodDefragment    = method{name: "/etcdserverpb.Maintenance/Defragment", response: func() proto.Message { return new(pb.DefragmentResponse) }}
	methodAuthStatus    = method{name: "/etcdserverpb.Auth/AuthStatus", response: func() proto.Message { return new(pb.AuthStatusResponse) }}
	methodAuthenticate  = method{name: "/etcdserverpb.Auth/Authenticate", response: func() proto.Message { return new(pb.AuthenticateResponse) }}
	methodUnknown       = method{name: "/etcdserverpb.KV/NoSuchMethod", response: func() proto.Message { return new(pb.PutResponse) }}
	methodUnknownServer = method{name: "/nosuch.Service/Method", response: func() proto.Message { return new(pb.PutResponse) }}
)

// answer is what a system said to one request.
type answer struct {
	message proto.Message // nil after an error
	err     error
}

// ask sends one request and puts the parts of a streamed answer together.
func (s *system) ask(ctx context.Context, member int, m method, in []byte) answer {
	connection := s.connections[member%len(s.connections)]
	if !m.streamed {
		var out []byte
		if err := connection.Invoke(ctx, m.name, &in, &out, grpc.ForceCodec(raw{})); err != nil {
			return answer{err: err}
		}
		return decode(m, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.stream}, m.name, grpc.ForceCodec(raw{}))
	if err != nil {
		return answer{err: err}
	}
	if err := stream.SendMsg(&in); err != nil && !errors.Is(err, io.EOF) {
		return answer{err: err}
	}
	if err := stream.CloseSend(); err != nil {
		return answer{err: err}
	}
	var all []byte // messages behind one another are their merger
	for {
		var out []byte
		err := stream.RecvMsg(&out)
		if errors.Is(err, io.EOF) {
			return decode(m, all)
		}
		if err != nil {
			return answer{err: err}
		}
		all = append(all, out...)
	}
}

func decode(m method, out []byte) answer {
	message := m.response()
	if err := proto.Unmarshal(out, message); err != nil {
		return answer{err: fmt.Errorf("the answer is malformed: %w", err)}
	}
	return answer{message: message}
}

// text of an answer for comparison. Of errors in decoding only the code is compared: what a decoder complains of first differs.
func (a answer) text() string {
	if a.err == nil {
		return prototext.MarshalOptions{}.Format(a.message)
	}
	s := status.Convert(a.err)
	return fmt.Sprintf("%v %q", s.Code(), s.Message())
}
