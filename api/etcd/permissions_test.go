package etcd

import (
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/auth"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestEveryMethodHasAPermission walks all methods that are registered, whoever described them: etcd's, ours, and the health service.
func TestEveryMethodHasAPermission(t *testing.T) {
	w := start(t)
	described := map[string]bool{}
	for _, service := range everyService {
		for _, m := range service.Methods {
			described["/"+service.ServiceName+"/"+m.MethodName] = true
		}
		for _, m := range service.Streams {
			described["/"+service.ServiceName+"/"+m.StreamName] = true
		}
	}
	for path := range w.server.methods {
		described[path] = true
	}
	for path := range described {
		if permissions[path] == 0 {
			t.Errorf("%s: nobody has said who may call it: permissions.go", path)
		}
		if _, served := w.server.methods[path]; !served {
			t.Errorf("%s is not registered, and so not guarded", path)
		}
	}
	for path, need := range permissions {
		if !described[path] {
			t.Errorf("%s has a permission, and there is no such method", path)
		}
		if need > auth.NeedRoot {
			t.Errorf("%s has a need that there is not", path)
		}
	}
	open := []string{"/etcdserverpb.Auth/Authenticate"}
	for kind := range unaryKinds {
		open = append(open, kind)
	}
	for path, need := range permissions {
		byKeys := slices.Contains(open, path) || strings.HasPrefix(path, "/etcdserverpb.Auth/") || strings.HasPrefix(path, "/grpc.health.v1.")
		switch path {
		case rangeStreamMethod, watchMethod, keepAliveMethod:
			byKeys = true
		}
		if need == auth.NeedNothing && !byKeys {
			t.Errorf("%s is open to everybody, and no request of package gateway", path)
		}
	}
}

// TestAbsentUsers: without them, methods about them say so.
func TestAbsentUsers(t *testing.T) {
	w := start(t)
	_, err := etcdserverpb.NewAuthClient(w.client().ActiveConnection()).UserAdd(w.ctx, &etcdserverpb.AuthUserAddRequest{Name: "u"})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "users, roles") {
		t.Error(err)
	}
}
