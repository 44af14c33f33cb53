package auth

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// The twin knows nothing of intervals: there are few keys, and it asks of each key of a span, and of what lies between keys, whether a permission has it.

// points are all keys that spans of the tests can begin or end at, and one between each two of them.
var points = func() (all [][]byte) {
	for _, a := range []string{"\x00", "a", "b", "c", "d", "\xff"} {
		all = append(all, []byte(a), []byte(a+"\x00"), []byte(a+"\x00\x00"))
	}
	return append(all, []byte("\xff\xff"))
}()

func naiveMay(s *State, user string, span kv.Span, writes bool) bool {
	u := s.User(user)
	for _, name := range u.Roles {
		if name == Root {
			return true
		}
	}
	if span.Empty() {
		span = kv.Span{Start: span.Start}
	}
	for _, point := range points {
		if !span.Contains(point) {
			continue
		}
		allowed := false
		for _, name := range u.Roles {
			role := s.role(name)
			if role == nil {
				continue
			}
			for _, p := range role.Permissions {
				allows := p.Type == kv.PermitReadWrite || (p.Type == kv.PermitWrite) == writes
				allowed = allowed || allows && p.Span.Contains(point)
			}
		}
		if !allowed {
			return false
		}
	}
	return true
}

// naive lists what a request does to which keys, and asks for each.
func naive(s *State, user string, req *kv.Request, leases map[kv.LeaseID][][]byte) bool {
	if !s.Enabled || req.Kind == kv.KindAuth && req.Auth.Action == kv.AuthStatus {
		return true
	}
	if user == "" || s.User(user) == nil {
		return false
	}
	root := naiveMay(s, user, kv.Everything(), true) && hasName(s.User(user).Roles, Root)
	ok := true
	need := func(span kv.Span, writes bool) { ok = ok && naiveMay(s, user, span, writes) }
	ofLease := func(id kv.LeaseID) {
		for _, key := range leases[id] {
			need(kv.Span{Start: key}, true)
		}
	}
	var ops func([]kv.Op)
	txn := func(t *kv.TxnRequest) {
		for _, c := range t.Compare {
			need(c.Span, false)
		}
		ops(append(append([]kv.Op{}, t.Success...), t.Failure...))
	}
	ops = func(list []kv.Op) {
		for _, op := range list {
			if op.Range != nil {
				need(op.Range.Span, false)
			}
			if op.Put != nil {
				need(kv.Span{Start: op.Put.Key}, true)
				if op.Put.PrevKV {
					need(kv.Span{Start: op.Put.Key}, false)
				}
				ofLease(op.Put.Lease)
			}
			if op.DeleteRange != nil {
				need(op.DeleteRange.Span, true)
				if op.DeleteRange.PrevKV {
					need(op.DeleteRange.Span, false)
				}
			}
			if op.Txn != nil {
				txn(op.Txn)
			}
		}
	}
	switch req.Kind {
	case kv.KindRange, kv.KindPut, kv.KindDeleteRange, kv.KindTxn:
		ops([]kv.Op{{Range: req.Range, Put: req.Put, DeleteRange: req.DeleteRange, Txn: req.Txn}})
	case kv.KindLeaseRevoke:
		ofLease(req.LeaseRevoke.ID)
	case kv.KindLeaseKeepAlive:
		ofLease(req.LeaseKeepAlive.ID)
	case kv.KindLeaseTimeToLive, kv.KindLeaseGrant, kv.KindMemberList:
	case kv.KindLeaseLeases:
		need(kv.Everything(), false)
	case kv.KindAlarm:
		ok = root || req.Alarm.Action == kv.AlarmGet
	case kv.KindAuth:
		a := req.Auth
		ok = root || a.Action == kv.AuthUserGet && a.User == user || a.Action == kv.AuthRoleGet && hasName(s.User(user).Roles, a.Role)
	default:
		ok = root
	}
	return ok
}

