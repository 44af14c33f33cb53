package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

func changeOf(r kv.MemberRequest) *kv.Request { return &kv.Request{Kind: kv.KindMember, Member: &r} }

func publishing(id kv.NodeID, name string) *kv.Request {
	return &kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: id, Name: name, PeerURLs: []string{"said by itself"}, ClientURLs: []string{"c" + name}}}
}

// TestMembersInTheLog: who evaluates sees what is in flight, and what is applied outlives crashes, whatever of the log is applied again on top of later rows:
// the list of one that crashes all the time is that of one that never does.
func TestMembersInTheLog(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 5))
		g := newGroup(t, testOptions(seed))
		steady, crashing := mustOpen(testOptions(seed)), mustOpen(testOptions(seed))
		for id := kv.NodeID(1); id <= 3; id++ {
			if out := g.leader.Evaluate(publishing(id, fmt.Sprint("n", id))); out.Err != nil {
				t.Fatal(out.Err)
			}
		}
		for range 40 {
			for range 1 + random.IntN(3) {
				id := kv.NodeID(1 + random.IntN(8))
				r := kv.MemberRequest{Action: kv.MemberAction(1 + random.IntN(4)), ID: id, PeerURLs: []string{fmt.Sprint("u", random.IntN(12))}, Learner: random.IntN(2) == 0, MaxLearners: 2}
				r.Version = g.leader.membersEvaluated().Version
				req := changeOf(r)
				if random.IntN(2) == 0 {
					req = publishing(id, fmt.Sprint("m", random.IntN(9)))
				}
				want := g.leader.membersEvaluated()
				out := g.leader.Evaluate(req)
				if out.Fatal != nil {
					t.Fatal(out.Fatal)
				}
				if answer := out.Response; answer != nil && answer.MemberList != nil {
					if now := g.leader.membersEvaluated(); answer.MemberList.Version != now.Version || !reflect.DeepEqual(answer.MemberList.Nodes, now.Records()) {
						t.Fatalf("seed %d: the answer has version %d, the list is %+v", seed, answer.MemberList.Version, now)
					}
				}
				if out.Err != nil && !reflect.DeepEqual(g.leader.membersEvaluated(), want) {
					t.Fatalf("seed %d: %v, and the list has changed", seed, out.Err)
				}
			}
			evaluated := g.leader.membersEvaluated()
			g.propose()
			end := consensus.Index(len(g.log))
			if err := errors.Join(g.catchUp(g.leader, end), g.catchUp(steady, end), g.catchUp(crashing, end)); err != nil {
				t.Fatal(err)
			}
			if random.IntN(4) == 0 {
				if err := crashing.flushAll(); err != nil {
					t.Fatal(err)
				}
			}
			if !reflect.DeepEqual(g.leader.Members(), evaluated) || !reflect.DeepEqual(steady.Members(), evaluated) {
				t.Fatalf("seed %d: the list is\n%+v, and\n%+v where nothing was restarted; evaluated was\n%+v", seed, g.leader.Members(), steady.Members(), evaluated)
			}
			if random.IntN(2) == 0 { // the rows are as of the end of the log, the rest as of the flush
				options := testOptions(seed)
				options.LogEnd = end
				found := random
				if random.IntN(2) == 0 {
					found = nil
				}
				replayed, err := openReplica(crashing.engine.Crash(found), options)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				for replayed.AppliedIndex() < end {
					before := replayed.Members().Version
					if err := g.catchUp(replayed, replayed.AppliedIndex()+1); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if now := replayed.Members().Version; now < before {
						t.Fatalf("seed %d: applied again, the list went from version %d back to %d", seed, before, now)
					}
				}
				if !reflect.DeepEqual(replayed.Members(), steady.Members()) {
					t.Fatalf("seed %d: applied again, the list is\n%+v, want\n%+v", seed, replayed.Members(), steady.Members())
				}
				crashing = replayed
			}
		}
	}
}

// TestListBesideNodes: a row of a node beside the list would bring back who was removed.
func TestListBesideNodes(t *testing.T) {
	r := mustOpen(testOptions(1))
	list := &members.List{Version: 1, Members: []members.Member{{ID: 4}}}
	err := r.batch(func(b storage.Batch) error {
		b.Set(r.listKey(), list.Append(nil))
		b.Set(keys.AppendNode(nil, kv.SystemShard, 9), appendNode(nil, &kv.NodeRecord{ID: 9}))
		return nil
	})
	if err = errors.Join(err); err != nil {
		t.Fatal(err)
	}
	if err := r.reopen(); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "beside the list") {
		t.Errorf("opened: %v", err)
	}
}

// TestMembersElsewhere: the list is in the system shard only.
func TestMembersElsewhere(t *testing.T) {
	options := testOptions(1)
	options.Shard = 2
	g := newGroup(t, options)
	out := g.leader.Evaluate(changeOf(kv.MemberRequest{Action: kv.MemberRemove, ID: 1}))
	if !errors.Is(out.Err, kv.ErrShardNotHere) {
		t.Errorf("%+v", out)
	}
}
