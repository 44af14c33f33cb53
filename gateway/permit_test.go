package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/txn"
)

// storeWithUsers is storeWith with authentication on: root, and alice, who may read and write everything that there is.
func storeWithUsers(t *testing.T, options Options) (first, second *cluster, c *counter) {
	options.RequestTimeout, options.Spawn = 3*time.Second, func(work func()) { work() }
	first, second, c = storeWith(t, options, 1, 2, 1)
	for _, n := range first.nodes {
		n.gateway.options.Users = func() *auth.State {
			n.mu.RLock()
			defer n.mu.RUnlock()
			return n.machine.Auth()
		}
	}
	for _, r := range []kv.AuthRequest{
		{Action: kv.AuthUserAdd, User: "root", Hash: []byte("hash")},
		{Action: kv.AuthUserGrantRole, User: "root", Role: "root"},
		{Action: kv.AuthUserAdd, User: "alice", Hash: []byte("hash")},
		{Action: kv.AuthRoleAdd, Role: "all"},
		{Action: kv.AuthRoleGrantPermission, Role: "all", Permission: kv.Permission{Type: kv.PermitReadWrite, Span: kv.Span{Start: []byte("1"), End: []byte("3")}}},
		{Action: kv.AuthUserGrantRole, User: "alice", Role: "all"},
		{Action: kv.AuthEnable, Secret: make([]byte, kv.MinAuthSecret)},
	} {
		changeUsers(t, first, second, r)
	}
	return first, second, c
}

// changeUsers has root change users or roles, and everybody hear of it.
func changeUsers(t *testing.T, first, second *cluster, r kv.AuthRequest) {
	t.Helper()
	answered := submit(first.nodes[1].gateway, &kv.Request{Kind: kv.KindAuth, Principal: "root", Auth: &r})
	exchangeBoth(first, second)
	if answered.answers != 1 || answered.err != nil {
		t.Fatalf("%+v: %d answers, %v", r, answered.answers, answered.err)
	}
}

// forgetUsers has a node begin anew in the first shard: it has the keys of the second one, and knows of no users.
func forgetUsers(t *testing.T, n *node) {
	t.Helper()
	n.engine = storage.NewMemory(storage.MemoryOptions{})
	machine, err := shard.Open(n.engine, shard.Options{Sequenced: true, Rand: rand.New(rand.NewPCG(1, 1))})
	if err != nil {
		t.Fatal(err)
	}
	n.machine = machine
	n.gateway.options.KnowsUsers = func() bool { return false }
}

// TestUsersUnknown: a node that has the keys of one shard, and not yet the users and roles, answers nobody before it has those, whatever is asked for.
func TestUsersUnknown(t *testing.T) {
	first, second, _ := storeWithUsers(t, Options{})
	secret := putValue("2a", "secret")
	secret.Principal = "root"
	says(t, "the secret", submit(first.nodes[2].gateway, secret), "")
	exchangeBoth(first, second)
	n := first.nodes[3]
	forgetUsers(t, n)
	g := n.gateway
	stale := func(principal string) *kv.Request {
		req := get("2a")
		req.Principal, req.Range.Serializable = principal, true
		return req
	}
	span := kv.Span{Start: []byte("2a")}
	for what, err := range map[string]error{
		"a watch":             g.MayWatch("", kv.Credential{}, span),
		"what only root may":  g.Meets("", kv.Credential{}, auth.NeedRoot),
		"what any user may":   g.Meets("", kv.Credential{}, auth.NeedUser),
		"a list, by a reader": g.permit(stale("")),
	} {
		if !errors.Is(err, kv.ErrNoLeader) {
			t.Errorf("%s: %v", what, err)
		}
	}

	cut := submit(g, stale("")) // and the leader of the first shard does not answer
	says(t, "at once", cut, "")
	first.drop(3)
	for range 4 {
		first.tick(time.Second)
	}
	if cut.answers != 1 || cut.err == nil {
		t.Fatalf("%d answers, %v, %+v; want a refusal", cut.answers, cut.err, cut.resp)
	}

	forgetUsers(t, n)
	nobody, root, stranger := submit(g, stale("")), submit(g, stale("root")), submit(g, stale("nobody"))
	for _, r := range []*result{nobody, root, stranger} {
		says(t, "before the node has heard", r, "")
	}
	speakNewest(first)
	for range 4 {
		exchangeBoth(first, second)
		first.tick(200 * time.Millisecond)
	}
	if root.answers != 1 || root.err != nil || len(root.resp.Range.KVs) != 1 || string(root.resp.Range.KVs[0].Value) != "secret" {
		t.Errorf("root: %d answers, %v, %+v", root.answers, root.err, root.resp)
	}
	for who, r := range map[string]*result{"who shows nothing": nobody, "somebody unknown": stranger} {
		if r.answers != 1 || r.err == nil || r.resp != nil || !(errors.Is(r.err, kv.ErrUserEmpty) || errors.Is(r.err, kv.ErrPermissionDenied)) {
			t.Errorf("%s: %d answers, %v, %+v", who, r.answers, r.err, r.resp)
		}
	}
	if !g.KnowsUsers() {
		t.Error("the node has caught up, and does not go by what it knows")
	}
	if err := g.MayWatch("", kv.Credential{}, span); err == nil || strings.Contains(err.Error(), "not heard") {
		t.Errorf("a watch: %v", err)
	}
}

// TestRevokedMeanwhile: a transaction over several shards is under way when its user loses the right to it. If it has no revision yet, it never gets one, and is
// refused; its keys are free. If it has one, it is older than the change in the order of revisions, and ends as it would have.
func TestRevokedMeanwhile(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		for _, numbered := range []bool{false, true} {
			what := fmt.Sprintf("protocol %d, with a revision before the change: %v", protocol, numbered)
			first, second, c := storeWithUsers(t, transacting(t, protocol))
			c.holdMulti = true
			req := writeBoth("x")
			req.Principal = "alice"
			r := submit(first.nodes[1].gateway, req)
			run(first, second, 0)
			if r.answers != 0 || len(c.multis) != 1 {
				t.Fatalf("%s: %d answers and %d questions for a revision", what, r.answers, len(c.multis))
			}
			c.holdMulti = false
			if numbered {
				c.multis[0]()
			}
			before := c.last
			changeUsers(t, first, second, kv.AuthRequest{Action: kv.AuthUserRevokeRole, User: "alice", Role: "all"})
			if !numbered {
				c.multis[0]()
			}
			run(first, second, 500*time.Millisecond)
			read := getRange("1", "3")
			read.Principal = "root"
			all := submit(first.nodes[1].gateway, read)
			run(first, second, 1500*time.Millisecond)
			written := strings.Count(responseText(all.resp, all.err), "=x@")
			switch {
			case r.answers != 1 || all.answers != 1 || all.err != nil:
				t.Errorf("%s: %d answers, %v; then %v", what, r.answers, r.err, all.err)
			case numbered && (r.err != nil || r.resp.Revision > before || written != 2):
				t.Errorf("%s: %v, and there is %s", what, r.err, responseText(all.resp, nil))
			case !numbered && (!errors.Is(r.err, kv.ErrPermissionDenied) || written != 0):
				t.Errorf("%s: %v, and there is %s", what, r.err, responseText(all.resp, nil))
			}
			changeUsers(t, first, second, kv.AuthRequest{Action: kv.AuthDisable})
			quiet(t, first, second)
		}
	}
}
