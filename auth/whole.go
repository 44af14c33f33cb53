package auth

import (
	"cmp"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// A new cluster may get users and roles from elsewhere: from a backup, or from etcd.

// Rows are the whole state, in a certain order; none of one that was never changed. Of the rows nothing else is to be kept: FromRows makes a state of them.
func (s *State) Rows() (rows []kv.UserRow) {
	if s.Version == 0 {
		return nil
	}
	s.Whole().Rows(func(class byte, name string, row []byte) {
		rows = append(rows, kv.UserRow{Class: class, Name: name, Row: row})
	}, nil)
	return rows
}

// FromRows is the state that has given the rows. ErrMalformed: they are not of one.
func FromRows(rows []kv.UserRow) (*State, error) {
	s := NewState()
	for _, r := range rows {
		if err := s.Load(r.Class, r.Name, r.Row); err != nil {
			return nil, err
		}
	}
	if s.Version == 0 && len(rows) > 0 || s.Enabled && len(s.Secret) < kv.MinAuthSecret {
		return nil, ErrMalformed
	}
	return s, s.bounded()
}

func (s *State) bounded() error {
	if s.sizeBytes > MaxStateBytes {
		return kv.BeyondLimit("users and roles", kv.ErrRequestTooLarge)
	}
	return nil
}

// Whole is the change that makes the state of that of a new cluster.
func (s *State) Whole() *Change {
	c := &Change{Version: s.Version, Revision: s.Revision, Enabled: s.Enabled, Secret: s.Secret}
	s.users.Scan(func(_ string, u *User) bool { c.Users = append(c.Users, *u); return true })
	s.roles.Scan(func(_ string, r *Role) bool { c.Roles = append(c.Roles, *r); return true })
	return c
}

// Founded is Whole for another cluster. With another secret, what the tokens prove that the first cluster has made is void there.
func (s *State) Founded(secret []byte) *Change {
	c := s.Whole()
	if c.Enabled {
		c.Secret = secret
	}
	return c
}

// Import makes a state of users and roles that etcd has kept, in whatever order, with its auth revision. ignored is how many permissions are left out because
// they permit nothing: etcd passes over them, too. The state has no secret of tokens.
func Import(users []User, roles []Role, revision uint64, enabled bool) (s *State, ignored int, err error) {
	s = NewState()
	s.Revision = max(1, revision)
	s.Version = s.Revision
	slices.SortFunc(users, func(a, b User) int { return cmp.Compare(a.Name, b.Name) })
	for _, u := range users {
		u.Roles = slices.Compact(slices.Sorted(slices.Values(u.Roles)))
		u.Account = 1
		s.putUser(&u)
	}
	for _, r := range roles {
		role := Role{Name: r.Name}
		for _, p := range r.Permissions {
			at, found := role.find(p.Span)
			switch {
			case !grantable(p):
				ignored++
			case found:
				role.Permissions[at] = p
			default:
				role.Permissions = slices.Insert(role.Permissions, at, p)
			}
		}
		s.putRole(&role)
	}
	s.Enabled = enabled
	return s, ignored, s.bounded()
}

// Count is how many users and how many roles there are.
func (s *State) Count() (users, roles int) { return s.users.Len(), s.roles.Len() }
