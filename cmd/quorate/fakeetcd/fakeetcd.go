// Package fakeetcd is a small in-memory etcd for tests of the command line: one
// member, no clock, no durability, one lock. It is deliberately naive: the whole
// history is a list, and every read walks it.
package fakeetcd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sort"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/quoratedb/quorate/proto/native"
)

// Options describe the member that the fake pretends to be.
type Options struct {
	Address  string // to listen on
	MemberID uint64
	LeaderID uint64
	Members  []*pb.Member
	Protocol string            // sent as the header quorate-protocol when not empty
	Shards   *native.ShardList // what the member knows of shards; nil: it does not know the call
	// Transactions are those that are not decided; nil: the member does not know the call.
	Transactions *native.TransactionList
	Errors       []string
	Alarms       []*pb.AlarmMember // until they are disarmed
	Quota        int64             // 0: 2 GiB; the size is 3 MiB, and 1.5 KiB after Defragment
	// Fail, when set, is returned by every request about keys.
	Fail error
}

// Server is a running fake.
type Server struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer

	options Options
	grpc    *grpc.Server
	address string

	mu        sync.Mutex
	revision  int64
	compacted int64
	history   []*mvccpb.Event
	leases    map[int64]int64 // ID to time to live
	small     bool            // was defragmented
	changed   chan struct{}   // closed, and replaced, at every write
}

// Start listens and serves.
func Start(options Options) (*Server, error) {
	listener, err := net.Listen("tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("start the fake: %w", err)
	}
	s := &Server{options: options, grpc: grpc.NewServer(), address: listener.Addr().String(),
		revision: 1, leases: map[int64]int64{}, changed: make(chan struct{})}
	pb.RegisterKVServer(s.grpc, s)
	pb.RegisterWatchServer(s.grpc, s)
	pb.RegisterLeaseServer(s.grpc, s)
	pb.RegisterClusterServer(s.grpc, s)
	pb.RegisterMaintenanceServer(s.grpc, s)
	if options.Shards != nil {
		s.registerList(native.ListShards, options.Shards.Append)
	}
	if options.Transactions != nil {
		s.registerList(native.ListTransactions, options.Transactions.Append)
	}
	go s.grpc.Serve(listener)
	return s, nil
}

// Address is where the fake listens.
func (s *Server) Address() string { return s.address }

// Close ends it at once.
func (s *Server) Close() { s.grpc.Stop() }

func (s *Server) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: s.options.MemberID, Revision: s.revision, RaftTerm: 3}
}

// at gives the live keys at a revision, sorted.
func (s *Server) at(revision int64) []*mvccpb.KeyValue {
	live := map[string]*mvccpb.KeyValue{}
	for _, event := range s.history {
		if event.Kv.ModRevision > revision {
			break
		}
		delete(live, string(event.Kv.Key))
		if event.Type == mvccpb.Event_PUT {
			live[string(event.Kv.Key)] = event.Kv
		}
	}
	var list []*mvccpb.KeyValue
	for _, keyValue := range live {
		list = append(list, keyValue)
	}
	sort.Slice(list, func(i, j int) bool { return bytes.Compare(list[i].Key, list[j].Key) < 0 })
	return list
}

func inRange(key, start, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, start)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(key, start) >= 0
	}
	return bytes.Compare(key, start) >= 0 && bytes.Compare(key, end) < 0
}

func (s *Server) find(start, end []byte, revision int64) []*mvccpb.KeyValue {
	var list []*mvccpb.KeyValue
	for _, keyValue := range s.at(revision) {
		if inRange(keyValue.Key, start, end) {
			list = append(list, keyValue)
		}
	}
	return list
}

// Range implements pb.KVServer; of the sort options it knows key and value.
func (s *Server) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Fail != nil {
		return nil, s.options.Fail
	}
	return s.rangeLocked(r)
}

func (s *Server) rangeLocked(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	revision := r.Revision
	if revision == 0 {
		revision = s.revision
	}
	switch {
	case revision > s.revision:
		return nil, rpctypes.ErrGRPCFutureRev
	case revision < s.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	}
	list := s.find(r.Key, r.RangeEnd, revision)
	response := &pb.RangeResponse{Header: s.header(), Count: int64(len(list))}
	sort.SliceStable(list, func(i, j int) bool {
		if r.SortOrder == pb.RangeRequest_DESCEND {
			i, j = j, i
		}
		if r.SortTarget == pb.RangeRequest_VALUE {
			return bytes.Compare(list[i].Value, list[j].Value) < 0
		}
		return bytes.Compare(list[i].Key, list[j].Key) < 0
	})
	for _, keyValue := range list {
		if r.CountOnly || keyValue.ModRevision < r.MinModRevision {
			continue
		}
		if r.Limit > 0 && int64(len(response.Kvs)) == r.Limit {
			response.More = true
			break
		}
		if r.KeysOnly {
			keyValue = &mvccpb.KeyValue{Key: keyValue.Key, CreateRevision: keyValue.CreateRevision, ModRevision: keyValue.ModRevision, Version: keyValue.Version, Lease: keyValue.Lease}
		}
		response.Kvs = append(response.Kvs, keyValue)
	}
	return response, nil
}

