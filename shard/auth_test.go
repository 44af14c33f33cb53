package shard

import (
	"errors"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

func aboutUsers(r kv.AuthRequest) *kv.Request {
	return &kv.Request{Kind: kv.KindAuth, AuthVersion: kv.Unjudged, Auth: &r}
}

// TestAuthInTheLog: whatever is evaluated behind a change of users and roles must have been allowed by the state after it, and the state outlives restarts,
// whatever of the log is applied again.
func TestAuthInTheLog(t *testing.T) {
	g := newGroup(t, testOptions(1))
	put := func(version uint64) *kv.Request {
		return &kv.Request{Kind: kv.KindPut, AuthVersion: version, Put: &kv.PutRequest{Key: []byte("k")}}
	}
	apply := func() {
		t.Helper()
		g.propose()
		if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
	}
	does := func(req *kv.Request, want error) {
		t.Helper()
		out := g.leader.Evaluate(req)
		if !errors.Is(out.Err, want) || out.Fatal != nil {
			t.Fatalf("%v, %v; want %v", out.Err, out.Fatal, want)
		}
		if want != nil && g.leader.lead.overlay.untaken() && out.WaitFor == 0 {
			t.Error("a refusal is told before what it is about is applied")
		}
	}
	does(put(0), nil)
	does(aboutUsers(kv.AuthRequest{Action: kv.AuthUserAdd, User: "u", Hash: []byte("h")}), nil)
	does(put(0), kv.ErrAuthOldRevision) // the change is in flight
	does(put(1), nil)
	does(put(kv.Unjudged), nil)
	does(aboutUsers(kv.AuthRequest{Action: kv.AuthUserAdd, User: "u"}), kv.ErrUserAlreadyExist)
	does(&kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: 1}}, nil) // no client asks for that
	apply()
	read := func(version uint64) error {
		_, err := g.leader.Read(nil, 0, &kv.Request{Kind: kv.KindRange, AuthVersion: version, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}})
		return err
	}
	if !errors.Is(read(0), kv.ErrAuthOldRevision) || read(1) != nil {
		t.Errorf("reads: %v, %v", read(0), read(1))
	}
	if err := g.leader.flushAll(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []kv.AuthRequest{
		{Action: kv.AuthRoleAdd, Role: "r"}, {Action: kv.AuthUserGrantRole, User: "u", Role: "r"}, {Action: kv.AuthUserAdd, User: "v"}, {Action: kv.AuthUserDelete, User: "v"},
		{Action: kv.AuthRoleGrantPermission, Role: "r", Permission: kv.Permission{Span: kv.Span{Start: []byte("a")}}},
	} {
		does(aboutUsers(r), nil)
		apply()
	}
	want := g.leader.Auth()
	same := func(when string) {
		t.Helper()
		got := g.leader.Auth()
		list, _ := got.Read(&kv.AuthRequest{Action: kv.AuthUserList})
		role, err := got.Read(&kv.AuthRequest{Action: kv.AuthRoleGet, Role: "r"})
		if err != nil || got.Version != want.Version || !reflect.DeepEqual(got.User("u"), want.User("u")) || len(list.Names) != 1 || len(role.Permissions) != 1 {
			t.Errorf("%s: version %d, users %v: %v", when, got.Version, list, err)
		}
	}
	if err := g.leader.reopen(); err != nil { // the rows are as of the end of the log, the rest as of the flush
		t.Fatal(err)
	}
	same("opened")
	if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
		t.Fatal(err)
	}
	same("applied again")
	if err := errors.Join(g.leader.flushAll(), g.leader.reopen()); err != nil {
		t.Fatal(err)
	}
	same("flushed")
}
