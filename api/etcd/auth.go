package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/authn"
	"github.com/quoratedb/quorate/kv"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Users and roles, if they are served.

// authMethods are those of etcd's service Auth.
func (s *Service) authMethods() map[string]grpc.MethodHandler {
	return map[string]grpc.MethodHandler{
		"/etcdserverpb.Auth/AuthStatus":           typed(s, s.authStatus),
		"/etcdserverpb.Auth/Authenticate":         typed(s, s.authenticate),
		"/etcdserverpb.Auth/AuthEnable":           typed(s, s.authEnable),
		"/etcdserverpb.Auth/AuthDisable":          typed(s, s.authDisable),
		"/etcdserverpb.Auth/UserAdd":              typed(s, s.userAdd),
		"/etcdserverpb.Auth/UserChangePassword":   typed(s, s.userChangePassword),
		"/etcdserverpb.Auth/UserGet":              typed(s, s.userGet),
		"/etcdserverpb.Auth/UserList":             typed(s, s.userList),
		"/etcdserverpb.Auth/UserDelete":           typed(s, s.userDelete),
		"/etcdserverpb.Auth/UserGrantRole":        typed(s, s.userGrantRole),
		"/etcdserverpb.Auth/UserRevokeRole":       typed(s, s.userRevokeRole),
		"/etcdserverpb.Auth/RoleAdd":              typed(s, s.roleAdd),
		"/etcdserverpb.Auth/RoleGet":              typed(s, s.roleGet),
		"/etcdserverpb.Auth/RoleList":             typed(s, s.roleList),
		"/etcdserverpb.Auth/RoleDelete":           typed(s, s.roleDelete),
		"/etcdserverpb.Auth/RoleGrantPermission":  typed(s, s.roleGrantPermission),
		"/etcdserverpb.Auth/RoleRevokePermission": typed(s, s.roleRevokePermission),
	}
}

// askAuth has a request about users and roles answered.
func (s *Service) askAuth(ctx context.Context, request kv.AuthRequest) (*pb.ResponseHeader, *kv.AuthResponse, error) {
	call := callIn(ctx)
	caller, err := s.callerOf(ctx, call)
	if err != nil {
		return nil, nil, err
	}
	w := s.newWaiter()
	w.call.Req = &kv.Request{Kind: kv.KindAuth, Principal: caller.Principal, Credential: caller.Proof, Auth: &request, Memory: call}
	w.call.Deadline, w.call.RequireLeader = caller.Deadline, caller.RequireLeader
	s.options.Gateway.Submit(&w.call)
	a, err := s.wait(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	return s.pbHeader(a.response.Revision), a.response.Auth, nil
}

func (s *Service) authStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	if s.options.Users == nil { // authentication is off, and nothing about it was ever changed
		return &pb.AuthStatusResponse{Header: s.pbHeader(s.options.Node.Revision()), AuthRevision: 1}, nil
	}
	h, a, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthStatus})
	if err != nil {
		return nil, err
	}
	return &pb.AuthStatusResponse{Header: h, Enabled: a.Enabled, AuthRevision: a.Revision}, nil
}

// authenticate gives a token for a password. It looks at users and roles as they were at some moment after the request came.
func (s *Service) authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if s.options.Users == nil {
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	}
	if err := s.options.Gateway.CatchUp(ctx, kv.SystemShard); err != nil {
		return nil, err
	}
	for {
		state := s.users()
		if state == nil {
			return nil, kv.ErrAuthNotEnabled
		}
		user := state.User(r.Name)
		if err := s.options.Passwords.Check(ctx, r.Name, user, r.Password); err != nil {
			return nil, err
		}
		now := s.users()
		if now == nil || now.User(r.Name) == nil || now.User(r.Name).Account != user.Account {
			continue // it was changed while it was checked
		}
		token, err := s.options.Tokens.Make(now, now.User(r.Name), time.Now())
		if errors.Is(err, authn.ErrVerifyOnly) {
			return nil, status.Error(codes.Unknown, authn.ErrVerifyOnly.Error()) // as etcd says it
		}
		if err != nil {
			return nil, err
		}
		return &pb.AuthenticateResponse{Header: s.pbHeader(s.options.Node.Revision()), Token: token}, nil
	}
}

