package auth

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/packed"
)

// ErrMalformed: bytes that are no change, user, role or state.
var ErrMalformed = errors.New("malformed users or roles")

// changeFormat is that of an encoded change, and of each row.
const changeFormat = 1

// AppendChange writes a change:
//
//	byte    format
//	uvarint version, revision
//	byte    1: authentication is enabled
//	bytes   secret (length first, as all bytes here)
//	uvarint number of users, each: bytes user as in its row
//	uvarint number of roles, each: bytes role as in its row
//	uvarint number of users that are no more, each: bytes name; the same of roles
func AppendChange(dst []byte, c *Change) []byte {
	dst = appendHead(dst, c)
	dst = binary.AppendUvarint(dst, uint64(len(c.Users)))
	for i := range c.Users {
		dst = packed.AppendString(dst, appendUser(nil, &c.Users[i]))
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Roles)))
	for i := range c.Roles {
		dst = packed.AppendString(dst, appendRole(nil, &c.Roles[i]))
	}
	for _, names := range [2][]string{c.LostUsers, c.LostRoles} {
		dst = packed.AppendStrings(dst, names)
	}
	return dst
}

// DecodeChange reads what AppendChange wrote; nothing of it shares the bytes.
func DecodeChange(in []byte) (*Change, error) {
	d := read(in)
	c := &Change{}
	d.head(c)
	for range d.Count() {
		sub := read(d.Bytes())
		c.Users = append(c.Users, sub.user())
		d.adopt(sub)
	}
	for range d.Count() {
		sub := read(d.Bytes())
		c.Roles = append(c.Roles, sub.role())
		d.adopt(sub)
	}
	c.LostUsers, c.LostRoles = d.Strings(), d.Strings()
	return c, d.end()
}

// A state has a row for what is neither user nor role, and one for each of those. What a row is about is in its key: a class, and a name.
const (
	ClassHead byte = 'h'
	ClassUser byte = 'u'
	ClassRole byte = 'r'
)

// Rows gives the rows that a change writes to put, and those that it takes away to drop.
func (c *Change) Rows(put func(class byte, name string, row []byte), drop func(class byte, name string)) {
	put(ClassHead, "", appendHead(nil, c))
	for i := range c.Users {
		put(ClassUser, c.Users[i].Name, appendUser(nil, &c.Users[i]))
	}
	for i := range c.Roles {
		put(ClassRole, c.Roles[i].Name, appendRole(nil, &c.Roles[i]))
	}
	for _, name := range c.LostUsers {
		drop(ClassUser, name)
	}
	for _, name := range c.LostRoles {
		drop(ClassRole, name)
	}
}

// Load puts a row into a state that nobody else has yet. Without any row the state is that of a new cluster.
func (s *State) Load(class byte, name string, row []byte) error {
	d := read(row)
	switch class {
	case ClassHead:
		c := &Change{}
		d.head(c)
		s.Version, s.Revision, s.Enabled, s.Secret = c.Version, c.Revision, c.Enabled, c.Secret
	case ClassUser:
		if u := d.user(); u.Name == name {
			s.putUser(&u)
		} else {
			d.Fail()
		}
	case ClassRole:
		if r := d.role(); r.Name == name {
			s.putRole(&r)
		} else {
			d.Fail()
		}
	default:
		return fmt.Errorf("a row of class %q: %w", class, ErrMalformed)
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("the row of class %c of %q: %w", class, name, err)
	}
	return nil
}

func appendHead(dst []byte, c *Change) []byte {
	dst = append(dst, changeFormat)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, c.Version), c.Revision)
	return packed.AppendString(packed.AppendBool(dst, c.Enabled), c.Secret)
}

func appendUser(dst []byte, u *User) []byte {
	dst = append(dst, changeFormat)
	dst = packed.AppendString(packed.AppendString(dst, u.Name), u.Hash)
	dst = binary.AppendUvarint(packed.AppendBool(dst, u.NoPassword), u.Account)
	return packed.AppendStrings(dst, u.Roles)
}

func appendRole(dst []byte, r *Role) []byte {
	dst = append(dst, changeFormat)
	dst = packed.AppendString(dst, r.Name)
	dst = binary.AppendUvarint(dst, uint64(len(r.Permissions)))
	for i := range r.Permissions {
		p := &r.Permissions[i]
		dst = packed.AppendString(packed.AppendString(append(dst, byte(p.Type)), p.Span.Start), p.Span.End)
	}
	return dst
}

// reader reads what the functions above append.
type reader struct{ packed.Reader }

func read(in []byte) *reader { return &reader{packed.NewReader(in)} }

func (d *reader) format() {
	if d.Byte() != changeFormat {
		d.Fail()
	}
}

// bytes are a copy.
func (d *reader) bytes() []byte { return bytes.Clone(d.Bytes()) }

func (d *reader) head(c *Change) {
	d.format()
	c.Version, c.Revision, c.Enabled, c.Secret = d.Uvarint(), d.Uvarint(), d.Bool(), d.bytes()
	if c.Version == 0 || c.Revision == 0 {
		d.Fail()
	}
}

func (d *reader) user() (u User) {
	d.format()
	u.Name, u.Hash, u.NoPassword, u.Account, u.Roles = d.String(), d.bytes(), d.Bool(), d.Uvarint(), d.Strings()
	for i := 1; i < len(u.Roles); i++ {
		if u.Roles[i-1] >= u.Roles[i] {
			d.Fail()
		}
	}
	return u
}

func (d *reader) role() (r Role) {
	d.format()
	r.Name = d.String()
	for range d.Count() {
		p := kv.Permission{Type: kv.PermissionType(d.Byte()), Span: kv.Span{Start: d.bytes(), End: d.bytes()}}
		if last := len(r.Permissions) - 1; !grantable(p) || last >= 0 && compareSpans(r.Permissions[last].Span, p.Span) >= 0 {
			d.Fail()
			break
		}
		r.Permissions = append(r.Permissions, p)
	}
	return r
}

// adopt takes over that a part was bad, or had something behind it.
func (d *reader) adopt(sub *reader) {
	if sub.end() != nil {
		d.Fail()
	}
}

func (d *reader) end() error {
	if !d.Done() {
		return ErrMalformed
	}
	return nil
}
