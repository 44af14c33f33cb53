package auth

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
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
		dst = appendBytes(dst, appendUser(nil, &c.Users[i]))
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Roles)))
	for i := range c.Roles {
		dst = appendBytes(dst, appendRole(nil, &c.Roles[i]))
	}
	for _, names := range [2][]string{c.LostUsers, c.LostRoles} {
		dst = appendNames(dst, names)
	}
	return dst
}

// DecodeChange reads what AppendChange wrote; nothing of it shares the bytes.
func DecodeChange(in []byte) (*Change, error) {
	d := &reader{in: in}
	c := &Change{}
	d.head(c)
	for range d.count() {
		sub := &reader{in: d.bytes()}
		c.Users = append(c.Users, sub.user())
		d.adopt(sub)
	}
	for range d.count() {
		sub := &reader{in: d.bytes()}
		c.Roles = append(c.Roles, sub.role())
		d.adopt(sub)
	}
	c.LostUsers, c.LostRoles = d.names(), d.names()
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
	d := &reader{in: row}
	switch class {
	case ClassHead:
		c := &Change{}
		d.head(c)
		s.Version, s.Revision, s.Enabled, s.Secret = c.Version, c.Revision, c.Enabled, c.Secret
	case ClassUser:
		if u := d.user(); u.Name == name {
			s.putUser(&u)
		} else {
			d.bad = true
		}
	case ClassRole:
		if r := d.role(); r.Name == name {
			s.putRole(&r)
		} else {
			d.bad = true
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
	return appendBytes(appendBool(dst, c.Enabled), c.Secret)
}

func appendUser(dst []byte, u *User) []byte {
	dst = append(dst, changeFormat)
	dst = appendBytes(appendBytes(dst, []byte(u.Name)), u.Hash)
	dst = binary.AppendUvarint(appendBool(dst, u.NoPassword), u.Account)
	return appendNames(dst, u.Roles)
}

func appendRole(dst []byte, r *Role) []byte {
	dst = append(dst, changeFormat)
	dst = appendBytes(dst, []byte(r.Name))
	dst = binary.AppendUvarint(dst, uint64(len(r.Permissions)))
	for i := range r.Permissions {
		p := &r.Permissions[i]
		dst = appendBytes(appendBytes(append(dst, byte(p.Type)), p.Span.Start), p.Span.End)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendNames(dst []byte, names []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(names)))
	for _, name := range names {
		dst = appendBytes(dst, []byte(name))
	}
	return dst
}

// reader reads; once something is bad all that comes is zero.
type reader struct {
	in  []byte
	bad bool
}

func (d *reader) fail() { d.bad, d.in = true, nil }

func (d *reader) byte() byte {
	if len(d.in) == 0 {
		d.fail()
		return 0
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b
}

func (d *reader) format() {
	if d.byte() != changeFormat {
		d.fail()
	}
}

func (d *reader) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail()
	}
	return b == 1
}

func (d *reader) uvarint() uint64 {
	v, n := binary.Uvarint(d.in)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.in = d.in[n:]
	return v
}

// count reads how many things come, each of which takes a byte at least.
func (d *reader) count() int {
	n := d.uvarint()
	if n > uint64(len(d.in)) {
		d.fail()
		return 0
	}
	return int(n)
}

// bytes returns nil instead of no bytes.
func (d *reader) bytes() []byte {
	n := d.count()
	if n == 0 {
		return nil
	}
	b := append([]byte(nil), d.in[:n]...)
	d.in = d.in[n:]
	return b
}

func (d *reader) names() (names []string) {
	for range d.count() {
		names = append(names, string(d.bytes()))
	}
	return names
}

func (d *reader) head(c *Change) {
	d.format()
	c.Version, c.Revision, c.Enabled, c.Secret = d.uvarint(), d.uvarint(), d.bool(), d.bytes()
	if c.Version == 0 || c.Revision == 0 {
		d.fail()
	}
}

func (d *reader) user() (u User) {
	d.format()
	u.Name, u.Hash, u.NoPassword, u.Account, u.Roles = string(d.bytes()), d.bytes(), d.bool(), d.uvarint(), d.names()
	for i := 1; i < len(u.Roles); i++ {
		if u.Roles[i-1] >= u.Roles[i] {
			d.fail()
		}
	}
	return u
}

func (d *reader) role() (r Role) {
	d.format()
	r.Name = string(d.bytes())
	for range d.count() {
		p := kv.Permission{Type: kv.PermissionType(d.byte()), Span: kv.Span{Start: d.bytes(), End: d.bytes()}}
		if last := len(r.Permissions) - 1; !grantable(p) || last >= 0 && compareSpans(r.Permissions[last].Span, p.Span) >= 0 {
			d.fail()
			break
		}
		r.Permissions = append(r.Permissions, p)
	}
	return r
}

// adopt takes over that a part was bad, or had something behind it.
func (d *reader) adopt(sub *reader) {
	if sub.end() != nil {
		d.fail()
	}
}

func (d *reader) end() error {
	if d.bad || len(d.in) > 0 {
		return ErrMalformed
	}
	return nil
}