func hasName(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func anySpan(random *rand.Rand) kv.Span {
	keys := []string{"\x00", "a", "b", "c", "d", "a\x00", "\xff"}
	span := kv.Span{Start: []byte(keys[random.IntN(len(keys))])}
	switch random.IntN(3) {
	case 0:
		span.End = []byte{0}
	case 1:
		span.End = []byte(keys[1+random.IntN(len(keys)-1)])
	}
	return span
}

func anyState(random *rand.Rand) *State {
	s := NewState()
	do := func(r *kv.AuthRequest) {
		if _, c, err := s.Evaluate(r); err == nil && c != nil {
			s = s.Apply(c)
		}
	}
	do(&kv.AuthRequest{Action: kv.AuthUserAdd, User: Root})
	do(&kv.AuthRequest{Action: kv.AuthUserGrantRole, User: Root, Role: Root})
	for _, user := range []string{"u", "v"} {
		do(&kv.AuthRequest{Action: kv.AuthUserAdd, User: user})
	}
	for i := range 3 {
		role := fmt.Sprint("r", i)
		do(&kv.AuthRequest{Action: kv.AuthRoleAdd, Role: role})
		for range random.IntN(4) {
			do(&kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: role, Permission: kv.Permission{Type: kv.PermissionType(random.IntN(3)), Span: anySpan(random)}})
		}
		do(&kv.AuthRequest{Action: kv.AuthUserGrantRole, User: []string{"u", "v"}[random.IntN(2)], Role: role})
	}
	switch random.IntN(12) {
	case 0:
		do(&kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "u", Role: Root})
	case 1:
		return s // authentication is off
	}
	do(&kv.AuthRequest{Action: kv.AuthEnable, Secret: make([]byte, kv.MinAuthSecret)})
	return s
}

func anyOp(random *rand.Rand, depth int) kv.Op {
	switch random.IntN(4) {
	case 0:
		return kv.Op{Range: &kv.RangeRequest{Span: anySpan(random)}}
	case 1:
		return kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: anySpan(random), PrevKV: random.IntN(2) == 0}}
	case 2:
		if depth > 0 {
			return kv.Op{Txn: anyTxn(random, depth-1)}
		}
	}
	return kv.Op{Put: &kv.PutRequest{Key: anySpan(random).Start, PrevKV: random.IntN(3) == 0, Lease: kv.LeaseID(random.IntN(4))}}
}

func anyTxn(random *rand.Rand, depth int) *kv.TxnRequest {
	t := &kv.TxnRequest{}
	if random.IntN(2) == 0 {
		t.Compare = []kv.Compare{{Span: anySpan(random)}}
	}
	for range random.IntN(3) {
		t.Success = append(t.Success, anyOp(random, depth))
	}
	if random.IntN(2) == 0 {
		t.Failure = append(t.Failure, anyOp(random, depth))
	}
	return t
}

func anyRequest(random *rand.Rand) *kv.Request {
	r := &kv.Request{Kind: kv.Kind(1 + random.IntN(int(kv.KindAuth)+1))}
	switch op := anyOp(random, 2); r.Kind {
	case kv.KindLeaseRevoke:
		r.LeaseRevoke = &kv.LeaseRevokeRequest{ID: kv.LeaseID(random.IntN(4))}
	case kv.KindLeaseKeepAlive:
		r.LeaseKeepAlive = &kv.LeaseKeepAliveRequest{ID: kv.LeaseID(random.IntN(4))}
	case kv.KindAlarm:
		r.Alarm = &kv.AlarmRequest{Action: kv.AlarmAction(random.IntN(3))}
	case kv.KindAuth:
		r.Auth = &kv.AuthRequest{
			Action: kv.AuthAction(random.IntN(int(kv.AuthRoleList) + 1)), User: []string{"u", "v"}[random.IntN(2)], Role: fmt.Sprint("r", random.IntN(3)),
		}
	default:
		switch {
		case op.Range != nil:
			r.Kind, r.Range = kv.KindRange, op.Range
		case op.Put != nil:
			r.Kind, r.Put = kv.KindPut, op.Put
		case op.DeleteRange != nil:
			r.Kind, r.DeleteRange = kv.KindDeleteRange, op.DeleteRange
		default:
			r.Kind, r.Txn = kv.KindTxn, op.Txn
		}
		if other := kv.Kind(1 + random.IntN(int(kv.KindAuth))); random.IntN(4) == 0 && other > kv.KindTxn && other != kv.KindAuth &&
			other != kv.KindLeaseRevoke && other != kv.KindLeaseKeepAlive && other != kv.KindAlarm {
			r = &kv.Request{Kind: other, Compact: &kv.CompactRequest{}, LeaseGrant: &kv.LeaseGrantRequest{}}
		}
	}
	return r
}

