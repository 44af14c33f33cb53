package sim

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/sim/workload"
)

// Users and roles, in runs that have some (Plan.Users). Somebody who is root changes them all the time; the clients of the workloads are root, too, and a few more are
// users who may do this and that. Each of their answers is held against all states of users and roles that can have been in force: allowed is only what one of
// them allows, and refused what one refuses. What a state allows is reckoned here anew, from its roles, without package auth's decisions.

// usersShare: one run in so many has users, of those whose shards are those of one store.
const usersShare = 8

func (p *Plan) drawsUsers() bool {
	random := rand.New(rand.NewPCG(p.Seed, sourceUsers))
	return random.IntN(usersShare) == 0 && (p.Shards == 0 || p.Partition != nil) && !p.LoseQuorum
}

// serveUsers has a gateway go by the users and roles that the node has applied.
func (p *part) serveUsers(o *gateway.Options) {
	n := p.node
	o.Router = home(p.group.id)
	o.Users = func() *auth.State { return n.parts[0].replica.Auth() }
	if n.w.shared() {
		o.AuthVersion = func() uint64 { return n.issuer.Alarms() >> shard.AuthVersionBit }
		begunWith := n.parts[0].replica.Applied()
		o.KnowsUsers = func() bool { return begunWith > 0 && !n.parts[0].replica.Outside() }
	}
}

// home is the map of shards of a gateway that has one.
type home kv.ShardID

func (h home) Route(*kv.Request) (kv.ShardID, error) { return kv.ShardID(h), nil }

// Numbers of clients.
const (
	administrator = 800
	firstUser     = 801
)

// userBook is what the world knows of users and roles.
type userBook struct {
	w        *world
	versions map[uint64]*auth.State
	since    map[uint64]kv.Revision // the revision of the first replica that was seen to have the version, or a later one
	highest  uint64
	changes  int           // how many were answered: users ask for something at once
	last     time.Duration // when a state was last seen for the first time
}

func newUserBook(w *world) *userBook {
	return &userBook{w: w, versions: map[uint64]*auth.State{0: auth.NewState()}, since: map[uint64]kv.Revision{}}
}

// look notes which states the nodes have applied.
func (b *userBook) look() {
	for _, n := range b.w.nodes {
		b.lookAt(n)
	}
}

// lookAt returns the version that a node has applied.
func (b *userBook) lookAt(n *node) uint64 {
	p := n.parts[0]
	if !p.up() {
		return 0
	}
	state := p.replica.Auth()
	if b.versions[state.Version] == nil {
		b.versions[state.Version], b.since[state.Version] = state, p.replica.Revision()
		b.highest, b.last = max(b.highest, state.Version), b.w.now
	}
	return state.Version
}

// changedSince tells whether users or roles have changed since a moment.
func (b *userBook) changedSince(at time.Duration) bool { return b.last >= at }

// begin starts those who have to do with users.
func (b *userBook) begin() {
	b.w.groups[0].newPerson(administrator, "administrator", b.administer)
	for i, name := range userNames[:2] {
		b.w.groups[0].newPerson(firstUser+i, "user "+name, func(c *client) { b.live(c, name) })
	}
}

var (
	userNames = []string{"alice", "bob"}
	roleNames = []string{"low", "high", "some"}
)

func userKey(i int) []byte { return fmt.Appendf(nil, "u/%d", i) }

const userKeys = 6

// userSpan draws a key, some keys in a row, or all keys from one on.
func userSpan(random *rand.Rand) kv.Span {
	span := kv.Span{Start: userKey(random.IntN(userKeys))}
	switch random.IntN(4) {
	case 0:
		span.End = userKey(random.IntN(userKeys + 1))
		if bytes.Compare(span.Start, span.End) >= 0 {
			span.End = nil
		}
	case 1:
		span.End = []byte{0}
	}
	return span
}

// grantedSpan is one that a role is granted: more keys than most requests are about.
func grantedSpan(random *rand.Rand) kv.Span {
	from := random.IntN(userKeys)
	span := kv.Span{Start: userKey(from), End: userKey(min(9, from+1+random.IntN(userKeys)))}
	switch random.IntN(4) {
	case 0:
		span.End = nil
	case 1:
		span.End = []byte{0}
	}
	return span
}

