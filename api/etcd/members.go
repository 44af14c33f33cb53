package etcd

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Changes of who the members are, if they are served. What a request makes of the list, package members decides, where the list is: at the leader of the
// system shard. Whether the cluster is fit for it, this node judges before, by the list that it then names in the request. The answer comes when all shards have
// followed: docs/protocols/members.md says why.

// Follower knows how far the cluster follows its list of members. Safe for concurrent use.
type Follower interface {
	// Fixed tells why nobody may become or cease to be a member now, in words for whoever asked for that: quorums of other sizes, for one. nil: it is possible.
	Fixed() error
	// Settled waits until every shard follows the list of that version, or a later one: until everybody is what it says, but for nodes that have never run. It
	// returns the context's error if that ends first, and another one, in words for whoever asked, if it cannot be.
	Settled(ctx context.Context, version uint64) error
	// Connected tells since when this node is connected to another; zero: it is not. Of itself nobody asks.
	Connected(node kv.NodeID) time.Time
	// InSync tells whether a learner has what was committed, in every shard, at some moment after the call.
	InSync(ctx context.Context, node kv.NodeID) (bool, error)
}

const (
	// healthInterval is how long members must have been connected to count, as in etcd.
	healthInterval = 5 * time.Second
	// settledPatience is how long a change waits for the one before.
	settledPatience = 2 * time.Second
	// followPatience is how long the answer to a change waits at most for all shards to follow. The change goes on.
	followPatience = time.Minute
)

// memberMethods are those that change who the members are.
func (s *Service) memberMethods() map[string]grpc.MethodHandler {
	return map[string]grpc.MethodHandler{
		"/etcdserverpb.Cluster/MemberAdd":     typed(s, s.memberAdd),
		"/etcdserverpb.Cluster/MemberRemove":  typed(s, s.memberRemove),
		"/etcdserverpb.Cluster/MemberUpdate":  typed(s, s.memberUpdate),
		"/etcdserverpb.Cluster/MemberPromote": typed(s, s.memberPromote),
	}
}

func (s *Service) memberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	urls, err := peerURLs(r.PeerURLs)
	if err != nil {
		return nil, err
	}
	request := &kv.MemberRequest{Action: kv.MemberAdd, PeerURLs: urls, Learner: r.IsLearner, MaxLearners: s.options.MaxLearners}
	list, err := s.changeMembers(ctx, request)
	if err != nil {
		return nil, err
	}
	added := &pb.Member{ID: uint64(request.ID), PeerURLs: urls, IsLearner: r.IsLearner}
	return &pb.MemberAddResponse{Header: s.pbHeader(0), Member: added, Members: list}, nil
}

func (s *Service) memberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	list, err := s.changeMembers(ctx, &kv.MemberRequest{Action: kv.MemberRemove, ID: kv.NodeID(r.ID)})
	return &pb.MemberRemoveResponse{Header: s.pbHeader(0), Members: list}, err
}

func (s *Service) memberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	urls, err := peerURLs(r.PeerURLs)
	if err != nil {
		return nil, err
	}
	list, err := s.changeMembers(ctx, &kv.MemberRequest{Action: kv.MemberUpdate, ID: kv.NodeID(r.ID), PeerURLs: urls})
	return &pb.MemberUpdateResponse{Header: s.pbHeader(0), Members: list}, err
}

func (s *Service) memberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	list, err := s.changeMembers(ctx, &kv.MemberRequest{Action: kv.MemberPromote, ID: kv.NodeID(r.ID)})
	return &pb.MemberPromoteResponse{Header: s.pbHeader(0), Members: list}, err
}

// changeMembers has the list changed, and returns what it is then. An addition gets its ID.
func (s *Service) changeMembers(ctx context.Context, r *kv.MemberRequest) ([]*pb.Member, error) {
	if err := s.options.Follower.Fixed(); err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "the members of this cluster cannot be changed: %v", err)
	}
	if err := s.options.Gateway.CatchUp(ctx, kv.SystemShard); err != nil {
		return nil, err
	}
	list := s.options.Members()
	r.Version = list.Version
	if r.Action == kv.MemberAdd {
		r.ID = newMemberID(r.PeerURLs, time.Now(), list)
	}
	if err := s.fitFor(ctx, r, list); err != nil {
		return nil, err
	}
	answer, err := s.askMember(ctx, r)
	if err != nil {
		return nil, err
	}
	following, cancel := context.WithTimeout(ctx, followPatience)
	defer cancel()
	switch err := s.options.Follower.Settled(following, answer.Version); {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, kv.ErrTimeout
	case err != nil:
		return nil, err
	}
	var all []*pb.Member
	for _, n := range answer.Nodes {
		all = append(all, &pb.Member{ID: uint64(n.ID), Name: n.Name, PeerURLs: n.PeerURLs, ClientURLs: n.ClientURLs, IsLearner: n.Learner})
	}
	return all, nil
}

