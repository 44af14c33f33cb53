package etcd

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Auditor records operations of clients. Safe for concurrent use; nothing of it may wait.
type Auditor interface {
	// Begin tells of an operation before anything is done with it. nil: it is not recorded, and otherwise the end of it follows, once. refused: it must not be
	// done, because it is to be recorded and that is not possible. The keys of the attempt are the caller's.
	Begin(Attempt) (end func(Ending), refused bool)
}

// Attempt is what a client wants.
type Attempt struct {
	Operation   string // name of the RPC; of those that are not etcd's, with its service
	Writes      bool   // it may change something
	Keys        []kv.Span
	Principal   string
	Certificate string // common name of the client's certificate; empty: none was verified
	Client      string // address
}

// Ending is what became of it.
type Ending struct {
	Revision kv.Revision // of the answer; 0: none
	Outcome  string      // code of gRPC
}

// errNoAudit is for what cannot be recorded.
var errNoAudit = status.Error(codes.Unavailable, "the audit log of this node cannot be written: nothing was done (--audit-full=refuse)")

// reading are the RPCs that change nothing. Range, RangeStream, Txn and Watch are judged by their requests.
var reading = map[string]bool{
	"Range": true, "RangeStream": true, "Watch": true, "LeaseTimeToLive": true, "LeaseLeases": true, "LeaseKeepAlive": true, "MemberList": true,
	"Status": true, "Hash": true, "HashKV": true, "Snapshot": true, "AuthStatus": true,
	"UserGet": true, "UserList": true, "RoleGet": true, "RoleList": true,
	"Shards/List": true, "Transactions/List": true, "Backups/Begin": true, "Backups/Export": true,
}

// operationOf names the RPC of a path.
func operationOf(path string) string {
	service, method := splitMethod(path)
	service = service[strings.LastIndexByte(service, '.')+1:]
	if strings.HasPrefix(path, "/etcdserverpb.") {
		return method
	}
	return service + "/" + method
}

// IsOperation tells whether there is an RPC of the name.
func IsOperation(name string) bool {
	for _, path := range []string{native.ListShards, native.ListTransactions, native.BeginBackup, native.ExportShard, native.HoldHistory, native.ListTimes} {
		if operationOf(path) == name {
			return true
		}
	}
	for _, service := range []grpc.ServiceDesc{
		etcdserverpb.KV_ServiceDesc, etcdserverpb.Watch_ServiceDesc, etcdserverpb.Lease_ServiceDesc,
		etcdserverpb.Cluster_ServiceDesc, etcdserverpb.Maintenance_ServiceDesc, etcdserverpb.Auth_ServiceDesc,
	} {
		for _, m := range service.Methods {
			if m.MethodName == name {
				return true
			}
		}
		for _, m := range service.Streams {
			if m.StreamName == name {
				return true
			}
		}
	}
	return false
}

// ending is the end of an operation that is recorded; the zero value: it is not.
type ending func(Ending)

// audit begins an operation. The request is nil if it has none that is decoded.
func (s *Service) audit(c *rpc.Call, operation, principal string, request *kv.Request) (ending, error) {
	if s.options.Audit == nil {
		return nil, nil
	}
	a := Attempt{Operation: operation, Writes: !reading[operation], Principal: principal, Client: c.Address(), Certificate: c.PeerName()}
	if request != nil {
		a.Writes = a.Writes && (request.Kind != kv.KindAlarm || request.Alarm.Action != kv.AlarmGet)
		if request.Kind == kv.KindTxn {
			a.Writes = false
		}
		request.EachSpan(func(span kv.Span, writes bool) bool {
			a.Keys = append(a.Keys, span)
			a.Writes = a.Writes || writes
			return true
		})
	}
	end, refused := s.options.Audit.Begin(a)
	if refused {
		return nil, errNoAudit
	}
	return end, nil
}

// ended records the end.
func (e ending) ended(revision kv.Revision, err error) {
	if e != nil {
		e(Ending{Revision: revision, Outcome: codes.Code(statusOf(err).Code).String()})
	}
}

// auditWatch begins to record a watch.
func (s *Service) auditWatch(c *rpc.Call, principal string, asked *etcdserverpb.WatchCreateRequest) (ending, error) {
	if s.options.Audit == nil {
		return nil, nil
	}
	span := &kv.RangeRequest{Span: createRequest(asked).Span}
	return s.audit(c, "Watch", principal, &kv.Request{Kind: kv.KindRange, Range: span})
}

// auditRefusal records a call that is refused before it is known what it is about.
func (s *Service) auditRefusal(c *rpc.Call, err error) {
	if end, refused := s.audit(c, operationOf(c.Method()), s.nameOf(c), nil); refused == nil {
		end.ended(0, err)
	}
}

// auditStream records streams as a whole, at their end. Those of keys record what is asked of them.
func (s *Service) auditStream(path string, m rpc.Method) rpc.Method {
	if m.Stream == nil || path == watchMethod || path == rangeStreamMethod || path == keepAliveMethod || strings.HasPrefix(path, "/grpc.") {
		return m
	}
	operation, serve := operationOf(path), m.Stream
	return rpc.Method{Stream: func(c *rpc.Call) error {
		end, err := s.audit(c, operation, s.nameOf(c), nil)
		if err != nil {
			return err
		}
		err = serve(c)
		end.ended(0, err)
		return err
	}}
}
