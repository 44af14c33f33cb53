package fakeetcd

import (
	"context"
	"io"
	"slices"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Watch implements pb.WatchServer for one watch a stream.
func (s *Server) Watch(stream pb.Watch_WatchServer) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	create := request.GetCreateRequest()
	s.mu.Lock()
	next := create.StartRevision
	if next == 0 {
		next = s.revision + 1
	}
	header, compacted := s.header(), s.compacted
	s.mu.Unlock()
	if err := stream.Send(&pb.WatchResponse{Header: header, Created: true}); err != nil {
		return err
	}
	if next < compacted {
		if err := stream.Send(&pb.WatchResponse{Header: header, Canceled: true, CompactRevision: compacted}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	for {
		s.mu.Lock()
		response := &pb.WatchResponse{Header: s.header(), Events: s.since(create, next)}
		next = s.revision + 1
		changed := s.changed
		s.mu.Unlock()
		if len(response.Events) > 0 {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

func (s *Server) since(create *pb.WatchCreateRequest, next int64) []*mvccpb.Event {
	var events []*mvccpb.Event
	for _, event := range s.history {
		if event.Kv.ModRevision < next || !inRange(event.Kv.Key, create.Key, create.RangeEnd) {
			continue
		}
		shown := &mvccpb.Event{Type: event.Type, Kv: event.Kv}
		if create.PrevKv {
			shown.PrevKv = event.PrevKv
		}
		events = append(events, shown)
	}
	return events
}

// LeaseGrant implements pb.LeaseServer; IDs count from 0x1001.
func (s *Server) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.ID
	if id == 0 {
		id = 0x1001 + int64(len(s.leases))
	}
	if _, taken := s.leases[id]; taken {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	s.leases[id] = r.TTL
	return &pb.LeaseGrantResponse{Header: s.header(), ID: id, TTL: r.TTL}, nil
}

// LeaseRevoke implements pb.LeaseServer.
func (s *Server) LeaseRevoke(_ context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	err := s.write(func(revision int64) error {
		if _, known := s.leases[r.ID]; !known {
			return rpctypes.ErrGRPCLeaseNotFound
		}
		delete(s.leases, r.ID)
		for _, keyValue := range s.at(revision) {
			if keyValue.Lease == r.ID {
				s.deleteLocked(&pb.DeleteRangeRequest{Key: keyValue.Key}, revision)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &pb.LeaseRevokeResponse{Header: s.header()}, nil
}

// LeaseKeepAlive implements pb.LeaseServer. Time stands still here.
func (s *Server) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		response := &pb.LeaseKeepAliveResponse{Header: s.header(), ID: r.ID, TTL: s.leases[r.ID]}
		s.mu.Unlock()
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// LeaseTimeToLive implements pb.LeaseServer.
func (s *Server) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ttl, known := s.leases[r.ID]
	if !known {
		return &pb.LeaseTimeToLiveResponse{Header: s.header(), ID: r.ID, TTL: -1}, nil
	}
	response := &pb.LeaseTimeToLiveResponse{Header: s.header(), ID: r.ID, TTL: ttl - 1, GrantedTTL: ttl}
	for _, keyValue := range s.at(s.revision) {
		if r.Keys && keyValue.Lease == r.ID {
			response.Keys = append(response.Keys, keyValue.Key)
		}
	}
	return response, nil
}

// LeaseLeases implements pb.LeaseServer.
func (s *Server) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	response := &pb.LeaseLeasesResponse{Header: s.header()}
	var ids []int64
	for id := range s.leases {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		response.Leases = append(response.Leases, &pb.LeaseStatus{ID: id})
	}
	return response, nil
}

// MemberList implements pb.ClusterServer.
func (s *Server) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &pb.MemberListResponse{Header: s.header(), Members: s.options.Members}, nil
}

// Status implements pb.MaintenanceServer.
func (s *Server) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Protocol != "" {
		if err := grpc.SetHeader(ctx, metadata.Pairs("quorate-protocol", s.options.Protocol)); err != nil {
			return nil, err
		}
	}
	if list := s.options.Shards; list != nil && len(list.Shards) > 1 {
		led := 0
		for i := range list.Shards {
			if uint64(list.Shards[i].Leader) == s.options.MemberID {
				led++
			}
		}
		if err := grpc.SetHeader(ctx, metadata.Pairs("quorate-shards", strconv.Itoa(len(list.Shards)), "quorate-shards-led", strconv.Itoa(led))); err != nil {
			return nil, err
		}
	}
	const inUse = 1536
	size, quota := int64(3<<20), int64(2<<30)
	if s.small {
		size = inUse
	}
	if s.options.Quota > 0 {
		quota = s.options.Quota
	}
	return &pb.StatusResponse{Header: s.header(), Version: "3.7.3", Leader: s.options.LeaderID, RaftTerm: 3,
		RaftIndex: uint64(s.revision) + 10, RaftAppliedIndex: uint64(s.revision) + 10,
		DbSize: size, DbSizeInUse: inUse, DbSizeQuota: quota, Errors: s.options.Errors}, nil
}

// Defragment implements pb.MaintenanceServer.
func (s *Server) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Fail != nil {
		return nil, s.options.Fail
	}
	s.small = true
	return &pb.DefragmentResponse{}, nil
}

// Alarm implements pb.MaintenanceServer for listing and clearing.
func (s *Server) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Action == pb.AlarmRequest_GET {
		return &pb.AlarmResponse{Header: s.header(), Alarms: s.options.Alarms}, nil
	}
	response := &pb.AlarmResponse{Header: s.header()}
	s.options.Alarms = slices.DeleteFunc(slices.Clone(s.options.Alarms), func(alarm *pb.AlarmMember) bool {
		cleared := alarm.MemberID == r.MemberID && alarm.Alarm == r.Alarm
		if cleared {
			response.Alarms = append(response.Alarms, alarm)
		}
		return cleared
	})
	return response, nil
}

// SetMembers changes what MemberList answers.
func (s *Server) SetMembers(members []*pb.Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Members = members
}
