package auth

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/tidwall/btree"
)

// Root is the name of the user and of the role that may do everything.
const Root = "root"

// User is one who may be granted roles. It is never changed in place.
type User struct {
	Name       string
	Hash       []byte // of the password, by bcrypt
	NoPassword bool
	Roles      []string // in order
	// Account is the version of the state at which the user, or its password, came to be. What was proved by an earlier one is void.
	Account uint64
}

// Role is a set of permissions. It is never changed in place.
type Role struct {
	Name        string
	Permissions []kv.Permission // by span: start, then end
}

// State is all there is to know about users and roles. It is never changed once it is made, and safe for concurrent use.
type State struct {
	// Version counts all changes. Revision is etcd's auth revision, which begins at 1, and does not count AuthEnable.
	Version, Revision uint64
	Enabled           bool
	Secret            []byte // that simple tokens are sealed with since authentication was enabled
	users             *btree.Map[string, *User]
	roles             *btree.Map[string, *Role]
	sizeBytes         int
}

// MaxStateBytes bounds what users, roles and permissions take, about, in memory and on disk.
const MaxStateBytes = 64 << 20

// recordBytes is what a user, a role, a permission, or the grant of a role counts for beside its bytes.
const recordBytes = 64

// NewState is that of a new cluster.
func NewState() *State {
	return &State{Revision: 1, users: new(btree.Map[string, *User]), roles: new(btree.Map[string, *Role])}
}

// User returns the user of the name; nil: there is none.
func (s *State) User(name string) *User { u, _ := s.users.Get(name); return u }

func (s *State) role(name string) *Role { r, _ := s.roles.Get(name); return r }

func (u *User) sizeBytes() int {
	n := recordBytes + len(u.Name) + len(u.Hash)
	for _, r := range u.Roles {
		n += recordBytes + len(r)
	}
	return n
}

func (r *Role) sizeBytes() int {
	n := recordBytes + len(r.Name)
	for i := range r.Permissions {
		n += recordBytes + len(r.Permissions[i].Span.Start) + len(r.Permissions[i].Span.End)
	}
	return n
}

func (u *User) has(role string) bool { _, found := slices.BinarySearch(u.Roles, role); return found }

// with returns the user with other roles.
func (u *User) with(roles []string) User {
	other := *u
	other.Roles = roles
	return other
}

// without returns the roles but for one.
func without(roles []string, role string) []string {
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == role })
}

func compareSpans(a, b kv.Span) int {
	if c := bytes.Compare(a.Start, b.Start); c != 0 {
		return c
	}
	return bytes.Compare(a.End, b.End)
}

// find is where a role has a span, or where it would be.
func (r *Role) find(span kv.Span) (at int, found bool) {
	return slices.BinarySearchFunc(r.Permissions, span, func(p kv.Permission, span kv.Span) int { return compareSpans(p.Span, span) })
}

// Change is what becomes of a State. All of it is absolute: users and roles as they are from now on.
type Change struct {
	Version, Revision    uint64
	Enabled              bool
	Secret               []byte
	Users                []User
	Roles                []Role
	LostUsers, LostRoles []string // which are no more
}

// Apply returns the state after a change. One that is not later than the state is in it already.
func (s *State) Apply(c *Change) *State {
	if c.Version <= s.Version {
		return s
	}
	n := &State{
		Version: c.Version, Revision: c.Revision, Enabled: c.Enabled, Secret: c.Secret,
		users: s.users, roles: s.roles, sizeBytes: s.sizeBytes,
	}
	if len(c.Users)+len(c.LostUsers) > 0 {
		n.users = s.users.Copy()
	}
	if len(c.Roles)+len(c.LostRoles) > 0 {
		n.roles = s.roles.Copy()
	}
	for i := range c.Users {
		n.putUser(&c.Users[i])
	}
	for i := range c.Roles {
		n.putRole(&c.Roles[i])
	}
	for _, name := range c.LostUsers {
		if old, found := n.users.Delete(name); found {
			n.sizeBytes -= old.sizeBytes()
		}
	}
	for _, name := range c.LostRoles {
		if old, found := n.roles.Delete(name); found {
			n.sizeBytes -= old.sizeBytes()
		}
	}
	return n
}

func (s *State) putUser(u *User) {
	if old, found := s.users.Set(u.Name, u); found {
		s.sizeBytes -= old.sizeBytes()
	}
	s.sizeBytes += u.sizeBytes()
}

func (s *State) putRole(r *Role) {
	if old, found := s.roles.Set(r.Name, r); found {
		s.sizeBytes -= old.sizeBytes()
	}
	s.sizeBytes += r.sizeBytes()
}
