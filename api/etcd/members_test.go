package etcd

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeFollower is a cluster that follows its list at once, or not.
type fakeFollower struct {
	mu        sync.Mutex
	list      *members.List
	fixed     error
	behind    bool  // not all shards follow, but for version 0
	broken    error // what Settled says instead
	connected map[kv.NodeID]time.Time
	inSync    bool
	asked     []uint64 // versions that were waited for
	raced     func()   // is called between the judgment and the change
}

func (f *fakeFollower) Fixed() error { return f.fixed }

func (f *fakeFollower) Settled(ctx context.Context, version uint64) error {
	f.mu.Lock()
	behind, broken := f.behind && version > 0, f.broken
	f.asked = append(f.asked, version)
	f.mu.Unlock()
	if behind {
		<-ctx.Done()
		return ctx.Err()
	}
	return broken
}

func (f *fakeFollower) Connected(node kv.NodeID) time.Time { return f.connected[node] }

func (f *fakeFollower) InSync(context.Context, kv.NodeID) (bool, error) { return f.inSync, nil }

func (f *fakeFollower) members() *members.List {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list
}

// change is what the leader of the system shard does.
func (f *fakeFollower) change(c *gateway.Call) bool {
	if c.Req.Kind != kv.KindMember {
		return false
	}
	if f.raced != nil {
		f.raced()
	}
	f.mu.Lock()
	next, err := f.list.Evaluate(c.Req.Member)
	if err == nil {
		f.list = next
	}
	f.mu.Unlock()
	if err != nil {
		c.Done(nil, err)
	} else {
		c.Done(&kv.Response{Kind: kv.KindMember, Revision: 7, MemberList: &kv.MemberListResponse{Nodes: next.Records(), Version: next.Version}}, nil)
	}
	return true
}

// voters is a list of so many members that have started, and that this node, which is the first, has been connected to for long.
func newFollower(voters int) *fakeFollower {
	f := &fakeFollower{connected: map[kv.NodeID]time.Time{}, inSync: true}
	var records []kv.NodeRecord
	for id := kv.NodeID(1); id <= kv.NodeID(voters); id++ {
		records = append(records, kv.NodeRecord{ID: id, Name: string('a' + rune(id) - 1), PeerURLs: []string{"http://" + string('a'+rune(id)-1) + ":2380"}})
		if id > 1 {
			f.connected[id] = time.Now().Add(-time.Minute)
		}
	}
	f.list = members.Founded(records)
	return f
}

func startWithMembers(t *testing.T, f *fakeFollower, change ...func(*Options)) (*world, *clientv3.Client) {
	w := start(t, append([]func(*Options){func(o *Options) {
		o.Follower, o.Members, o.MaxLearners, o.StrictReconfigCheck = f, f.members, 1, true
	}}, change...)...)
	w.store.intercept = f.change
	return w, w.client()
}

// TestMemberChanges: what etcd's client gets for changes of members.
func TestMemberChanges(t *testing.T) {
	f := newFollower(3)
	w, c := startWithMembers(t, f)
	added := must[*clientv3.MemberAddResponse](t)(c.MemberAddAsLearner(w.ctx, []string{"http://z:2380", "http://d:2380"}))
	if added.Member.ID == 0 || !added.Member.IsLearner || !slices.Equal(added.Member.PeerURLs, []string{"http://d:2380", "http://z:2380"}) || len(added.Members) != 4 || added.Header.MemberId != 1 {
		t.Errorf("%+v", added)
	}
	if want := []uint64{0, 1}; !slices.Equal(f.asked, want) {
		t.Errorf("waited for versions %v, want %v", f.asked, want)
	}
	promoted := must[*clientv3.MemberPromoteResponse](t)(c.MemberPromote(w.ctx, added.Member.ID))
	if len(promoted.Members) != 4 || slices.ContainsFunc(promoted.Members, func(m *pb.Member) bool { return m.IsLearner }) {
		t.Errorf("%+v", promoted)
	}
	updated := must[*clientv3.MemberUpdateResponse](t)(c.MemberUpdate(w.ctx, 2, []string{"http://new:1"}))
	if len(updated.Members) != 4 || updated.Members[1].PeerURLs[0] != "http://new:1" {
		t.Errorf("%+v", updated)
	}
	removed := must[*clientv3.MemberRemoveResponse](t)(c.MemberRemove(w.ctx, added.Member.ID))
	if len(removed.Members) != 3 || removed.Members[0].Name != "a" {
		t.Errorf("%+v", removed)
	}
	// The same addresses once more, in the same second: another one.
	again := must[*clientv3.MemberAddResponse](t)(c.MemberAddAsLearner(w.ctx, []string{"http://d:2380", "http://z:2380"}))
	if again.Member.ID == added.Member.ID {
		t.Errorf("the ID %x has come back", again.Member.ID)
	}
}

