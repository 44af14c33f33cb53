package fakeetcd

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// The fake's list of members. Those that are added are numbered from 0x100 on.

// MemberAdd adds a member, unless it is one learner too many.
func (s *Server) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.IsLearner && slices.ContainsFunc(s.options.Members, func(m *pb.Member) bool { return m.IsLearner }) {
		return nil, rpctypes.ErrGRPCTooManyLearners
	}
	added := &pb.Member{ID: 0x100 + uint64(len(s.options.Members)), PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
	s.options.Members = append(slices.Clone(s.options.Members), added)
	return &pb.MemberAddResponse{Header: s.header(), Member: added, Members: s.options.Members}, nil
}

// MemberRemove removes a member. The last one is the only one that runs.
func (s *Server) MemberRemove(_ context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.options.Members) == 1 {
		return nil, rpctypes.ErrGRPCUnhealthy
	}
	s.options.Members = slices.DeleteFunc(slices.Clone(s.options.Members), func(m *pb.Member) bool { return m.ID == r.ID })
	return &pb.MemberRemoveResponse{Header: s.header(), Members: s.options.Members}, nil
}

// MemberUpdate gives a member other addresses.
func (s *Server) MemberUpdate(_ context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	err := s.changeMember(r.ID, func(m *pb.Member) error { m.PeerURLs = r.PeerURLs; return nil })
	return &pb.MemberUpdateResponse{Header: s.header()}, err
}

// MemberPromote gives a learner a vote.
func (s *Server) MemberPromote(_ context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	err := s.changeMember(r.ID, func(m *pb.Member) error {
		if !m.IsLearner {
			return rpctypes.ErrGRPCMemberNotLearner
		}
		m.IsLearner = false
		return nil
	})
	return &pb.MemberPromoteResponse{Header: s.header()}, err
}

func (s *Server) changeMember(id uint64, change func(*pb.Member) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.options.Members {
		if m.ID == id {
			return change(m)
		}
	}
	return rpctypes.ErrGRPCMemberNotFound
}

// MoveLeader has another member lead, as far as this one knows.
func (s *Server) MoveLeader(_ context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.MemberID != s.options.LeaderID {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	s.options.LeaderID = r.TargetID
	return &pb.MoveLeaderResponse{Header: s.header()}, nil
}
