package snapshots

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// makeUsers makes users and roles, and has users log in if on.
func (s *store) makeUsers(on bool) {
	t := s.t
	must[*clientv3.AuthUserAddResponse](t)(s.UserAdd(s.ctx, "root", "r"))
	must[*clientv3.AuthUserAddResponse](t)(s.UserAdd(s.ctx, "alice", "a"))
	must[*clientv3.AuthUserAddResponse](t)(s.UserAddWithOptions(s.ctx, "cn", "", &clientv3.UserAddOptions{NoPassword: true}))
	must[*clientv3.AuthRoleAddResponse](t)(s.RoleAdd(s.ctx, "app"))
	for key, end := range map[string]string{"d1/": "d10", "one": "", "z": "\x00"} {
		must[*clientv3.AuthRoleGrantPermissionResponse](t)(s.RoleGrantPermission(s.ctx, "app", key, end, clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	must[*clientv3.AuthUserGrantRoleResponse](t)(s.UserGrantRole(s.ctx, "alice", "app"))
	must[*clientv3.AuthUserGrantRoleResponse](t)(s.UserGrantRole(s.ctx, "root", "root"))
	must[*clientv3.PutResponse](t)(s.Put(s.ctx, "d1/x", "v"))
	must[*clientv3.PutResponse](t)(s.Put(s.ctx, "d2/x", "v"))
	if on {
		must[*clientv3.AuthEnableResponse](t)(s.AuthEnable(s.ctx))
	}
}

// as is a client of a user.
func (s *store) as(user, password string) *store {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint}, Logger: zap.NewNop(), DialTimeout: 20 * time.Second, Username: user, Password: password})
	if err != nil {
		s.t.Fatalf("log in as %s: %v", user, err)
	}
	s.t.Cleanup(func() { c.Close() })
	other := *s
	other.Client = c
	return &other
}

// users is what root learns of them.
func (s *store) users() (all map[string]any) {
	t := s.t
	all = map[string]any{}
	status := must[*clientv3.AuthStatusResponse](t)(s.AuthStatus(s.ctx))
	all["status"] = []any{status.Enabled, status.AuthRevision}
	list := must[*clientv3.AuthUserListResponse](t)(s.UserList(s.ctx))
	for _, name := range list.Users {
		all["user "+name] = must[*clientv3.AuthUserGetResponse](t)(s.UserGet(s.ctx, name)).Roles
	}
	for _, name := range must[*clientv3.AuthRoleListResponse](t)(s.RoleList(s.ctx)).Roles {
		var permissions []string
		for _, p := range must[*clientv3.AuthRoleGetResponse](t)(s.RoleGet(s.ctx, name)).Perm {
			permissions = append(permissions, p.String())
		}
		all["role "+name] = permissions
	}
	return all
}

// mustAsk sees to it that users have to log in, and that the roles of one count.
func (s *store) mustAsk() {
	t := s.t
	if _, err := s.Get(s.ctx, "d1/x"); rpctypes.Error(err) != rpctypes.ErrUserEmpty {
		t.Errorf("nobody reads: %v", err)
	}
	alice := s.as("alice", "a")
	must[*clientv3.GetResponse](t)(alice.Get(s.ctx, "d1/x"))
	if _, err := alice.Get(s.ctx, "d2/x"); rpctypes.Error(err) != rpctypes.ErrPermissionDenied {
		t.Errorf("alice reads what is not hers: %v", err)
	}
}

// TestUsers: users and roles go with a snapshot from etcd to Quorate, and from there to etcd.
func TestUsers(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		source := startEtcd(t, t.TempDir(), freeURL(t), "x")
		source.makeUsers(on)
		root := source
		if on {
			root = source.as("root", "r")
		}
		want := root.users()
		file := filepath.Join(t.TempDir(), "snapshot.db")
		config := clientv3.Config{Endpoints: []string{source.endpoint}, Logger: zap.NewNop()}
		if on {
			config.Username, config.Password = "root", "r"
		}
		must[string](t)(snapshot.NewV3(zap.NewNop()).Save(source.ctx, config, file))
		source.stop()

		dir, peer, flags := filepath.Join(t.TempDir(), "data"), freeURL(t), append([]string{"--bcrypt-cost=4"}, shapes["8 by hash"]...)
		token := restoreQuorate(t, file, dir, peer, flags...)
		ours := startQuorate(t, dir, peer, append(flags, "--initial-cluster-token="+token)...)
		root = ours
		if on {
			ours.mustAsk()
			root = ours.as("root", "r")
		}
		if got := root.users(); !reflect.DeepEqual(got, want) {
			t.Errorf("on %v: in Quorate %v\nwant %v", on, got, want)
		}
		back := filepath.Join(t.TempDir(), "back.db")
		config.Endpoints = []string{ours.endpoint}
		must[string](t)(snapshot.NewV3(zap.NewNop()).Save(ours.ctx, config, back))
		ours.stop()

		dir, peer = filepath.Join(t.TempDir(), "etcd"), freeURL(t)
		err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: back, Name: "n1", OutputDataDir: dir, PeerURLs: []string{peer},
			InitialCluster: "n1=" + peer, InitialClusterToken: "back"})
		if err != nil {
			t.Fatal(err)
		}
		theirs := startEtcd(t, dir, peer, "back")
		root = theirs
		if on {
			theirs.mustAsk()
			root = theirs.as("root", "r")
		}
		if got := root.users(); !reflect.DeepEqual(got, want) {
			t.Errorf("on %v: back in etcd %v\nwant %v", on, got, want)
		}
		theirs.stop()
	}
}