// TestMemberRefusals: with etcd's texts and codes, in etcd's order.
func TestMemberRefusals(t *testing.T) {
	url := []string{"http://n:2380"}
	add := func(w *world, c *clientv3.Client) error { _, err := c.MemberAdd(w.ctx, url); return err }
	learner := func(w *world, c *clientv3.Client) error { _, err := c.MemberAddAsLearner(w.ctx, url); return err }
	remove := func(id uint64) func(*world, *clientv3.Client) error {
		return func(w *world, c *clientv3.Client) error { _, err := c.MemberRemove(w.ctx, id); return err }
	}
	promote := func(w *world, c *clientv3.Client) error { _, err := c.MemberPromote(w.ctx, 9); return err }
	edit := func(f *fakeFollower, id kv.NodeID, fn func(*members.Member)) {
		l := &members.List{Version: f.list.Version, Members: slices.Clone(f.list.Members)}
		fn(l.Member(id))
		f.list = l
	}
	unstarted := func(id kv.NodeID) func(*fakeFollower) {
		return func(f *fakeFollower) { edit(f, id, func(m *members.Member) { m.Name = "" }) }
	}
	withLearner := func(f *fakeFollower) {
		f.list = &members.List{Version: 3, Members: append(slices.Clone(f.list.Members), members.Member{ID: 9, Name: "l", Learner: true, PeerURLs: []string{"http://l:1"}})}
	}
	down := func(ids ...kv.NodeID) func(*fakeFollower) {
		return func(f *fakeFollower) {
			for _, id := range ids {
				delete(f.connected, id)
			}
		}
	}
	for _, c := range []struct {
		name    string
		voters  int
		prepare func(*fakeFollower)
		do      func(*world, *clientv3.Client) error
		want    error // nil: it is done
	}{
		{"one of one", 1, nil, add, nil},
		{"two of three run", 3, down(3), add, rpctypes.ErrUnhealthy},
		{"they run, as a learner", 3, down(3), learner, rpctypes.ErrUnhealthy},
		{"four, one of them just came", 4, func(f *fakeFollower) { f.connected[4] = time.Now() }, add, nil},
		{"three, one of them just came", 3, func(f *fakeFollower) { f.connected[3] = time.Now() }, add, rpctypes.ErrUnhealthy},
		{"another one has not started", 2, unstarted(2), add, rpctypes.ErrMemberNotEnoughStarted},
		{"another one has not started, a learner", 2, unstarted(2), learner, nil},
		{"a second learner", 3, withLearner, learner, rpctypes.ErrTooManyLearners},
		{"an address that is taken", 3, nil, func(w *world, c *clientv3.Client) error {
			_, err := c.MemberAdd(w.ctx, []string{"http://b:2380"})
			return err
		}, rpctypes.ErrPeerURLExist},
		{"an address that is taken, later", 3, nil, func(w *world, c *clientv3.Client) error {
			_, err := c.MemberUpdate(w.ctx, 1, []string{"http://b:2380"})
			return err
		}, rpctypes.ErrPeerURLExist},
		{"nobody", 3, nil, remove(77), rpctypes.ErrMemberNotFound},
		{"the only one", 1, nil, remove(1), rpctypes.ErrMemberNotEnoughStarted},
		{"one that runs, beside one that does not", 3, down(3), remove(2), rpctypes.ErrUnhealthy},
		{"one that does not run", 3, down(3), remove(3), nil},
		{"the own node", 3, nil, remove(1), nil},
		{"the own node, beside one that is down", 3, down(3), remove(1), rpctypes.ErrUnhealthy},
		{"a learner, whatever runs", 3, func(f *fakeFollower) { withLearner(f); down(2, 3)(f) }, remove(9), nil},
		{"one that started, of two", 2, unstarted(2), remove(1), rpctypes.ErrMemberNotEnoughStarted},
		{"a learner that lags", 3, func(f *fakeFollower) { withLearner(f); f.inSync = false }, promote, rpctypes.ErrMemberLearnerNotReady},
		{"a learner that lags is asked for nothing else", 2, func(f *fakeFollower) { withLearner(f); f.inSync = false; unstarted(2)(f) }, promote, rpctypes.ErrMemberLearnerNotReady},
		{"nobody is promoted", 3, func(f *fakeFollower) { f.inSync = false }, promote, rpctypes.ErrMemberNotFound},
		{"one with a vote is promoted", 3, func(f *fakeFollower) {
			f.inSync = false
			withLearner(f)
			edit(f, 9, func(m *members.Member) { m.Learner = false })
		}, promote, rpctypes.ErrMemberNotLearner},
		{"the change before is not over", 3, func(f *fakeFollower) {
			f.list = &members.List{Version: 3, Members: f.list.Members}
			f.behind = true
		}, add, rpctypes.ErrUnhealthy},
		{"the change before is not over, taken back", 3, func(f *fakeFollower) {
			f.list = &members.List{Version: 3, Members: append(slices.Clone(f.list.Members), members.Member{ID: 9, Learner: true, PeerURLs: []string{"http://l:1"}})}
			f.behind = true
			f.raced = func() { f.mu.Lock(); f.behind = false; f.mu.Unlock() }
		}, remove(9), nil},
		{"somebody else was quicker", 3, func(f *fakeFollower) {
			f.raced = func() { f.mu.Lock(); f.list = &members.List{Version: 5, Members: f.list.Members}; f.mu.Unlock() }
		}, add, rpctypes.ErrUnhealthy},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFollower(c.voters)
			if c.prepare != nil {
				c.prepare(f)
			}
			w, client := startWithMembers(t, f)
			if err := c.do(w, client); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	for _, bad := range [][]string{nil, {"n:2380"}, {"http://n"}, {"http://n:1/path"}, {"unix://n:1"}, {"http://n:1", "ftp://n:1"}, {"http://%zz:1"}} {
		w, _ := startWithMembers(t, newFollower(3))
		cluster := pb.NewClusterClient(w.client().ActiveConnection())
		_, err := cluster.MemberAdd(w.ctx, &pb.MemberAddRequest{PeerURLs: bad})
		_, of := cluster.MemberUpdate(w.ctx, &pb.MemberUpdateRequest{ID: 1, PeerURLs: bad})
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrMemberBadURLs) || !errors.Is(rpctypes.Error(of), rpctypes.ErrMemberBadURLs) {
			t.Errorf("%q: %v, %v", bad, err, of)
		}
	}
}

