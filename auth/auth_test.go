package auth

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// store is a state that changes, with the rows that it leaves.
type store struct {
	t     *testing.T
	state *State
	rows  map[string][]byte
}

func newStore(t *testing.T) *store { return &store{t: t, state: NewState(), rows: map[string][]byte{}} }

// do evaluates a request, and applies what was decoded of what was encoded of the change.
func (s *store) do(r kv.AuthRequest) (*kv.AuthResponse, error) {
	s.t.Helper()
	resp, c, err := s.state.Evaluate(&r)
	if err != nil || c == nil {
		return resp, err
	}
	decoded, err := DecodeChange(AppendChange(nil, c))
	if err != nil {
		s.t.Fatal(err)
	}
	s.state = s.state.Apply(decoded)
	decoded.Rows(func(class byte, name string, row []byte) { s.rows[string(class)+name] = row }, func(class byte, name string) { delete(s.rows, string(class)+name) })
	return resp, nil
}

func (s *store) must(r kv.AuthRequest) *kv.AuthResponse {
	s.t.Helper()
	resp, err := s.do(r)
	if err != nil {
		s.t.Fatalf("%+v: %v", r, err)
	}
	return resp
}

// loaded is the state that the rows say.
func (s *store) loaded() *State {
	s.t.Helper()
	fresh := NewState()
	for key, row := range s.rows {
		if err := fresh.Load(key[0], key[1:], row); err != nil {
			s.t.Fatal(err)
		}
	}
	return fresh
}

func span(start, end string) kv.Span {
	s := kv.Span{Start: []byte(start)}
	if end != "" {
		s.End = []byte(end)
	}
	return s
}

var secret = make([]byte, kv.MinAuthSecret)

