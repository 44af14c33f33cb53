package auth

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Evaluate says what a request does: its answer, and the change if there is one. Its refusals, and their order, are etcd's. Whether whoever asks may do it,
// Rights.Decide says.
func (s *State) Evaluate(r *kv.AuthRequest) (*kv.AuthResponse, *Change, error) {
	if r.Action.ReadsOnly() {
		resp, err := s.Read(r)
		return resp, nil, err
	}
	c, err := s.change(r)
	if err != nil {
		return nil, nil, err
	}
	if c != nil {
		if after := s.Apply(c); after.sizeBytes > MaxStateBytes && after.sizeBytes > s.sizeBytes {
			return nil, nil, kv.BeyondLimit("users and roles", kv.ErrRequestTooLarge)
		}
	}
	return &kv.AuthResponse{}, c, nil
}

// Read answers a request that changes nothing.
func (s *State) Read(r *kv.AuthRequest) (*kv.AuthResponse, error) {
	resp := &kv.AuthResponse{}
	switch r.Action {
	case kv.AuthStatus:
		resp.Enabled, resp.Revision = s.Enabled, s.Revision
	case kv.AuthUserGet:
		u := s.User(r.User)
		if u == nil {
			return nil, kv.ErrUserNotFound
		}
		resp.Names = slices.Clone(u.Roles)
	case kv.AuthUserList:
		resp.Names = s.users.Keys()
	case kv.AuthRoleGet:
		role := s.role(r.Role)
		switch {
		case role == nil:
			return nil, kv.ErrRoleNotFound
		case role.Name == Root:
			resp.Permissions = []kv.Permission{{Type: kv.PermitReadWrite, Span: kv.Span{End: []byte{0}}}} // as etcd says it
		default:
			resp.Permissions = slices.Clone(role.Permissions)
		}
	case kv.AuthRoleList:
		resp.Names = s.roles.Keys()
	default:
		return nil, fmt.Errorf("auth action %d is not a read: %w", r.Action, kv.ErrInvalidRequest)
	}
	return resp, nil
}

// next is a change that has yet to change something.
func (s *State) next() *Change {
	return &Change{Version: s.Version + 1, Revision: s.Revision + 1, Enabled: s.Enabled, Secret: s.Secret}
}

// change returns the change that a request makes; nil: it asks for what is already so.
func (s *State) change(r *kv.AuthRequest) (*Change, error) {
	switch r.Action {
	case kv.AuthEnable:
		return s.enable(r)
	case kv.AuthDisable:
		if !s.Enabled {
			return nil, nil
		}
		c := s.next()
		c.Enabled, c.Secret = false, nil
		return c, nil
	case kv.AuthUserAdd, kv.AuthUserDelete, kv.AuthUserChangePassword, kv.AuthUserGrantRole, kv.AuthUserRevokeRole:
		return s.changeUser(r)
	case kv.AuthRoleAdd, kv.AuthRoleDelete, kv.AuthRoleGrantPermission, kv.AuthRoleRevokePermission:
		return s.changeRole(r)
	}
	return nil, fmt.Errorf("unknown auth action %d: %w", r.Action, kv.ErrInvalidRequest)
}

func (s *State) enable(r *kv.AuthRequest) (*Change, error) {
	root := s.User(Root)
	switch {
	case s.Enabled:
		return nil, nil
	case root == nil:
		return nil, kv.ErrRootUserNotExist
	case !root.has(Root):
		return nil, kv.ErrRootRoleNotExist
	case len(r.Secret) < kv.MinAuthSecret:
		return nil, fmt.Errorf("enable authentication: a secret of %d bytes, want %d: %w", len(r.Secret), kv.MinAuthSecret, kv.ErrInvalidRequest)
	}
	c := s.next()
	c.Revision = s.Revision
	c.Enabled, c.Secret = true, r.Secret
	return c, nil
}

