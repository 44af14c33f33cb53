package etcdsnap

import (
	"bytes"
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

// User is one of etcd's users. Hash is of its password, by bcrypt.
type User struct {
	Name       string
	Hash       []byte
	NoPassword bool
	Roles      []string
}

// Role is one of etcd's roles.
type Role struct {
	Name        string
	Permissions []kv.Permission
}

// The fields of authpb's messages.
const (
	fieldUserName     protowire.Number = 1
	fieldUserPassword protowire.Number = 2
	fieldUserRoles    protowire.Number = 3
	fieldUserOptions  protowire.Number = 4

	fieldNoPassword protowire.Number = 1

	fieldRoleName       protowire.Number = 1
	fieldRolePermission protowire.Number = 2

	fieldPermissionType protowire.Number = 1
	fieldPermissionKey  protowire.Number = 2
	fieldPermissionEnd  protowire.Number = 3
)

// EachUser gives all users to fn.
func (r *Reader) EachUser(fn func(User)) error {
	return r.each(bucketUsers, func(key, value []byte) error {
		u, err := parseUser(value)
		if err != nil || u.Name != string(key) {
			return damagedf("the user %q makes no sense", key)
		}
		fn(u)
		return nil
	})
}

// EachRole gives all roles to fn.
func (r *Reader) EachRole(fn func(Role)) error {
	return r.each(bucketRoles, func(key, value []byte) error {
		role, err := parseRole(value)
		if err != nil || role.Name != string(key) {
			return damagedf("the role %q makes no sense", key)
		}
		fn(role)
		return nil
	})
}

func parseUser(row []byte) (u User, err error) {
	var options []byte
	err = eachField(row, func(field protowire.Number, _ int64, text []byte) {
		switch field {
		case fieldUserName:
			u.Name = string(text)
		case fieldUserPassword:
			u.Hash = bytes.Clone(text)
		case fieldUserRoles:
			u.Roles = append(u.Roles, string(text))
		case fieldUserOptions:
			options = text
		}
	})
	if err != nil {
		return u, err
	}
	return u, eachField(options, func(field protowire.Number, number int64, _ []byte) {
		if field == fieldNoPassword {
			u.NoPassword = number != 0
		}
	})
}

func parseRole(row []byte) (r Role, err error) {
	var permissions [][]byte
	err = eachField(row, func(field protowire.Number, _ int64, text []byte) {
		switch field {
		case fieldRoleName:
			r.Name = string(text)
		case fieldRolePermission:
			permissions = append(permissions, text)
		}
	})
	for _, message := range permissions {
		if err != nil {
			return r, err
		}
		kind, p := int64(0), kv.Permission{}
		err = eachField(message, func(field protowire.Number, number int64, text []byte) {
			switch field {
			case fieldPermissionType:
				kind = number
			case fieldPermissionKey:
				p.Span.Start = bytes.Clone(text)
			case fieldPermissionEnd:
				p.Span.End = bytes.Clone(text)
			}
		})
		if kind < 0 || kind > int64(kv.PermitReadWrite) {
			err = errMalformed
		}
		p.Type = kv.PermissionType(kind)
		r.Permissions = append(r.Permissions, p)
	}
	return r, err
}

// PutUser adds a user.
func (w *Writer) PutUser(u User) error {
	row := appendText(appendText(nil, fieldUserName, []byte(u.Name)), fieldUserPassword, u.Hash)
	for _, role := range u.Roles {
		row = protowire.AppendString(protowire.AppendTag(row, fieldUserRoles, protowire.BytesType), role)
	}
	var options []byte
	if u.NoPassword {
		options = appendNumber(nil, fieldNoPassword, 1)
	}
	row = protowire.AppendBytes(protowire.AppendTag(row, fieldUserOptions, protowire.BytesType), options) // there always is one
	return w.put(bucketUsers, []byte(u.Name), row)
}

// PutRole adds a role.
func (w *Writer) PutRole(r Role) error {
	row := appendText(nil, fieldRoleName, []byte(r.Name))
	for _, p := range r.Permissions {
		message := appendNumber(nil, fieldPermissionType, int64(p.Type))
		message = appendText(appendText(message, fieldPermissionKey, p.Span.Start), fieldPermissionEnd, p.Span.End)
		row = protowire.AppendBytes(protowire.AppendTag(row, fieldRolePermission, protowire.BytesType), message)
	}
	return w.put(bucketRoles, []byte(r.Name), row)
}

// PutAuth says whether users have to log in, and what etcd's auth revision is.
func (w *Writer) PutAuth(enabled bool, revision uint64) error {
	on := []byte{0}
	if enabled {
		on = []byte{1}
	}
	if err := w.put(bucketAuth, []byte(rowAuthEnabled), on); err != nil {
		return err
	}
	return w.put(bucketAuth, []byte(rowAuthRevision), binary.BigEndian.AppendUint64(nil, revision))
}