// administer is the life of who is root.
func (b *userBook) administer(c *client) {
	insist := func(r *kv.AuthRequest) {
		for !c.over {
			if err := b.change(c, r); err == nil || errors.Is(err, kv.ErrUserAlreadyExist) || errors.Is(err, kv.ErrRoleAlreadyExist) {
				return
			}
			_ = c.Sleep(20 * time.Millisecond)
		}
	}
	insist(&kv.AuthRequest{Action: kv.AuthUserAdd, User: auth.Root, Hash: []byte("root")})
	insist(&kv.AuthRequest{Action: kv.AuthRoleAdd, Role: auth.Root})
	insist(&kv.AuthRequest{Action: kv.AuthUserGrantRole, User: auth.Root, Role: auth.Root})
	for _, role := range roleNames {
		insist(&kv.AuthRequest{Action: kv.AuthRoleAdd, Role: role})
		insist(&kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: role, Permission: kv.Permission{Type: kv.PermitReadWrite, Span: grantedSpan(c.random)}})
	}
	for _, user := range userNames {
		insist(&kv.AuthRequest{Action: kv.AuthUserAdd, User: user, Hash: []byte(user)})
		insist(&kv.AuthRequest{Action: kv.AuthUserGrantRole, User: user, Role: roleNames[c.random.IntN(len(roleNames))]})
	}
	puts := 0
	for insist(enable); !c.Ended(); {
		_ = c.Sleep(10*time.Millisecond + time.Duration(c.random.Int64N(int64(120*time.Millisecond))))
		if r := b.draw(c.random); b.change(c, r) == nil {
			c.w.mark("users or roles changed")
		}
		// Whoever watches sees that, or must not.
		puts++
		write := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: userKey(c.random.IntN(userKeys)), Value: fmt.Appendf(nil, "root-%d", puts)}}
		_, _ = c.ask(1+c.random.IntN(len(b.w.nodes)), write, time.Second, asked)
	}
	insist(enable)
}

var enable = &kv.AuthRequest{Action: kv.AuthEnable, Secret: bytes.Repeat([]byte{7}, kv.MinAuthSecret)}

// draw draws a change. Some come to nothing.
func (b *userBook) draw(random *rand.Rand) *kv.AuthRequest {
	user, role := userNames[random.IntN(len(userNames))], roleNames[random.IntN(len(roleNames))]
	r := &kv.AuthRequest{User: user, Role: role, Permission: kv.Permission{Type: kv.PermissionType(random.IntN(3)), Span: grantedSpan(random)}}
	r.Action = pick(random, kv.AuthUserGrantRole, kv.AuthUserGrantRole, kv.AuthUserRevokeRole, kv.AuthUserRevokeRole, kv.AuthRoleGrantPermission,
		kv.AuthRoleGrantPermission, kv.AuthRoleRevokePermission, kv.AuthUserChangePassword, kv.AuthUserDelete, kv.AuthUserAdd, kv.AuthUserAdd, kv.AuthDisable, kv.AuthEnable,
		kv.AuthEnable, kv.AuthEnable)
	switch state := b.versions[b.highest]; r.Action {
	case kv.AuthRoleRevokePermission: // one that there is
		if resp, err := state.Read(&kv.AuthRequest{Action: kv.AuthRoleGet, Role: role}); err == nil && len(resp.Permissions) > 0 {
			r.Permission.Span = resp.Permissions[random.IntN(len(resp.Permissions))].Span
		}
	case kv.AuthUserChangePassword, kv.AuthUserAdd:
		r.Hash = fmt.Appendf(nil, "hash %d", random.Uint32())
	case kv.AuthEnable:
		return enable
	}
	return r
}

// change asks some node for it.
func (b *userBook) change(c *client, r *kv.AuthRequest) error {
	number := 1 + c.random.IntN(len(b.w.nodes))
	request := *r
	_, _, _, err := c.exchange(number, &kv.Request{Kind: kv.KindAuth, Auth: &request}, 2*time.Second, asked)
	b.look()
	if err == nil {
		b.changes++
	}
	if b.w.reading() {
		b.w.line("root: action %d of user %q, role %q: %v", r.Action, r.User, r.Role, err)
	}
	return err
}