// TestRefusals goes through etcd's refusals, in the order of a cluster's life.
func TestRefusals(t *testing.T) {
	s := newStore(t)
	grant := kv.Permission{Type: kv.PermitReadWrite, Span: span("a", "b")}
	for i, step := range []struct {
		request  kv.AuthRequest
		want     error
		revision uint64 // etcd's, afterwards
	}{
		{kv.AuthRequest{Action: kv.AuthEnable, Secret: secret}, kv.ErrRootUserNotExist, 1},
		{kv.AuthRequest{Action: kv.AuthDisable}, nil, 1},
		{kv.AuthRequest{Action: kv.AuthUserAdd}, kv.ErrUserEmpty, 1},
		{kv.AuthRequest{Action: kv.AuthUserAdd, User: "root", Hash: []byte("h")}, nil, 2},
		{kv.AuthRequest{Action: kv.AuthUserAdd, User: "root"}, kv.ErrUserAlreadyExist, 2},
		{kv.AuthRequest{Action: kv.AuthEnable, Secret: secret}, kv.ErrRootRoleNotExist, 2},
		{kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "x", Role: "root"}, kv.ErrUserNotFound, 2},
		{kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "root", Role: "x"}, kv.ErrRoleNotFound, 2},
		{kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "root", Role: "root"}, nil, 3}, // there is no such role, as in etcd
		{kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "root", Role: "root"}, nil, 3},
		{kv.AuthRequest{Action: kv.AuthRoleGet, Role: "root"}, kv.ErrRoleNotFound, 3},
		{kv.AuthRequest{Action: kv.AuthEnable}, kv.ErrInvalidRequest, 3}, // no secret
		{kv.AuthRequest{Action: kv.AuthEnable, Secret: secret}, nil, 3},
		{kv.AuthRequest{Action: kv.AuthEnable, Secret: secret}, nil, 3},
		{kv.AuthRequest{Action: kv.AuthUserDelete, User: "root"}, kv.ErrInvalidAuthMgmt, 3},
		{kv.AuthRequest{Action: kv.AuthUserRevokeRole, User: "root", Role: "root"}, kv.ErrInvalidAuthMgmt, 3},
		{kv.AuthRequest{Action: kv.AuthRoleDelete, Role: "root"}, kv.ErrInvalidAuthMgmt, 3},
		{kv.AuthRequest{Action: kv.AuthRoleAdd}, kv.ErrRoleEmpty, 3},
		{kv.AuthRequest{Action: kv.AuthRoleAdd, Role: "r"}, nil, 4},
		{kv.AuthRequest{Action: kv.AuthRoleAdd, Role: "r"}, kv.ErrRoleAlreadyExist, 4},
		{kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "x", Permission: grant}, kv.ErrRoleNotFound, 4},
		{kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: kv.Permission{Span: span("b", "a")}}, kv.ErrInvalidAuthMgmt, 4},
		{kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r"}, kv.ErrInvalidAuthMgmt, 4},
		{kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: kv.Permission{Type: 3, Span: span("a", "")}}, kv.ErrInvalidAuthMgmt, 4},
		{kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: grant}, nil, 5},
		{kv.AuthRequest{Action: kv.AuthRoleRevokePermission, Role: "r", Permission: kv.Permission{Span: span("a", "")}}, kv.ErrPermissionNotGranted, 5},
		{kv.AuthRequest{Action: kv.AuthRoleRevokePermission, Role: "x"}, kv.ErrRoleNotFound, 5},
		{kv.AuthRequest{Action: kv.AuthUserAdd, User: "u", NoPassword: true, Hash: []byte("h")}, nil, 6},
		{kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "u", Role: "r"}, nil, 7},
		{kv.AuthRequest{Action: kv.AuthUserRevokeRole, User: "u", Role: "x"}, kv.ErrRoleNotGranted, 7},
		{kv.AuthRequest{Action: kv.AuthUserRevokeRole, User: "x", Role: "x"}, kv.ErrUserNotFound, 7},
		{kv.AuthRequest{Action: kv.AuthUserChangePassword, User: "x"}, kv.ErrUserNotFound, 7},
		{kv.AuthRequest{Action: kv.AuthUserChangePassword, User: "root", Hash: []byte("i")}, nil, 8},
		{kv.AuthRequest{Action: kv.AuthUserDelete, User: "x"}, kv.ErrUserNotFound, 8},
		{kv.AuthRequest{Action: kv.AuthRoleDelete, Role: "x"}, kv.ErrRoleNotFound, 8},
		{kv.AuthRequest{Action: kv.AuthRoleDelete, Role: "r"}, nil, 9},
		{kv.AuthRequest{Action: kv.AuthUserGet, User: "x"}, kv.ErrUserNotFound, 9},
		{kv.AuthRequest{Action: 99}, kv.ErrInvalidRequest, 9},
		{kv.AuthRequest{Action: kv.AuthDisable}, nil, 10},
		{kv.AuthRequest{Action: kv.AuthUserDelete, User: "root"}, nil, 11},
	} {
		before := s.state.Version
		if _, err := s.do(step.request); !errors.Is(err, step.want) || s.state.Revision != step.revision {
			t.Errorf("step %d, %+v: %v, revision %d; want %v, %d", i, step.request, err, s.state.Revision, step.want, step.revision)
		}
		if loaded := s.loaded(); s.state.Version != 0 && !sameState(loaded, s.state) {
			t.Errorf("step %d: the rows say\n%+v, want\n%+v", i, loaded, s.state)
		}
		if step.want != nil && s.state.Version != before {
			t.Errorf("step %d: a refusal changed the state", i)
		}
	}
	if u := s.must(kv.AuthRequest{Action: kv.AuthUserGet, User: "u"}); len(u.Names) != 0 {
		t.Errorf("a role that is deleted is still granted: %v", u.Names)
	}
	if names := s.must(kv.AuthRequest{Action: kv.AuthUserList}).Names; !reflect.DeepEqual(names, []string{"u"}) {
		t.Errorf("users are %v", names)
	}
}

func sameState(a, b *State) bool {
	return a.Version == b.Version && a.Revision == b.Revision && a.Enabled == b.Enabled && string(a.Secret) == string(b.Secret) && a.sizeBytes == b.sizeBytes &&
		reflect.DeepEqual(a.users.Values(), b.users.Values()) && reflect.DeepEqual(a.roles.Values(), b.roles.Values())
}

