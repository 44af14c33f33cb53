package etcd

import (
	"context"
	"maps"

	"github.com/quoratedb/quorate/kv"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unaryKinds are the methods that are a kv.Request and take the short path.
var unaryKinds = map[string]kv.Kind{
	"/etcdserverpb.KV/Range":              kv.KindRange,
	"/etcdserverpb.KV/Put":                kv.KindPut,
	"/etcdserverpb.KV/DeleteRange":        kv.KindDeleteRange,
	"/etcdserverpb.KV/Txn":                kv.KindTxn,
	"/etcdserverpb.KV/Compact":            kv.KindCompact,
	"/etcdserverpb.Lease/LeaseGrant":      kv.KindLeaseGrant,
	"/etcdserverpb.Lease/LeaseRevoke":     kv.KindLeaseRevoke,
	"/etcdserverpb.Lease/LeaseTimeToLive": kv.KindLeaseTimeToLive,
	"/etcdserverpb.Lease/LeaseLeases":     kv.KindLeaseLeases,
	"/etcdserverpb.Cluster/MemberList":    kv.KindMemberList,
	"/etcdserverpb.Maintenance/Alarm":     kv.KindAlarm,
}

// Why methods are not served; a whole service where the method has no line of its own.
var absent = map[string]string{
	"/etcdserverpb.Cluster":               "the members of this cluster cannot be changed; they are those of --initial-cluster",
	"/etcdserverpb.Maintenance/Downgrade": "Quorate has no etcd version to downgrade to",
	"/etcdserverpb.Auth":                  "users, roles and authentication are not available in this version of Quorate; connect without a user",
	"/v3lockpb.Lock":                      locksAreInClients,
	"/v3electionpb.Election":              locksAreInClients,
}

const locksAreInClients = "locks and elections as services are not available in this version of Quorate; those in the client libraries (clientv3/concurrency) work"

func unimplemented(method string) error {
	service, _ := splitMethod(method)
	reason, known := absent[method]
	if !known {
		reason, known = absent[service]
	}
	if !known {
		reason = "Quorate does not know this method; it speaks the API of etcd " + EtcdVersion
	}
	return status.Errorf(codes.Unimplemented, "%s: %s", method, reason)
}

// splitMethod splits "/service/method" into "/service" and "method".
func splitMethod(full string) (service, method string) {
	for i := len(full) - 1; i > 0; i-- {
		if full[i] == '/' {
			return full[:i], full[i+1:]
		}
	}
	return full, ""
}

// services returns etcd's services with our handlers. Every method that the generated descriptions have is there; those of unaryKinds are served
// in another way.
func (s *Service) services() []grpc.ServiceDesc {
	unary := map[string]grpc.MethodHandler{
		"/etcdserverpb.Maintenance/Status":     typed(s, s.status),
		"/etcdserverpb.Maintenance/HashKV":     typed(s, s.hashKV),
		"/etcdserverpb.Maintenance/Hash":       typed(s, s.hash),
		"/etcdserverpb.Maintenance/Defragment": typed(s, s.defragment),
		"/etcdserverpb.Maintenance/MoveLeader": typed(s, s.moveLeader),
		"/etcdserverpb.Auth/AuthStatus":        typed(s, s.authStatus),
		"/etcdserverpb.Auth/Authenticate":      typed(s, s.authenticate),
	}
	if s.options.Users != nil {
		maps.Copy(unary, s.authMethods())
	}
	if s.options.Follower != nil {
		maps.Copy(unary, s.memberMethods())
	}
	streams := map[string]grpc.StreamHandler{
		"/etcdserverpb.KV/RangeStream":       s.handleRangeStream,
		"/etcdserverpb.Watch/Watch":          s.handleWatch,
		"/etcdserverpb.Lease/LeaseKeepAlive": s.handleKeepAlive,
		snapshotMethod:                       s.handleSnapshot,
	}
	var all []grpc.ServiceDesc
	for _, generated := range []grpc.ServiceDesc{
		etcdserverpb.KV_ServiceDesc, etcdserverpb.Watch_ServiceDesc, etcdserverpb.Lease_ServiceDesc,
		etcdserverpb.Cluster_ServiceDesc, etcdserverpb.Maintenance_ServiceDesc, etcdserverpb.Auth_ServiceDesc,
	} {
		all = append(all, withHandlers(generated, unary, streams))
	}
	return all
}

func withHandlers(generated grpc.ServiceDesc, unary map[string]grpc.MethodHandler, streams map[string]grpc.StreamHandler) grpc.ServiceDesc {
	desc := grpc.ServiceDesc{ServiceName: generated.ServiceName, HandlerType: (*any)(nil), Metadata: generated.Metadata}
	for _, m := range generated.Methods {
		full := "/" + generated.ServiceName + "/" + m.MethodName
		m.Handler = unary[full]
		if m.Handler == nil {
			m.Handler = func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
				return nil, unimplemented(full)
			}
		}
		desc.Methods = append(desc.Methods, m)
	}
	for _, m := range generated.Streams {
		full := "/" + generated.ServiceName + "/" + m.StreamName
		m.Handler = streams[full]
		if m.Handler == nil {
			m.Handler = func(any, grpc.ServerStream) error { return unimplemented(full) }
		}
		desc.Streams = append(desc.Streams, m)
	}
	return desc
}

// typed makes a handler of a function on generated messages, for methods whose speed does not matter.
func typed[Request, Response any](s *Service, serve func(context.Context, *Request) (*Response, error)) grpc.MethodHandler {
	return func(_ any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		request := new(Request)
		if err := receive(request); err != nil {
			return nil, err
		}
		if requiresLeader(ctx) && !s.hasLeader() {
			return nil, rpctypes.ErrGRPCNoLeader
		}
		response, err := serve(ctx, request)
		if err != nil {
			return nil, toGRPC(err)
		}
		return response, nil
	}
}