// live is the life of a user.
func (b *userBook) live(c *client, name string) {
	c.principal = name
	values := 0
	value := func() []byte {
		values++
		return fmt.Appendf(nil, "%s-%d-%d", name, c.number, values)
	}
	for !c.Ended() {
		for until, changes := c.w.now+time.Duration(c.random.Int64N(int64(40*time.Millisecond))), b.changes; c.w.now < until && b.changes == changes; {
			if c.Sleep(2*time.Millisecond) != nil {
				return
			}
		}
		if c.proof == (kv.Credential{}) || c.random.IntN(20) == 0 {
			b.logIn(c)
		}
		if c.random.IntN(25) == 0 {
			b.watch(c)
			continue
		}
		if err := b.ask(c, userRequest(c.random, value)); errors.Is(err, kv.ErrInvalidAuthToken) || errors.Is(err, kv.ErrAuthOldRevision) {
			c.w.mark("token refused")
			if c.random.IntN(2) == 0 {
				b.logIn(c)
			}
		}
	}
}

// logIn has the client show a password, and get a token, by the state that some node has.
func (b *userBook) logIn(c *client) {
	p := b.w.nodes[c.random.IntN(len(b.w.nodes))].parts[0]
	if !p.up() {
		return
	}
	state := p.replica.Auth()
	if u := state.User(c.principal); u != nil {
		c.proof = kv.Credential{Account: u.Account}
		if c.random.IntN(4) == 0 {
			c.proof.Revision = state.Revision
		}
	}
}

// userRequest draws a request of a user.
func userRequest(random *rand.Rand, value func() []byte) *kv.Request {
	put := func() *kv.PutRequest {
		return &kv.PutRequest{Key: userKey(random.IntN(userKeys)), Value: value(), PrevKV: random.IntN(3) == 0}
	}
	switch random.IntN(6) {
	case 0:
		return &kv.Request{Kind: kv.KindPut, Put: put()}
	case 1:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: userSpan(random), PrevKV: random.IntN(2) == 0}}
	case 2:
		inner := &kv.TxnRequest{Success: []kv.Op{{Put: put()}}}
		t := &kv.TxnRequest{Success: []kv.Op{{Txn: inner}}, Failure: []kv.Op{{Range: &kv.RangeRequest{Span: userSpan(random)}}}}
		if random.IntN(2) == 0 {
			t.Compare = []kv.Compare{{Span: kv.Span{Start: userKey(random.IntN(userKeys))}, Target: kv.CompareVersion, Result: kv.CompareGreater}}
		}
		if random.IntN(2) == 0 {
			t.Success, t.Failure = t.Failure, t.Success
		}
		return &kv.Request{Kind: kv.KindTxn, Txn: t}
	}
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: userSpan(random), Serializable: random.IntN(3) == 0}}
}

// ask asks a node, and judges the answer.
func (b *userBook) ask(c *client, r *kv.Request) error {
	number := 1 + c.random.IntN(len(b.w.nodes))
	first := b.inForce(number, r)
	began, proof := c.w.now, c.proof
	resp, process, refused, err := c.exchange(number, r, 2*time.Second, asked)
	c.record(number, r, resp, err, began, process, refused)
	if c.over {
		return err
	}
	if r.Kind == kv.KindRange && r.Range.Serializable && uint64(process) != first.process {
		first.version = 0
	}
	b.judge(c, proof, first.version, needsOf(r), err, describeRequest(r))
	return err
}

// watch watches a span for a while.
func (b *userBook) watch(c *client) {
	number, span := 1+c.random.IntN(len(b.w.nodes)), userSpan(c.random)
	needs := []need{{span: span}}
	b.look()
	proof := c.proof
	stream, err := c.Watch(number)
	if err != nil {
		return
	}
	s := stream.(*clientStream)
	defer s.Close()
	proof.Revision = 0
	s.shown = func(batch *watch.Batch) { b.checkShown(c, s.node, proof, needs, batch) }
	first := b.lookAt(s.node)
	s.Create(watch.CreateRequest{Span: span})
	for until := c.w.now + time.Duration(c.random.Int64N(int64(time.Second))); c.w.now < until && !c.Ended(); {
		batch, err := s.Next(100 * time.Millisecond)
		switch {
		case c.over || errors.Is(err, errNoWait.Err()):
			return
		case errors.Is(err, workload.ErrConnection):
			return
		case err != nil:
			continue
		case batch.Kind == watch.KindCreated && batch.Err == nil:
			b.judge(c, proof, first, needs, nil, "a watch")
			c.w.mark("watch of a user")
		case isAuthError(batch.Err):
			b.judge(c, proof, first, needs, batch.Err, "a watch")
			c.w.mark("watch of a user refused or ended")
			return
		}
	}
}