// TestStatesDoNotChange: who holds a state, as those do who decide by it, sees nothing of what comes later.
func TestStatesDoNotChange(t *testing.T) {
	s := newStore(t)
	s.must(kv.AuthRequest{Action: kv.AuthUserAdd, User: "u"})
	s.must(kv.AuthRequest{Action: kv.AuthRoleAdd, Role: "r"})
	s.must(kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: kv.Permission{Span: span("a", "c")}})
	s.must(kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "u", Role: "r"})
	held, copied := s.state, s.loaded()
	s.must(kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: kv.Permission{Type: kv.PermitWrite, Span: span("a", "c")}})
	s.must(kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: kv.Permission{Span: span("a", "b")}})
	s.must(kv.AuthRequest{Action: kv.AuthRoleRevokePermission, Role: "r", Permission: kv.Permission{Span: span("a", "c")}})
	s.must(kv.AuthRequest{Action: kv.AuthUserRevokeRole, User: "u", Role: "r"})
	s.must(kv.AuthRequest{Action: kv.AuthUserDelete, User: "u"})
	s.must(kv.AuthRequest{Action: kv.AuthRoleDelete, Role: "r"})
	if !sameState(held, copied) {
		t.Error("a state has changed")
	}
	if s.state.sizeBytes != 0 {
		t.Errorf("%d bytes are left", s.state.sizeBytes)
	}
	if s.state.Apply(&Change{Version: held.Version}) != s.state {
		t.Error("a change that is in the state already was applied")
	}
}

// alice may read [a, c) and the single key k, and write [b, d); it is what the stories of the advisories begin with.
func alice(t *testing.T) *store {
	s := newStore(t)
	s.must(kv.AuthRequest{Action: kv.AuthUserAdd, User: Root})
	s.must(kv.AuthRequest{Action: kv.AuthUserGrantRole, User: Root, Role: Root})
	s.must(kv.AuthRequest{Action: kv.AuthUserAdd, User: "alice"})
	s.must(kv.AuthRequest{Action: kv.AuthRoleAdd, Role: "r"})
	for _, p := range []kv.Permission{{Type: kv.PermitRead, Span: span("a", "c")}, {Type: kv.PermitRead, Span: span("k", "")}, {Type: kv.PermitWrite, Span: span("b", "d")}} {
		s.must(kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: p})
	}
	s.must(kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "alice", Role: "r"})
	s.must(kv.AuthRequest{Action: kv.AuthEnable, Secret: secret})
	return s
}