// write runs body under one new revision and wakes watchers.
func (s *Server) write(body func(revision int64) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Fail != nil {
		return s.options.Fail
	}
	before := len(s.history)
	if err := body(s.revision + 1); err != nil {
		return err
	}
	if len(s.history) > before {
		s.revision++
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return nil
}

// Put implements pb.KVServer.
func (s *Server) Put(_ context.Context, r *pb.PutRequest) (response *pb.PutResponse, err error) {
	err = s.write(func(revision int64) error {
		response, err = s.putLocked(r, revision)
		return err
	})
	if err == nil {
		response.Header = s.header()
	}
	return response, err
}

func (s *Server) putLocked(r *pb.PutRequest, revision int64) (*pb.PutResponse, error) {
	if _, known := s.leases[r.Lease]; r.Lease != 0 && !known {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	keyValue := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, Lease: r.Lease, CreateRevision: revision, ModRevision: revision, Version: 1}
	event := &mvccpb.Event{Kv: keyValue}
	response := &pb.PutResponse{}
	if found := s.find(r.Key, nil, revision); len(found) == 1 {
		event.PrevKv = found[0]
		keyValue.CreateRevision, keyValue.Version = found[0].CreateRevision, found[0].Version+1
		if r.IgnoreValue {
			keyValue.Value = found[0].Value
		}
		if r.PrevKv {
			response.PrevKv = found[0]
		}
	} else if r.IgnoreValue || r.IgnoreLease {
		return nil, rpctypes.ErrGRPCKeyNotFound
	}
	s.history = append(s.history, event)
	return response, nil
}

// DeleteRange implements pb.KVServer.
func (s *Server) DeleteRange(_ context.Context, r *pb.DeleteRangeRequest) (response *pb.DeleteRangeResponse, err error) {
	err = s.write(func(revision int64) error {
		response = s.deleteLocked(r, revision)
		return nil
	})
	if err == nil {
		response.Header = s.header()
	}
	return response, err
}

func (s *Server) deleteLocked(r *pb.DeleteRangeRequest, revision int64) *pb.DeleteRangeResponse {
	response := &pb.DeleteRangeResponse{}
	for _, keyValue := range s.find(r.Key, r.RangeEnd, revision) {
		response.Deleted++
		if r.PrevKv {
			response.PrevKvs = append(response.PrevKvs, keyValue)
		}
		s.history = append(s.history, &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: keyValue.Key, ModRevision: revision}, PrevKv: keyValue})
	}
	return response
}

// Txn implements pb.KVServer, without nesting; of the compare targets it knows
// value and version.
func (s *Server) Txn(_ context.Context, r *pb.TxnRequest) (response *pb.TxnResponse, err error) {
	err = s.write(func(revision int64) error {
		response = &pb.TxnResponse{Succeeded: true}
		for _, condition := range r.Compare {
			response.Succeeded = response.Succeeded && s.holds(condition)
		}
		operations := r.Success
		if !response.Succeeded {
			operations = r.Failure
		}
		for _, operation := range operations {
			one, err := s.operate(operation, revision)
			if err != nil {
				return err
			}
			response.Responses = append(response.Responses, one)
		}
		return nil
	})
	if err == nil {
		response.Header = s.header()
	}
	return response, err
}

func (s *Server) holds(c *pb.Compare) bool {
	found := s.find(c.Key, c.RangeEnd, s.revision)
	if len(found) == 0 && len(c.RangeEnd) == 0 {
		if c.Target == pb.Compare_VALUE {
			return false
		}
		found = []*mvccpb.KeyValue{{}}
	}
	for _, keyValue := range found {
		order := 0
		if c.Target == pb.Compare_VALUE {
			order = bytes.Compare(keyValue.Value, c.GetValue())
		} else {
			order = int(keyValue.Version - c.GetVersion())
		}
		held := map[pb.Compare_CompareResult]bool{
			pb.Compare_EQUAL: order == 0, pb.Compare_NOT_EQUAL: order != 0, pb.Compare_LESS: order < 0, pb.Compare_GREATER: order > 0,
		}
		if !held[c.Result] {
			return false
		}
	}
	return true
}

func (s *Server) operate(operation *pb.RequestOp, revision int64) (*pb.ResponseOp, error) {
	switch {
	case operation.GetRequestPut() != nil:
		response, err := s.putLocked(operation.GetRequestPut(), revision)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: response}}, err
	case operation.GetRequestDeleteRange() != nil:
		response := s.deleteLocked(operation.GetRequestDeleteRange(), revision)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: response}}, nil
	}
	// Reads see the transaction's own writes.
	kept := s.revision
	s.revision = revision
	response, err := s.rangeLocked(operation.GetRequestRange())
	s.revision = kept
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: response}}, err
}

// Compact implements pb.KVServer.
func (s *Server) Compact(_ context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Revision <= s.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	case r.Revision > s.revision:
		return nil, rpctypes.ErrGRPCFutureRev
	}
	s.compacted = r.Revision
	return &pb.CompactionResponse{Header: s.header()}, nil
}