// TestMemberChangesElsewise: where etcd has nothing to compare with.
func TestMemberChangesElsewise(t *testing.T) {
	code := func(err error) codes.Code { return status.Code(err) }
	add := func(w *world) error {
		_, err := pb.NewClusterClient(w.client().ActiveConnection()).MemberAdd(w.ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://n:2380"}})
		return err
	}
	f := newFollower(3)
	f.fixed = errors.New("its quorums are of other sizes")
	w, _ := startWithMembers(t, f)
	if err := add(w); code(err) != codes.FailedPrecondition || f.members().Version != 0 {
		t.Errorf("a cluster whose members are fixed: %v", err)
	}
	f = newFollower(3)
	f.broken = errors.New("node b is of an earlier version")
	w, _ = startWithMembers(t, f)
	if err := add(w); code(err) != codes.Unavailable || f.members().Version != 0 {
		t.Errorf("a cluster that cannot follow: %v", err)
	}
	// Who does not look at what runs is not told of it.
	f = newFollower(3)
	f.connected = nil
	w, _ = startWithMembers(t, f, func(o *Options) { o.StrictReconfigCheck = false })
	if err := add(w); err != nil {
		t.Error(err)
	}
	// It is done, and not all shards have followed before the client gave up.
	f = newFollower(3)
	f.behind = true
	w, _ = startWithMembers(t, f)
	ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
	defer cancel()
	w.ctx = ctx
	if err := add(w); code(err) != codes.DeadlineExceeded || f.members().Version != 1 {
		t.Errorf("nobody followed: %v, version %d", err, f.members().Version)
	}
}

// TestFixedMembers: without a Follower the RPCs are not there.
func TestFixedMembers(t *testing.T) {
	w := start(t)
	_, err := pb.NewClusterClient(w.client().ActiveConnection()).MemberAdd(w.ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://n:1"}})
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	if err := (Options{Gateway: w.store, Node: w.store, Follower: newFollower(1)}).WithDefaults().Validate(); err == nil {
		t.Error("options with a Follower and without Members are taken")
	}
}