// TestAdvisories: each of etcd's bypasses came from a second path to the same thing.
func TestAdvisories(t *testing.T) {
	s := alice(t)
	rights := Compile(s.state, "alice")
	put := func(key string, prev bool, lease kv.LeaseID) kv.Op {
		return kv.Op{Put: &kv.PutRequest{Key: []byte(key), PrevKV: prev, Lease: lease}}
	}
	txn := func(ops ...kv.Op) *kv.Request {
		return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: ops}}
	}
	nested := func(op kv.Op) kv.Op { return kv.Op{Txn: &kv.TxnRequest{Failure: []kv.Op{op}}} }
	watch := func(span kv.Span) *kv.Request {
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: span}}
	}
	leases := func(id kv.LeaseID) [][]byte {
		return map[kv.LeaseID][][]byte{1: {[]byte("b")}, 2: {[]byte("secret")}}[id]
	}
	for what, c := range map[string]struct {
		req  *kv.Request
		want error
	}{
		"a put":                                     {txn(put("b", false, 0)), nil},
		"GHSA-rfx7-8w68-q57q, nested put":           {txn(nested(put("a", false, 0))), kv.ErrPermissionDenied},
		"nested twice":                              {txn(nested(nested(put("a", false, 0)))), kv.ErrPermissionDenied},
		"CVE-2026-44283, prev_kv":                   {txn(put("c", true, 0)), kv.ErrPermissionDenied},
		"prev_kv of what may be read":               {txn(put("b", true, 0)), nil},
		"CVE-2026-44283, a lease with foreign keys": {txn(put("b", false, 2)), kv.ErrPermissionDenied},
		"the same, nested":                          {txn(nested(put("b", false, 2))), kv.ErrPermissionDenied},
		"a lease with own keys":                     {txn(put("b", false, 1)), nil},
		"revoke a lease with foreign keys":          {&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: 2}}, kv.ErrPermissionDenied},
		"renew a lease with foreign keys":           {&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: 2}}, kv.ErrPermissionDenied},
		"revoke a lease with own keys":              {&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: 1}}, nil},
		"GHSA-xg4h-6gfc-h4m8, open end, one key":    {watch(span("k", "\x00")), kv.ErrPermissionDenied},
		"open end behind a range":                   {watch(span("a", "\x00")), kv.ErrPermissionDenied},
		"everything":                                {watch(kv.Everything()), kv.ErrPermissionDenied},
		"the one key":                               {watch(span("k", "")), nil},
		"the one key as a range":                    {watch(span("k", "k\x00")), nil},
		"behind the one key":                        {watch(span("k", "k\x00\x00")), kv.ErrPermissionDenied},
		"all of a range":                            {watch(span("a", "c")), nil},
		"its end":                                   {watch(span("c", "")), kv.ErrPermissionDenied},
		"a compare":                                 {&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: span("c", "")}}}}, kv.ErrPermissionDenied},
		"compact":                                   {&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{}}, kv.ErrPermissionDenied},
		"raise an alarm":                            {&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmActivate}}, kv.ErrPermissionDenied},
		"list alarms":                               {&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{}}, nil},
		"all leases":                                {&kv.Request{Kind: kv.KindLeaseLeases}, kv.ErrPermissionDenied},
		"a kind that no client has":                 {&kv.Request{Kind: kv.KindTxnPrepare}, kv.ErrPermissionDenied},
		"a kind that nobody has heard of":           {&kv.Request{Kind: 200}, kv.ErrPermissionDenied},
		"give oneself a role":                       {&kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthUserGrantRole, User: "alice", Role: Root}}, kv.ErrPermissionDenied},
		"change one's own password, as in etcd":     {&kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthUserChangePassword, User: "alice"}}, kv.ErrPermissionDenied},
		"look at oneself":                           {&kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthUserGet, User: "alice"}}, nil},
		"look at another":                           {&kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthUserGet, User: Root}}, kv.ErrPermissionDenied},
		"look at one's own role":                    {&kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthRoleGet, Role: "r"}}, nil},
		"turn authentication off":                   {&kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthDisable}}, kv.ErrPermissionDenied},
	} {
		if err := rights.Decide(c.req, leases); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if err := Compile(s.state, Root).Decide(c.req, nil); err != nil {
			t.Errorf("%s: root is refused: %v", what, err)
		}
		if err := Compile(s.state, "").Decide(c.req, nil); !errors.Is(err, kv.ErrUserEmpty) {
			t.Errorf("%s: nobody is answered %v", what, err)
		}
		if err := Compile(s.state, "stranger").Decide(c.req, nil); !errors.Is(err, kv.ErrPermissionDenied) {
			t.Errorf("%s: a stranger is answered %v", what, err)
		}
	}
	status := &kv.Request{Kind: kv.KindAuth, Auth: &kv.AuthRequest{Action: kv.AuthStatus}}
	if err := Compile(s.state, "").Decide(status, nil); err != nil {
		t.Errorf("nobody may know whether authentication is on: %v", err)
	}
	foreign := &kv.Response{LeaseTimeToLive: &kv.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("b"), []byte("secret")}}}
	if err := rights.Shows(foreign); !errors.Is(err, kv.ErrPermissionDenied) {
		t.Errorf("a lease with foreign keys is shown: %v", err)
	}
	if err := Compile(s.state, Root).Shows(foreign); err != nil {
		t.Error(err)
	}
}

