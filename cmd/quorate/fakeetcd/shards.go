package fakeetcd

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoratedb/quorate/proto/native"
)

// registerShards serves Quorate's own call. Its messages have no generated code: an empty one with fields that it does not know stands in for them.
func (s *Server) registerShards() {
	service, method, _ := strings.Cut(strings.TrimPrefix(native.ListShards, "/"), "/")
	list := func(_ any, _ context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := receive(&emptypb.Empty{}); err != nil {
			return nil, err
		}
		answer := &emptypb.Empty{}
		answer.ProtoReflect().SetUnknown(s.options.Shards.Append(nil))
		return answer, nil
	}
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: method, Handler: list}},
	}, s)
}
