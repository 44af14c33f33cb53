package snapshots

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
)

// etcdRefusals are what etcd's own list says, and what ours says there.
var etcdRefusals = map[error]error{
	nil: nil, membership.ErrIDRemoved: kv.ErrMemberNotFound, membership.ErrIDNotFound: kv.ErrMemberNotFound, membership.ErrIDExists: kv.ErrMemberExists,
	membership.ErrPeerURLexists: kv.ErrPeerURLExists, membership.ErrTooManyLearners: kv.ErrTooManyLearners, membership.ErrMemberNotLearner: kv.ErrMemberNotLearner,
}

// TestMembersSameAsEtcd: random changes are refused as etcd's own list of members refuses them, and make the same list. So do the checks of who has started.
func TestMembersSameAsEtcd(t *testing.T) {
	for seed := range uint64(30) {
		compareMembers(t, seed, rand.New(rand.NewPCG(seed, 17)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func compareMembers(t *testing.T, seed uint64, random *rand.Rand) {
	config := backend.DefaultBackendConfig(zap.NewNop())
	config.Path, config.UnsafeNoFsync = filepath.Join(t.TempDir(), fmt.Sprint(seed)), true
	be := backend.New(config)
	defer be.Close()
	maxLearners := 1 + random.IntN(2)
	theirs := membership.NewCluster(zap.NewNop(), membership.WithMaxLearners(maxLearners))
	theirs.SetBackend(schema.NewMembershipBackend(zap.NewNop(), be))
	var records []kv.NodeRecord
	for id := kv.NodeID(1); id <= kv.NodeID(1+seed%3); id++ {
		r := kv.NodeRecord{ID: id, Name: fmt.Sprint("n", id), PeerURLs: []string{fmt.Sprint("http://u", id)}}
		records = append(records, r)
		theirs.AddMember(&membership.Member{ID: types.ID(id), RaftAttributes: membership.RaftAttributes{PeerURLs: r.PeerURLs}, Attributes: membership.Attributes{Name: r.Name}}, membership.ApplyBoth)
	}
	ours := members.Founded(records)
	everybody := members.Connections{Self: 1, Up: func(kv.NodeID) bool { return true }, Steady: func(kv.NodeID) bool { return true }}
	for range 250 {
		r := &kv.MemberRequest{
			Action: []kv.MemberAction{kv.MemberAdd, kv.MemberAdd, kv.MemberRemove, kv.MemberUpdate, kv.MemberPromote}[random.IntN(5)],
			ID:     kv.NodeID(1 + random.IntN(16)), Learner: random.IntN(2) == 0, MaxLearners: maxLearners, Version: ours.Version,
		}
		if r.Action == kv.MemberAdd || r.Action == kv.MemberUpdate {
			r.PeerURLs = []string{fmt.Sprint("http://u", random.IntN(24))}
		}
		id := types.ID(r.ID)
		ready := true
		switch {
		case r.Action == kv.MemberAdd && !r.Learner:
			ready = theirs.IsReadyToAddVotingMember()
		case r.Action == kv.MemberRemove && (theirs.Member(id) == nil || !theirs.Member(id).IsLearner):
			ready = theirs.IsReadyToRemoveVotingMember(uint64(id))
		case r.Action == kv.MemberPromote:
			ready = theirs.IsReadyToPromoteMember(uint64(id))
		}
		if err := ours.Strictly(r, everybody); errors.Is(err, kv.ErrNotEnoughStarted) == ready {
			t.Errorf("%+v: %v, etcd says that enough have started: %v", r, err, ready)
			return
		}
		if r.Action == kv.MemberRemove && len(theirs.VotingMembers()) == 1 && theirs.Member(id) != nil && !theirs.Member(id).IsLearner {
			if _, err := ours.Evaluate(r); !errors.Is(err, kv.ErrNotEnoughStarted) {
				t.Errorf("the last vote is removed: %v", err)
			}
			continue // etcd would end
		}
		change, apply := etcdChange(t, theirs, r)
		refused := theirs.ValidateConfigurationChange(change, membership.ApplyBoth)
		want, known := etcdRefusals[refused]
		next, err := ours.Evaluate(r)
		if !known || !errors.Is(err, want) || err != nil && want == nil {
			t.Errorf("%+v: %v, etcd says %v", r, err, refused)
			return
		}
		if refused == nil {
			ours = next
			apply()
		}
		if said := (&kv.NodeRecord{ID: r.ID, Name: fmt.Sprint("m", random.IntN(9)), ClientURLs: []string{"c"}}); random.IntN(4) == 0 && ours.Version > 0 && ours.Member(r.ID) != nil {
			ours = ours.Publish(said)
			theirs.UpdateAttributes(id, membership.Attributes{Name: said.Name, ClientURLs: said.ClientURLs}, membership.ApplyBoth)
		}
		if !sameMembers(ours, theirs) {
			t.Errorf("after %+v: %+v, etcd has %v", r, ours, theirs)
			return
		}
	}
}

// etcdChange is a request as etcd's server makes it, and what applies it.
func etcdChange(t *testing.T, c *membership.RaftCluster, r *kv.MemberRequest) (*raftpb.ConfChange, func()) {
	id := types.ID(r.ID)
	m := membership.Member{ID: id, RaftAttributes: membership.RaftAttributes{PeerURLs: r.PeerURLs, IsLearner: r.Learner}}
	var kind raftpb.ConfChangeType
	var apply func()
	context := any(m)
	switch r.Action {
	case kv.MemberAdd:
		if kind = raftpb.ConfChangeAddNode; r.Learner {
			kind = raftpb.ConfChangeAddLearnerNode
		}
		apply = func() { c.AddMember(&m, membership.ApplyBoth) }
	case kv.MemberRemove:
		kind, apply = raftpb.ConfChangeRemoveNode, func() { c.RemoveMember(id, membership.ApplyBoth) }
	case kv.MemberUpdate:
		kind, apply = raftpb.ConfChangeUpdateNode, func() {
			c.UpdateRaftAttributes(id, membership.RaftAttributes{PeerURLs: r.PeerURLs, IsLearner: c.Member(id).IsLearner}, membership.ApplyBoth)
		}
	case kv.MemberPromote:
		kind, context = raftpb.ConfChangeAddNode, membership.ConfigChangeContext{Member: membership.Member{ID: id}, IsPromote: true}
		apply = func() { c.PromoteMember(id, membership.ApplyBoth) }
	}
	encoded, err := json.Marshal(context)
	if err != nil {
		t.Fatal(err)
	}
	node := uint64(id)
	return &raftpb.ConfChange{Type: kind.Enum(), NodeId: &node, Context: encoded}, apply
}

func sameMembers(ours *members.List, theirs *membership.RaftCluster) bool {
	all := theirs.Members()
	if len(all) != len(ours.Members) {
		return false
	}
	for i, m := range all {
		o := &ours.Members[i]
		if uint64(o.ID) != uint64(m.ID) || o.Name != m.Name || !slices.Equal(o.PeerURLs, m.PeerURLs) || !slices.Equal(o.ClientURLs, m.ClientURLs) || o.Learner != m.IsLearner {
			return false
		}
	}
	return true
}