// TestNeeds: what is about no keys.
func TestNeeds(t *testing.T) {
	s := alice(t)
	for who, want := range map[string][3]error{
		"":         {nil, kv.ErrUserEmpty, kv.ErrUserEmpty},
		"stranger": {nil, kv.ErrPermissionDenied, kv.ErrPermissionDenied},
		"alice":    {nil, nil, kv.ErrPermissionDenied},
		Root:       {nil, nil, nil},
	} {
		for i, need := range []Need{NeedNothing, NeedUser, NeedRoot} {
			if err := Compile(s.state, who).Meets(need); !errors.Is(err, want[i]) {
				t.Errorf("%q, need %d: %v, want %v", who, need, err, want[i])
			}
		}
		if err := Compile(s.state, who).Meets(0); err == nil {
			t.Errorf("%q may do what nobody has thought about", who)
		}
	}
}

// TestProofs: what proves a principal becomes void.
func TestProofs(t *testing.T) {
	s := alice(t)
	account, revision := s.state.User("alice").Account, s.state.Revision
	holds := func(account, revision uint64) error {
		return Compile(s.state, "alice").Holds(kv.Credential{Account: account, Revision: revision})
	}
	if err := errors.Join(holds(account, 0), holds(0, revision), holds(0, 0)); err != nil {
		t.Error(err)
	}
	s.must(kv.AuthRequest{Action: kv.AuthRoleAdd, Role: "other"})
	if err := holds(0, revision); !errors.Is(err, kv.ErrAuthOldRevision) {
		t.Errorf("an old revision: %v", err)
	}
	if err := holds(account, 0); err != nil {
		t.Errorf("a simple token is void after another change: %v", err)
	}
	s.must(kv.AuthRequest{Action: kv.AuthUserChangePassword, User: "alice"})
	if err := holds(account, 0); !errors.Is(err, kv.ErrInvalidAuthToken) {
		t.Errorf("an old password: %v", err)
	}
	s.must(kv.AuthRequest{Action: kv.AuthUserDelete, User: "alice"})
	if err := holds(account, 0); !errors.Is(err, kv.ErrInvalidAuthToken) {
		t.Errorf("a user that is no more: %v", err)
	}
}

// TestStateIsBounded: changes that make it smaller are taken at the limit.
func TestStateIsBounded(t *testing.T) {
	s := newStore(t)
	huge := kv.AuthRequest{Action: kv.AuthRoleAdd, Role: string(make([]byte, MaxStateBytes-100))}
	_, c, err := s.state.Evaluate(&huge)
	if err != nil {
		t.Fatal(err)
	}
	s.state = s.state.Apply(c)
	_, err = s.do(kv.AuthRequest{Action: kv.AuthUserAdd, User: "u"})
	if !errors.Is(err, kv.ErrRequestTooLarge) || kv.LimitOf(err) == "" {
		t.Errorf("beyond the limit: %v", err)
	}
	s.must(kv.AuthRequest{Action: kv.AuthRoleDelete, Role: huge.Role})
	s.must(kv.AuthRequest{Action: kv.AuthUserAdd, User: "u"})
}

// BenchmarkDecide: a check costs about the same with ten roles as with 10,000 that have 100,000 ranges.
func BenchmarkDecide(b *testing.B) {
	for _, roles := range []int{10, 10_000} {
		b.Run(fmt.Sprint(roles), func(b *testing.B) {
			s := NewState()
			c := &Change{Version: 1, Revision: 2, Enabled: true}
			user := User{Name: "u"}
			for i := range roles {
				r := Role{Name: fmt.Sprintf("r%05d", i)}
				for j := range 10 {
					key := fmt.Sprintf("%05d/%d/", i, j)
					r.Permissions = append(r.Permissions, kv.Permission{Type: kv.PermitReadWrite, Span: span(key, key[:len(key)-1]+"0")})
				}
				c.Roles, user.Roles = append(c.Roles, r), append(user.Roles, r.Name)
			}
			c.Users = []User{user}
			rights := Compile(s.Apply(c), "u")
			req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("00007/3/key")}}
			b.ReportAllocs()
			for b.Loop() {
				if err := rights.Decide(req, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
