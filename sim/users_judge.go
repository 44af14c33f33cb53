package sim

import (
	"bytes"
	"errors"
	"slices"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// What users may is reckoned here anew, from the roles of a state, without package auth's decisions, and each answer is held against it: see userBook.

// beginning is what was in force when a request was sent.
type beginning struct {
	version uint64
	process uint64 // of the node
}

// inForce is the first state that an answer may go by. With one shard that is the newest that was applied anywhere: it was committed, and whoever answers knows it. In
// a store of several it is what the leader of the system shard has applied; and a node that reads what it has goes by the users and roles that it has.
func (b *userBook) inForce(number int, r *kv.Request) beginning {
	b.look()
	n := b.w.reached(number, 0)
	at := beginning{version: b.highest, process: n.life}
	if r.Kind == kv.KindRange && r.Range.Serializable {
		at.version = b.lookAt(n)
	} else if b.w.shared() {
		at.version = 0
		if leader := b.w.groups[0].leader(); leader != nil {
			at.version = b.lookAt(leader.node)
		}
	}
	return at
}

// judge holds the outcome of a request against the states from one on.
func (b *userBook) judge(c *client, proof kv.Credential, first uint64, needs []need, err error, what string) {
	b.look()
	refused := isAuthError(err)
	if err != nil && !refused {
		return
	}
	for v := first; v <= b.highest; v++ {
		state := b.versions[v]
		if state == nil || allows(state, c.principal, proof, needs) != refused {
			if refused {
				c.w.mark("user refused")
			} else if state != nil && state.Enabled {
				c.w.mark("user allowed")
			}
			return
		}
		if v < b.highest && errors.Is(err, kv.ErrAuthOldRevision) {
			return // they changed meanwhile, again and again
		}
	}
	c.w.fail(Correctness, "%s of user %s was answered with error %v, and no state of users and roles from version %d to %d says so", what, c.principal, err, first, b.highest)
}

func isAuthError(err error) bool {
	for _, one := range []error{kv.ErrPermissionDenied, kv.ErrInvalidAuthToken, kv.ErrAuthOldRevision, kv.ErrUserEmpty} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// need is a right that a request needs.
type need struct {
	span  kv.Span
	write bool
}

// needsOf lists what a request needs.
func needsOf(r *kv.Request) []need {
	switch r.Kind {
	case kv.KindTxn:
		return needsOfTxn(r.Txn)
	case kv.KindRange, kv.KindPut, kv.KindDeleteRange:
		return needsOfTxn(&kv.TxnRequest{Success: []kv.Op{{Range: r.Range, Put: r.Put, DeleteRange: r.DeleteRange}}})
	}
	panic("sim: users do not ask for that")
}

func needsOfTxn(t *kv.TxnRequest) (needs []need) {
	for i := range t.Compare {
		needs = append(needs, need{span: t.Compare[i].Span})
	}
	for _, op := range slices.Concat(t.Success, t.Failure) {
		if op.Range != nil {
			needs = append(needs, need{span: op.Range.Span})
		}
		if op.Put != nil {
			needs = append(needs, need{kv.Span{Start: op.Put.Key}, true})
			if op.Put.PrevKV {
				needs = append(needs, need{span: kv.Span{Start: op.Put.Key}})
			}
		}
		if op.DeleteRange != nil {
			needs = append(needs, need{op.DeleteRange.Span, true})
			if op.DeleteRange.PrevKV {
				needs = append(needs, need{span: op.DeleteRange.Span})
			}
		}
		if op.Txn != nil {
			needs = append(needs, needsOfTxn(op.Txn)...)
		}
	}
	return needs
}

// allows tells whether a state allows what is needed.
func allows(state *auth.State, name string, proof kv.Credential, needs []need) bool {
	if !state.Enabled {
		return true
	}
	u := state.User(name)
	if u == nil || proof.Account != 0 && proof.Account != u.Account || proof.Revision != 0 && proof.Revision < state.Revision {
		return false
	}
	var granted []kv.Permission
	for _, role := range u.Roles {
		if resp, err := state.Read(&kv.AuthRequest{Action: kv.AuthRoleGet, Role: role}); err == nil {
			granted = append(granted, resp.Permissions...)
		}
	}
	for _, n := range needs {
		own := slices.DeleteFunc(slices.Clone(granted), func(p kv.Permission) bool {
			return n.write && p.Type == kv.PermitRead || !n.write && p.Type == kv.PermitWrite
		})
		if !granting(own, n.span) {
			return false
		}
	}
	return true
}

// granting tells whether each key of a span is in one of the permissions: the first one is, and each at which a permission ends.
func granting(permissions []kv.Permission, span kv.Span) bool {
	endless := func(s kv.Span) bool { return len(s.End) == 1 && s.End[0] == 0 }
	in := func(key []byte, s kv.Span) bool {
		if len(s.End) == 0 {
			return bytes.Equal(key, s.Start)
		}
		return bytes.Compare(key, s.Start) >= 0 && (endless(s) || bytes.Compare(key, s.End) < 0)
	}
	points := [][]byte{span.Start}
	for _, p := range permissions {
		end := p.Span.End
		if len(end) == 0 {
			end = append(slices.Clone(p.Span.Start), 0)
		}
		if !endless(p.Span) && in(end, span) {
			points = append(points, end)
		}
	}
	for _, key := range points {
		if !slices.ContainsFunc(permissions, func(p kv.Permission) bool { return in(key, p.Span) }) {
			return false
		}
	}
	return true
}

// checkShown: what a node hands out to a watch of a user, it was allowed to show at some moment since what it shows was applied.
func (b *userBook) checkShown(c *client, n *node, proof kv.Credential, needs []need, batch *watch.Batch) {
	if batch.Kind != watch.KindEvents || b.w.shared() {
		return
	}
	now := b.lookAt(n)
	for i := range batch.Events {
		e := batch.Events[i].Event(false)
		first := now
		for first > 0 && (b.versions[first] == nil || b.since[first] >= e.KV.ModRevision) {
			first--
		}
		for v := first; ; v++ {
			if state := b.versions[v]; state == nil || allows(state, c.principal, proof, needs) {
				break
			}
			if v == now {
				b.w.fail(Correctness, "node %d shows user %s the change of %q at revision %d, which it had no right to see since version %d of users and roles", n.id, c.principal,
					e.KV.Key, e.KV.ModRevision, first)
				return
			}
		}
	}
}
