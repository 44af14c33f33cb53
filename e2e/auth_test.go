package e2e

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// login makes a client of a user.
func login(t *testing.T, user, password string, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), Username: user, Password: password, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatalf("log in as %s: %v", user, err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// refuses tells what is wrong if an error is not the one that etcd gives.
func refuses(t *testing.T, what string, err, want error) {
	t.Helper()
	if rpctypes.Error(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestAuth goes through users and roles with etcd's client: what each may do, one story for each advisory of etcd's, what becomes of tokens and watches when
// rights change, and that all of it outlives a restart.
func TestAuth(t *testing.T) {
	if cluster.IsEtcd() {
		t.Skip("etcd has some of the faults that this looks for")
	}
	cl := cluster.Start(t, cluster.Options{Nodes: 3, Flags: []string{"--bcrypt-cost=4"}})
	open := cl.Client(t)
	for _, key := range []string{"a/1", "b/1", "secret", "single"} {
		try(open.Put(within(t), key, "v"))(t)
	}
	_, err := open.AuthEnable(within(t))
	refuses(t, "enable without root", err, rpctypes.ErrRootUserNotExist)
	try(open.UserAdd(within(t), "root", "r"))(t)
	_, err = open.AuthEnable(within(t))
	refuses(t, "enable without root's role", err, rpctypes.ErrRootRoleNotExist)
	_, err = open.Authenticate(within(t), "root", "r")
	refuses(t, "log in while it is off", err, rpctypes.ErrAuthNotEnabled)
	try(open.UserGrantRole(within(t), "root", "root"))(t)
	try(open.UserAdd(within(t), "alice", "a"))(t)
	try(open.RoleAdd(within(t), "ab"))(t)
	both, reads := clientv3.PermissionType(clientv3.PermReadWrite), clientv3.PermissionType(clientv3.PermRead)
	try(open.RoleGrantPermission(within(t), "ab", "a/", "a0", both))(t)
	try(open.RoleGrantPermission(within(t), "ab", "w/", "w0", clientv3.PermissionType(clientv3.PermWrite)))(t)
	try(open.RoleGrantPermission(within(t), "ab", "single", "", reads))(t)
	try(open.UserGrantRole(within(t), "alice", "ab"))(t)
	try(open.AuthEnable(within(t)))(t)

	_, err = open.Put(within(t), "a/1", "v")
	refuses(t, "a put by nobody", err, rpctypes.ErrUserEmpty)
	_, err = open.Status(within(t), cl.Nodes[0].Endpoint)
	refuses(t, "status for nobody", err, rpctypes.ErrUserEmpty)
	_, err = open.Authenticate(within(t), "root", "wrong")
	refuses(t, "a wrong password", err, rpctypes.ErrAuthFailed)
	_, err = open.Authenticate(within(t), "bob", "a")
	refuses(t, "a user that is none", err, rpctypes.ErrAuthFailed)
	root := login(t, "root", "r", cl.Endpoints()...)
	alice := login(t, "alice", "a", cl.Endpoints()...)
	s := try(root.AuthStatus(within(t)))(t)
	equal(t, "enabled", s.Enabled, true)
	equal(t, "auth revision", s.AuthRevision, uint64(9))

	// A token is good on every node.
	for _, n := range cl.Nodes {
		one := login(t, "alice", "a", n.Endpoint)
		try(one.Put(within(t), "a/"+n.Name, "v"))(t)
		try(one.Get(within(t), "a/", clientv3.WithPrefix()))(t)
		try(one.Get(within(t), "a/1", clientv3.WithSerializable()))(t)
	}
	foreign := try(root.Grant(within(t), 600))(t).ID
	try(root.Put(within(t), "secret", "v", clientv3.WithLease(foreign)))(t)
	own := try(alice.Grant(within(t), 600))(t).ID
	try(alice.Put(within(t), "a/lease", "v", clientv3.WithLease(own)))(t)
	try(alice.KeepAliveOnce(within(t), own))(t)
	try(alice.TimeToLive(within(t), own, clientv3.WithAttachedKeys()))(t)

	nested := func(op clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, nil, []clientv3.Op{op}) }
	txn := func(op clientv3.Op) error {
		_, err := alice.Txn(within(t)).If(clientv3.Compare(clientv3.Version("a/1"), ">", 0)).Then(op).Commit()
		return err
	}
	must(t, txn(clientv3.OpPut("a/1", "w")))
	for what, ask := range map[string]func() error{
		"a get":              func() error { _, err := alice.Get(within(t), "b/1"); return err },
		"a serializable get": func() error { _, err := alice.Get(within(t), "b/1", clientv3.WithSerializable()); return err },
		"a list":             func() error { _, err := alice.Get(within(t), "a/", clientv3.WithFromKey()); return err },
		"a count of everything": func() error {
			_, err := alice.Get(within(t), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
			return err
		},
		"a put":                      func() error { _, err := alice.Put(within(t), "single", "v"); return err },
		"a delete":                   func() error { _, err := alice.Delete(within(t), "single"); return err },
		"a delete beyond":            func() error { _, err := alice.Delete(within(t), "a/", clientv3.WithRange("b")); return err },
		"a put with prev_kv":         func() error { _, err := alice.Put(within(t), "w/1", "v", clientv3.WithPrevKV()); return err },
		"a put with a foreign lease": func() error { _, err := alice.Put(within(t), "a/1", "v", clientv3.WithLease(foreign)); return err },
		"GHSA-rfx7-8w68-q57q":        func() error { return txn(nested(clientv3.OpPut("b/1", "v"))) },
		"CVE-2026-44283, prev_kv":    func() error { return txn(clientv3.OpPut("w/1", "v", clientv3.WithPrevKV())) },
		"CVE-2026-44283, lease":      func() error { return txn(nested(clientv3.OpPut("a/1", "v", clientv3.WithLease(foreign)))) },
		"a compare": func() error {
			_, err := alice.Txn(within(t)).If(clientv3.Compare(clientv3.Value("secret"), "=", "v")).Commit()
			return err
		},
		"revoke a foreign lease":      func() error { _, err := alice.Revoke(within(t), foreign); return err },
		"renew a foreign lease":       func() error { _, err := alice.KeepAliveOnce(within(t), foreign); return err },
		"the keys of a foreign lease": func() error { _, err := alice.TimeToLive(within(t), foreign, clientv3.WithAttachedKeys()); return err },
		"all leases":                  func() error { _, err := alice.Leases(within(t)); return err },
		"compact":                     func() error { _, err := alice.Compact(within(t), 2); return err },
		"defragment":                  func() error { _, err := alice.Defragment(within(t), cl.Nodes[0].Endpoint); return err },
		"hash":                        func() error { _, err := alice.HashKV(within(t), cl.Nodes[0].Endpoint, 0); return err },
		"disarm": func() error {
			_, err := alice.AlarmDisarm(within(t), &clientv3.AlarmMember{MemberID: 1, Alarm: pb.AlarmType_NOSPACE})
			return err
		},
		"move the leader": func() error { _, err := alice.MoveLeader(within(t), 1); return err },
		"add a member":    func() error { _, err := alice.MemberAdd(within(t), []string{"http://127.0.0.1:1"}); return err },
		"list users":      func() error { _, err := alice.UserList(within(t)); return err },
		"look at root":    func() error { _, err := alice.UserGet(within(t), "root"); return err },
		"add a user":      func() error { _, err := alice.UserAdd(within(t), "x", "x"); return err },
		"take a role":     func() error { _, err := alice.UserGrantRole(within(t), "alice", "root"); return err },
		"turn it off":     func() error { _, err := alice.AuthDisable(within(t)); return err },
		"snapshot": func() error {
			stream, err := alice.Snapshot(within(t))
			if err == nil {
				_, err = io.Copy(io.Discard, stream)
			}
			return err
		},
		"GHSA-xg4h-6gfc-h4m8, a watch with an open end": func() error {
			w := <-alice.Watch(within(t), "single", clientv3.WithFromKey())
			return w.Err()
		},
		"a range stream": func() error {
			token := try(open.Authenticate(within(t), "alice", "a"))(t).Token
			ctx := metadata.AppendToOutgoingContext(within(t), rpctypes.TokenFieldNameGRPC, token)
			stream, err := pb.NewKVClient(alice.ActiveConnection()).RangeStream(ctx, &pb.RangeRequest{Key: []byte("single"), RangeEnd: []byte{0}})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		err := ask()
		if status.Code(err) != codes.PermissionDenied && rpctypes.Error(err) != rpctypes.ErrPermissionDenied && (err == nil || !strings.Contains(err.Error(), "permission denied")) {
			t.Errorf("%s: %v, want that it is denied", what, err)
		}
	}
	equal(t, "what alice could not write", string(try(root.Get(within(t), "b/1"))(t).Kvs[0].Value), "v")
	try(alice.Status(within(t), cl.Nodes[0].Endpoint))(t)
	try(alice.MemberList(within(t)))(t)
	try(alice.UserGet(within(t), "alice"))(t)
	equal(t, "alice's own role", len(try(alice.RoleGet(within(t), "ab"))(t).Perm), 3)
	_, err = root.UserDelete(within(t), "root")
	refuses(t, "delete root", err, rpctypes.ErrInvalidAuthMgmt)

	// A watch ends with the right to read, and nothing that comes later is in it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watched := alice.Watch(ctx, "a/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if w := <-watched; !w.Created {
		t.Fatalf("%+v", w)
	}
	try(root.Put(within(t), "a/seen", "v"))(t)
	if w := <-watched; len(w.Events) != 1 {
		t.Fatalf("%+v", w)
	}
	try(root.UserRevokeRole(within(t), "alice", "ab"))(t)
	_, err = alice.Put(within(t), "a/1", "late")
	refuses(t, "a put after the role is revoked", err, rpctypes.ErrPermissionDenied)
	for _, n := range cl.Nodes {
		_, err = login(t, "alice", "a", n.Endpoint).Put(within(t), "a/1", "late")
		refuses(t, "a put at "+n.Name, err, rpctypes.ErrPermissionDenied)
		_, err = login(t, "alice", "a", n.Endpoint).Get(within(t), "a/1")
		refuses(t, "a get at "+n.Name, err, rpctypes.ErrPermissionDenied)
	}
	try(root.Put(within(t), "a/unseen", "v"))(t)
	for w := range watched { // the client does not tell the reason, and closes the channel
		for _, e := range w.Events {
			t.Errorf("a watch outlives the role: %s", e.Kv.Key)
		}
	}

	// A new password makes what the old one had proved void; the client has only that, and is refused.
	try(root.UserGrantRole(within(t), "alice", "ab"))(t)
	try(alice.Put(within(t), "a/1", "again"))(t)
	try(root.UserChangePassword(within(t), "alice", "b"))(t)
	if _, err = alice.Put(within(t), "a/1", "old"); err == nil {
		t.Error("the token of an old password is good")
	}
	alice = login(t, "alice", "b", cl.Endpoints()...)
	try(alice.Put(within(t), "a/1", "new"))(t)

	// Users outlive the processes, and so do tokens.
	must(t, cl.Kill())
	for _, n := range cl.Nodes {
		must(t, n.Start())
	}
	cluster.Eventually(t, "a put after the restart", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := alice.Put(ctx, "a/1", "restarted")
		return err
	})
	_, err = alice.Put(within(t), "b/1", "restarted")
	refuses(t, "a foreign put after the restart", err, rpctypes.ErrPermissionDenied)
	authctl(t, cl.Endpoints())
	try(root.AuthDisable(within(t)))(t)
	try(open.Put(within(t), "b/1", "open"))(t)
}

// authctl uses etcdctl, if there is one.
func authctl(t *testing.T, endpoints []string) {
	program, err := exec.LookPath("etcdctl")
	if err != nil {
		return
	}
	run := func(arguments ...string) (string, error) {
		command := exec.CommandContext(within(t), program, append([]string{"--endpoints=" + strings.Join(endpoints, ",")}, arguments...)...)
		output, err := command.CombinedOutput()
		return strings.TrimSpace(string(output)), err
	}
	for _, arguments := range []string{"user add bob:x", "role add bobs", "role grant-permission bobs --prefix readwrite bob/", "user grant-role bob bobs", "user list", "role get bobs", "auth status"} {
		if output, err := run(append([]string{"--user=root:r"}, strings.Fields(arguments)...)...); err != nil {
			t.Errorf("etcdctl %s: %v\n%s", arguments, err, output)
		}
	}
	if output, err := run("--user=bob:x", "put", "bob/1", "v"); err != nil || output != "OK" {
		t.Errorf("bob's put: %v\n%s", err, output)
	}
	if output, err := run("--user=bob:x", "get", "a/1"); err == nil || !strings.Contains(output, "permission denied") {
		t.Errorf("bob's get: %v\n%s", err, fmt.Sprint(output))
	}
}