func (s *Service) authEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	secret := make([]byte, kv.MinAuthSecret)
	rand.Read(secret) // never fails
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthEnable, Secret: secret})
	return &pb.AuthEnableResponse{Header: h}, err
}

func (s *Service) authDisable(ctx context.Context, _ *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthDisable})
	return &pb.AuthDisableResponse{Header: h}, err
}

func (s *Service) userAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	request := kv.AuthRequest{Action: kv.AuthUserAdd, User: r.Name, NoPassword: r.Options.GetNoPassword()}
	if r.Name == "" {
		return nil, kv.ErrUserEmpty
	}
	if !request.NoPassword {
		var err error
		if request.Hash, err = s.options.Passwords.Hash(ctx, r.Password); err != nil {
			return nil, fmt.Errorf("add a user: %w", err)
		}
	}
	h, _, err := s.askAuth(ctx, request)
	return &pb.AuthUserAddResponse{Header: h}, err
}

func (s *Service) userChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	request := kv.AuthRequest{Action: kv.AuthUserChangePassword, User: r.Name}
	if r.Password != "" { // as in etcd: with an empty one nobody can log in
		var err error
		if request.Hash, err = s.options.Passwords.Hash(ctx, r.Password); err != nil {
			return nil, fmt.Errorf("change a password: %w", err)
		}
	}
	h, _, err := s.askAuth(ctx, request)
	return &pb.AuthUserChangePasswordResponse{Header: h}, err
}

func (s *Service) userGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	h, a, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthUserGet, User: r.Name})
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserGetResponse{Header: h, Roles: a.Names}, nil
}

func (s *Service) userList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	h, a, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthUserList})
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserListResponse{Header: h, Users: a.Names}, nil
}

func (s *Service) userDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthUserDelete, User: r.Name})
	return &pb.AuthUserDeleteResponse{Header: h}, err
}

func (s *Service) userGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthUserGrantRole, User: r.User, Role: r.Role})
	return &pb.AuthUserGrantRoleResponse{Header: h}, err
}

func (s *Service) userRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthUserRevokeRole, User: r.Name, Role: r.Role})
	return &pb.AuthUserRevokeRoleResponse{Header: h}, err
}

func (s *Service) roleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthRoleAdd, Role: r.Name})
	return &pb.AuthRoleAddResponse{Header: h}, err
}

func (s *Service) roleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	h, a, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthRoleGet, Role: r.Role})
	if err != nil {
		return nil, err
	}
	answer := &pb.AuthRoleGetResponse{Header: h}
	for _, p := range a.Permissions {
		answer.Perm = append(answer.Perm, &authpb.Permission{PermType: authpb.Permission_Type(p.Type), Key: p.Span.Start, RangeEnd: p.Span.End})
	}
	return answer, nil
}

func (s *Service) roleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	h, a, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthRoleList})
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleListResponse{Header: h, Roles: a.Names}, nil
}

func (s *Service) roleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthRoleDelete, Role: r.Role})
	return &pb.AuthRoleDeleteResponse{Header: h}, err
}

func (s *Service) roleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	if r.Perm == nil {
		return nil, kv.ErrPermissionNotGiven
	}
	if r.Perm.PermType < authpb.Permission_READ || r.Perm.PermType > authpb.Permission_READWRITE {
		return nil, kv.ErrInvalidAuthMgmt
	}
	permission := kv.Permission{Type: kv.PermissionType(r.Perm.PermType), Span: kv.Span{Start: r.Perm.Key, End: r.Perm.RangeEnd}}
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthRoleGrantPermission, Role: r.Name, Permission: permission})
	return &pb.AuthRoleGrantPermissionResponse{Header: h}, err
}

func (s *Service) roleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	permission := kv.Permission{Span: kv.Span{Start: r.Key, End: r.RangeEnd}}
	h, _, err := s.askAuth(ctx, kv.AuthRequest{Action: kv.AuthRoleRevokePermission, Role: r.Role, Permission: permission})
	return &pb.AuthRoleRevokePermissionResponse{Header: h}, err
}
