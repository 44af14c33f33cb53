package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/kv"
)

// keptUsers are those that the new cluster gets; nil: none.
func keptUsers(users *auth.State, drop bool) *auth.State {
	if drop || users.Version == 0 {
		return nil
	}
	return users
}

// secretOf is what tokens are sealed with in the new cluster: the same on all its nodes, and another one than in any other. It follows from what nobody may
// know: the secret of the first cluster, if there is one, and hashes.
func secretOf(users *auth.State, cluster kv.ClusterID) []byte {
	mac := hmac.New(sha256.New, users.Secret)
	for _, r := range users.Rows() {
		mac.Write(r.Row)
	}
	mac.Write([]byte("tokens of cluster " + cluster.String()))
	return mac.Sum(nil)
}

// notesOfUsers say what becomes of users and roles.
func notesOfUsers(s *auth.State, drop bool) []string {
	users, roles := s.Count()
	switch {
	case users+roles == 0:
		return nil
	case drop:
		return []string{fmt.Sprintf("%d users and %d roles are left out: nobody has to log in, and whoever reaches the nodes may do everything", users, roles)}
	case s.Enabled:
		return []string{fmt.Sprintf("%d users and %d roles; users have to log in, with the passwords that they had", users, roles)}
	}
	return []string{fmt.Sprintf("%d users and %d roles; nobody has to log in, as it was there (quorate auth enable)", users, roles)}
}

// usersOf are the users and roles of a snapshot of etcd's.
func usersOf(source *etcdsnap.Reader) (*auth.State, []string, error) {
	var users []auth.User
	var roles []auth.Role
	err := source.EachUser(func(u etcdsnap.User) {
		users = append(users, auth.User{Name: u.Name, Hash: u.Hash, NoPassword: u.NoPassword, Roles: u.Roles})
	})
	if err == nil {
		err = source.EachRole(func(r etcdsnap.Role) { roles = append(roles, auth.Role{Name: r.Name, Permissions: r.Permissions}) })
	}
	if err != nil || len(users)+len(roles) == 0 && !source.AuthEnabled {
		return auth.NewState(), nil, err
	}
	state, ignored, err := auth.Import(users, roles, source.AuthRevision, source.AuthEnabled)
	if ignored > 0 {
		return state, []string{fmt.Sprintf("%d permissions are left out: they are of no keys, and etcd passes over them", ignored)}, err
	}
	return state, nil, err
}

// putUsers writes users and roles into a snapshot of etcd's, which will ask for them as the store did.
func putUsers(w *etcdsnap.Writer, c *auth.Change) error {
	for _, u := range c.Users {
		if err := w.PutUser(etcdsnap.User{Name: u.Name, Hash: u.Hash, NoPassword: u.NoPassword, Roles: u.Roles}); err != nil {
			return err
		}
	}
	for _, r := range c.Roles {
		if err := w.PutRole(etcdsnap.Role{Name: r.Name, Permissions: r.Permissions}); err != nil {
			return err
		}
	}
	return w.PutAuth(c.Enabled, c.Revision)
}