func (s *Service) askMember(ctx context.Context, r *kv.MemberRequest) (*kv.MemberListResponse, error) {
	call := callIn(ctx)
	caller, err := s.callerOf(ctx, call)
	if err != nil {
		return nil, err
	}
	w := s.newWaiter()
	w.call.Req = &kv.Request{Kind: kv.KindMember, Principal: caller.Principal, Credential: caller.Proof, Member: r, Memory: call}
	w.call.Deadline, w.call.RequireLeader = caller.Deadline, caller.RequireLeader
	s.options.Gateway.Submit(&w.call)
	a, err := s.wait(ctx, w)
	if err != nil {
		return nil, err
	}
	return a.response.MemberList, nil
}

// fitFor tells why the cluster is not to be changed now, by a list of members.
func (s *Service) fitFor(ctx context.Context, r *kv.MemberRequest, list *members.List) error {
	found := members.Findings{}
	if s.options.StrictReconfigCheck {
		found.Strict = s.connections
	}
	for {
		switch lack, err := list.Fit(r, found); {
		case err != nil || lack == members.LacksNothing:
			return err
		case lack == members.LacksInSync:
			inSync, err := s.options.Follower.InSync(ctx, r.ID)
			if err != nil {
				return err
			}
			found.InSync = members.Found(inSync)
		default:
			settled, err := s.settled(ctx, list.Version)
			if err != nil {
				return err
			}
			found.Settled = members.Found(settled)
		}
	}
}

// settled tells whether all shards follow the list of a version, or will do so in a moment.
func (s *Service) settled(ctx context.Context, version uint64) (bool, error) {
	settled, cancel := context.WithTimeout(ctx, settledPatience)
	defer cancel()
	switch err := s.options.Follower.Settled(settled, version); {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return false, nil
	default:
		return false, status.Errorf(codes.Unavailable, "%s: %v", rpctypes.ErrorDesc(rpctypes.ErrGRPCUnhealthy), err)
	}
}

// connections are what --strict-reconfig-check goes by.
func (s *Service) connections() members.Connections {
	before, since := time.Now().Add(-healthInterval), s.options.Follower.Connected
	return members.Connections{
		Self:   s.options.MemberID,
		Up:     func(node kv.NodeID) bool { return !since(node).IsZero() },
		Steady: func(node kv.NodeID) bool { return !since(node).IsZero() && since(node).Before(before) },
	}
}

// newMemberID is the ID of a node that is added: as in etcd (computeMemberID, with the time), the first 8 bytes, big endian, of the SHA-1 of its URLs, in order,
// followed by the second. So whoever comes back to the same addresses is another one. Where etcd gives an ID for the second time, the next second's is taken.
// SHA-1 protects nothing here.
func newMemberID(urls []string, now time.Time, list *members.List) kv.NodeID {
	for second := now.Unix(); ; second++ {
		sum := sha1.Sum(fmt.Appendf(nil, "%s%d", strings.Join(urls, ""), second))
		id := kv.NodeID(binary.BigEndian.Uint64(sum[:8]))
		if id != 0 && list.Member(id) == nil && !list.WasRemoved(id) {
			return id
		}
	}
}

// peerURLs are the addresses of a member, in order, if they are such: http or https, a host, a port, and nothing else.
func peerURLs(in []string) ([]string, error) {
	if len(in) == 0 {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	var urls []string
	for _, text := range in {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" {
			return nil, rpctypes.ErrGRPCMemberBadURLs
		}
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return nil, rpctypes.ErrGRPCMemberBadURLs
		}
		urls = append(urls, u.String())
	}
	slices.Sort(urls)
	return urls, nil
}
