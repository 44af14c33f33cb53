package kv

// AuthAction is what an AuthRequest asks for. The numbers are part of the protocol between nodes: add at the end, never renumber.
type AuthAction uint8

// Actions on users, roles, and authentication itself.
const (
	_ AuthAction = iota
	AuthEnable
	AuthDisable
	AuthStatus
	AuthUserAdd
	AuthUserDelete
	AuthUserChangePassword
	AuthUserGrantRole
	AuthUserRevokeRole
	AuthUserGet
	AuthUserList
	AuthRoleAdd
	AuthRoleDelete
	AuthRoleGrantPermission
	AuthRoleRevokePermission
	AuthRoleGet
	AuthRoleList
)

// ReadsOnly tells whether the action changes nothing.
func (a AuthAction) ReadsOnly() bool {
	switch a {
	case AuthStatus, AuthUserGet, AuthUserList, AuthRoleGet, AuthRoleList:
		return true
	}
	return false
}

// PermissionType is what a permission allows. Numbers as in etcd's protocol.
type PermissionType uint8

// Types of permissions.
const (
	PermitRead PermissionType = iota
	PermitWrite
	PermitReadWrite
)

// Permission allows something with the keys of a span.
type Permission struct {
	Type PermissionType
	Span Span
}

// AuthRequest is about users, roles, and authentication itself. Which fields count depends on the action.
type AuthRequest struct {
	Action     AuthAction
	User, Role string
	// Hash is the bcrypt hash of a password: of AuthUserAdd, unless the user gets NoPassword, and of AuthUserChangePassword.
	Hash       []byte
	NoPassword bool       // of AuthUserAdd: the user shows a certificate, and never a password
	Permission Permission // of AuthRoleGrantPermission, and its span of AuthRoleRevokePermission
	// Secret is what simple tokens are sealed with from AuthEnable on: MinAuthSecret random bytes or more.
	Secret []byte
}

// MinAuthSecret is how many bytes AuthRequest.Secret has at least.
const MinAuthSecret = 32

// AuthResponse is the answer to an AuthRequest. Each action that reads sets those fields that it is about.
type AuthResponse struct {
	Enabled     bool
	Revision    uint64   // etcd's auth revision
	Names       []string // roles of a user, or all users, or all roles; in order
	Permissions []Permission
}

// Credential says how a Request's Principal was proved, as far as it may become void. It stays on the node that the client is connected to.
type Credential struct {
	// Account is the State.Version of package auth at which the password was set that was shown; 0: no password was.
	Account uint64
	// Revision is the auth revision that a token is for; 0: it names none.
	Revision uint64
}

// Unjudged is the Request.AuthVersion of what no client asks for: nodes do not refuse each other.
const Unjudged = ^uint64(0)

// UserRow is a part of the state of users and roles, as package auth writes and reads it: the rows of a state are all of it.
type UserRow struct {
	Class byte
	Name  string
	Row   []byte
}