func compareWithTwin(t *testing.T, seed uint64) (allowed bool) {
	random := rand.New(rand.NewPCG(seed, 7))
	s := anyState(random)
	leases := map[kv.LeaseID][][]byte{1: {[]byte("a")}, 2: {[]byte("b"), []byte("c")}}
	user := []string{"", "u", "v", "stranger", Root}[random.IntN(5)]
	rights := Compile(s, user)
	if err := checkMerged(rights); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	req := anyRequest(random)
	named := rights.Leases(req)
	err := rights.Decide(req, func(id kv.LeaseID) [][]byte {
		found := id == 0
		for _, n := range named {
			found = found || n == id
		}
		if !found {
			t.Errorf("seed %d: Decide looks at lease %d, Leases names %v", seed, id, named)
		}
		return leases[id]
	})
	if want := naive(s, user, req, leases); (err == nil) != want {
		t.Fatalf("seed %d: user %q, %+v: %v, want allowed: %v", seed, user, req, err, want)
	}
	return err == nil
}

func checkMerged(r *Rights) error {
	for _, all := range []spans{r.read, r.write} {
		for i := 1; i < len(all); i++ {
			if all[i-1].endless || bytes.Compare(all[i-1].upper, all[i].lower) >= 0 {
				return fmt.Errorf("intervals %v touch", all)
			}
		}
	}
	return nil
}

// TestDecideIsAsTheTwinSays compares the decision with that of somebody who looks at every key.
func TestDecideIsAsTheTwinSays(t *testing.T) {
	allowed, n := 0, 12_000
	if testing.Short() {
		n = 3000
	}
	for seed := range n {
		if compareWithTwin(t, uint64(seed)) {
			allowed++
		}
	}
	if allowed < n/10 || allowed > n*9/10 {
		t.Errorf("%d of %d are allowed: the test says little", allowed, n)
	}
}

func FuzzDecide(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { compareWithTwin(t, seed) })
}

// FuzzChange: what is decoded is encoded to what decodes to the same, and rows load what was applied.
func FuzzChange(f *testing.F) {
	f.Add(AppendChange(nil, &Change{Version: 2, Revision: 2, Enabled: true, Secret: []byte("s"), LostUsers: []string{"x"},
		Users: []User{{Name: "u", Hash: []byte("h"), Roles: []string{"a", "b"}, Account: 1}},
		Roles: []Role{{Name: "a", Permissions: []kv.Permission{{Type: kv.PermitWrite, Span: kv.Span{Start: []byte("k")}}}}}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := DecodeChange(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again := AppendChange(nil, c)
		c2, err := DecodeChange(again)
		if err != nil || !bytes.Equal(AppendChange(nil, c2), again) {
			t.Fatalf("%v: %+v became %+v", err, c, c2)
		}
	})
}

func FuzzLoad(f *testing.F) {
	c := &Change{Version: 2, Revision: 2, Users: []User{{Name: "u"}}, Roles: []Role{{Name: "r"}}}
	c.Rows(func(class byte, name string, row []byte) { f.Add(class, name, row) }, nil)
	f.Fuzz(func(t *testing.T, class byte, name string, row []byte) { _ = NewState().Load(class, name, row) })
}