func (s *State) changeUser(r *kv.AuthRequest) (*Change, error) {
	c, u := s.next(), s.User(r.User)
	if r.Action == kv.AuthUserAdd {
		switch {
		case r.User == "":
			return nil, kv.ErrUserEmpty
		case u != nil:
			return nil, kv.ErrUserAlreadyExist
		}
		added := User{Name: r.User, NoPassword: r.NoPassword, Account: c.Version}
		if !r.NoPassword {
			added.Hash = r.Hash
		}
		c.Users = []User{added}
		return c, nil
	}
	ofRoot := s.Enabled && r.User == Root
	switch {
	case ofRoot && (r.Action == kv.AuthUserDelete || r.Action == kv.AuthUserRevokeRole && r.Role == Root):
		return nil, kv.ErrInvalidAuthMgmt
	case u == nil:
		return nil, kv.ErrUserNotFound
	}
	switch r.Action {
	case kv.AuthUserDelete:
		c.LostUsers = []string{r.User}
	case kv.AuthUserChangePassword:
		changed := *u
		changed.Account = c.Version
		if !u.NoPassword {
			changed.Hash = r.Hash
		}
		c.Users = []User{changed}
	case kv.AuthUserGrantRole:
		if r.Role != Root && s.role(r.Role) == nil {
			return nil, kv.ErrRoleNotFound
		}
		at, granted := slices.BinarySearch(u.Roles, r.Role)
		if granted {
			return nil, nil
		}
		c.Users = []User{u.with(slices.Insert(slices.Clone(u.Roles), at, r.Role))}
	case kv.AuthUserRevokeRole:
		if !u.has(r.Role) {
			return nil, kv.ErrRoleNotGranted
		}
		c.Users = []User{u.with(without(u.Roles, r.Role))}
	}
	return c, nil
}

func (s *State) changeRole(r *kv.AuthRequest) (*Change, error) {
	c, role := s.next(), s.role(r.Role)
	switch {
	case r.Action == kv.AuthRoleAdd && r.Role == "":
		return nil, kv.ErrRoleEmpty
	case r.Action == kv.AuthRoleAdd && role != nil:
		return nil, kv.ErrRoleAlreadyExist
	case r.Action == kv.AuthRoleAdd:
		c.Roles = []Role{{Name: r.Role}}
		return c, nil
	case r.Action == kv.AuthRoleDelete && s.Enabled && r.Role == Root:
		return nil, kv.ErrInvalidAuthMgmt
	case r.Action == kv.AuthRoleGrantPermission && !grantable(r.Permission):
		return nil, kv.ErrInvalidAuthMgmt
	case role == nil:
		return nil, kv.ErrRoleNotFound
	}
	switch r.Action {
	case kv.AuthRoleDelete:
		c.LostRoles = []string{r.Role}
		s.users.Scan(func(_ string, u *User) bool {
			if u.has(r.Role) {
				c.Users = append(c.Users, u.with(without(u.Roles, r.Role)))
			}
			return true
		})
	case kv.AuthRoleGrantPermission:
		at, found := role.find(r.Permission.Span)
		permissions := slices.Clone(role.Permissions)
		if found {
			permissions[at].Type = r.Permission.Type
		} else {
			permissions = slices.Insert(permissions, at, r.Permission)
		}
		c.Roles = []Role{{Name: role.Name, Permissions: permissions}}
	case kv.AuthRoleRevokePermission:
		at, found := role.find(r.Permission.Span)
		if !found {
			return nil, kv.ErrPermissionNotGranted
		}
		c.Roles = []Role{{Name: role.Name, Permissions: slices.Delete(slices.Clone(role.Permissions), at, at+1)}}
	}
	return c, nil
}

// grantable tells whether a permission says anything.
func grantable(p kv.Permission) bool {
	return p.Type <= kv.PermitReadWrite && len(p.Span.Start) > 0 && (len(p.Span.End) == 0 || bytes.Equal(p.Span.End, []byte{0}) || bytes.Compare(p.Span.Start, p.Span.End) < 0)
}
