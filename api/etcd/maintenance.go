package etcd

import (
	"context"
	"fmt"
	"strconv"

	"github.com/quoratedb/quorate/kv"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func (s *Service) pbHeader(revision kv.Revision) *etcdserverpb.ResponseHeader {
	h := s.header()
	return &etcdserverpb.ResponseHeader{ClusterId: uint64(h.ClusterID), MemberId: uint64(h.MemberID), Revision: int64(revision), RaftTerm: h.RaftTerm}
}

// status answers from what this node knows, so that it works without a quorum.
func (s *Service) status(ctx context.Context, _ *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	st := s.options.Node.Status()
	ours := metadata.Pairs(MetadataProtocol, s.options.Protocol, MetadataVersion, s.options.Version)
	if st.Shards > 1 {
		ours.Set(MetadataShards, strconv.Itoa(st.Shards))
		ours.Set(MetadataShardsLed, strconv.Itoa(st.ShardsLed))
	}
	if err := grpc.SetHeader(ctx, ours); err != nil {
		return nil, fmt.Errorf("set the response's metadata: %w", err)
	}
	response := &etcdserverpb.StatusResponse{
		Header:           s.pbHeader(st.Revision),
		Version:          EtcdVersion,
		StorageVersion:   StorageVersion,
		Leader:           uint64(st.Leader),
		RaftIndex:        st.CommittedIndex,
		RaftTerm:         st.Term,
		RaftAppliedIndex: st.AppliedIndex,
		DbSize:           st.SizeBytes,
		DbSizeInUse:      st.SizeInUseBytes,
		DbSizeQuota:      st.QuotaBytes,
		IsLearner:        st.Learner,
		DowngradeInfo:    &etcdserverpb.DowngradeInfo{},
	}
	if st.Leader == 0 {
		response.Errors = append(response.Errors, rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader))
	}
	for _, alarm := range st.Alarms {
		if alarm.Type == kv.AlarmFence {
			response.Errors = append(response.Errors, kv.ErrFenced.Error())
			continue
		}
		response.Errors = append(response.Errors, fmt.Sprintf("memberID:%d alarm:%s", uint64(alarm.Node), etcdserverpb.AlarmType(alarm.Type)))
	}
	response.Errors = append(response.Errors, st.Errors...)
	return response, nil
}

func (s *Service) hashKV(ctx context.Context, r *etcdserverpb.HashKVRequest) (*etcdserverpb.HashKVResponse, error) {
	h, err := s.options.Gateway.HashKV(ctx, s.nameOf(callIn(ctx)), kv.Revision(r.Revision))
	if err != nil {
		return nil, err
	}
	compacted := int64(h.Compacted)
	if compacted == 0 {
		compacted = neverCompacted
	}
	return &etcdserverpb.HashKVResponse{
		Header: s.pbHeader(h.Revision), Hash: h.Hash, CompactRevision: compacted, HashRevision: int64(h.HashRevision),
	}, nil
}

// neverCompacted is the revision that etcd names when there was no compaction.
const neverCompacted = -1

// hash is, unlike etcd's, the hash of the keys alone: the rest of our storage differs between healthy nodes.
func (s *Service) hash(ctx context.Context, _ *etcdserverpb.HashRequest) (*etcdserverpb.HashResponse, error) {
	h, err := s.options.Gateway.HashKV(ctx, s.nameOf(callIn(ctx)), 0)
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.HashResponse{Header: s.pbHeader(h.Revision), Hash: h.Hash}, nil
}

func (s *Service) defragment(ctx context.Context, _ *etcdserverpb.DefragmentRequest) (*etcdserverpb.DefragmentResponse, error) {
	if err := s.options.Node.Defragment(ctx); err != nil {
		return nil, err
	}
	return &etcdserverpb.DefragmentResponse{}, nil // without a header, as etcd's
}

// moveLeader hands leadership over. As with etcd, only the leader's node does that.
func (s *Service) moveLeader(ctx context.Context, r *etcdserverpb.MoveLeaderRequest) (*etcdserverpb.MoveLeaderResponse, error) {
	if leader, _ := s.options.Node.Leader(); leader != s.options.MemberID {
		return nil, kv.ErrNotLeader
	}
	if err := s.options.Node.MoveLeader(ctx, kv.NodeID(r.TargetID)); err != nil {
		return nil, err
	}
	return &etcdserverpb.MoveLeaderResponse{}, nil // without a header, as etcd's
}
