package fakeetcd

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// registerList serves one of Quorate's own calls. Their messages have no generated code: an empty one with fields that it does not know stands in for them.
func (s *Server) registerList(path string, answerWith func([]byte) []byte) {
	service, method, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	list := func(_ any, _ context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := receive(&emptypb.Empty{}); err != nil {
			return nil, err
		}
		answer := &emptypb.Empty{}
		answer.ProtoReflect().SetUnknown(answerWith(nil))
		return answer, nil
	}
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: method, Handler: list}},
	}, s)
}
