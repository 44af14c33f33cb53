package etcdwire

import "github.com/quoratedb/quorate/kv"

// What nodes tell each other about users and roles. etcd has a message for each of the actions; between nodes there is one for all.

// The fields of an AuthRequest, and of a permission.
const (
	authAction     = 1
	authUser       = 2
	authRole       = 3
	authHash       = 4
	authNoPassword = 5
	authSecret     = 6
	authPermission = 7

	permissionType  = 1
	permissionStart = 2
	permissionEnd   = 3
)

// The fields of an AuthResponse; 1 is the header.
const (
	authedEnabled     = 2
	authedRevision    = 3
	authedNames       = 4
	authedPermissions = 5
)

func appendAuth(dst []byte, r *kv.AuthRequest) []byte {
	dst = appendInt(dst, authAction, int64(r.Action))
	dst = appendBytes(dst, authUser, r.User)
	dst = appendBytes(dst, authRole, r.Role)
	dst = appendBytes(dst, authHash, r.Hash)
	dst = appendBool(dst, authNoPassword, r.NoPassword)
	dst = appendBytes(dst, authSecret, r.Secret)
	return appendBytes(dst, authPermission, appendPermission(nil, &r.Permission))
}

func appendPermission(dst []byte, p *kv.Permission) []byte {
	dst = appendInt(dst, permissionType, int64(p.Type))
	dst = appendBytes(dst, permissionStart, p.Span.Start)
	return appendBytes(dst, permissionEnd, p.Span.End)
}

func decodeAuth(in []byte, out *kv.AuthRequest) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case authAction<<3 | wireVarint:
			out.Action = kv.AuthAction(c.enum())
		case authUser<<3 | wireBytes:
			out.User = c.utf8()
		case authRole<<3 | wireBytes:
			out.Role = c.utf8()
		case authHash<<3 | wireBytes:
			out.Hash = c.bytes()
		case authNoPassword<<3 | wireVarint:
			out.NoPassword = c.bool()
		case authSecret<<3 | wireBytes:
			out.Secret = c.bytes()
		case authPermission<<3 | wireBytes:
			if decodePermission(c.bytes(), &out.Permission) != nil {
				c.fail()
			}
		default:
			c.skip()
		}
	}
	return c.result()
}

func decodePermission(in []byte, out *kv.Permission) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case permissionType<<3 | wireVarint:
			out.Type = kv.PermissionType(c.enum())
		case permissionStart<<3 | wireBytes:
			out.Span.Start = c.bytes()
		case permissionEnd<<3 | wireBytes:
			out.Span.End = c.bytes()
		default:
			c.skip()
		}
	}
	return c.result()
}

func appendAuthResponse(dst []byte, h Header, r *kv.AuthResponse) []byte {
	dst = h.field(dst)
	dst = appendBool(dst, authedEnabled, r.Enabled)
	dst = appendInt(dst, authedRevision, int64(r.Revision))
	for _, name := range r.Names {
		dst = append(appendHead(dst, authedNames, len(name)), name...)
	}
	for i := range r.Permissions {
		p := appendPermission(nil, &r.Permissions[i])
		dst = append(appendHead(dst, authedPermissions, len(p)), p...)
	}
	return dst
}

func decodeAuthResponse(in []byte, rev *kv.Revision, out *kv.AuthResponse) error {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireBytes:
			if err := decodeHeaderRevision(c.bytes(), rev); err != nil {
				return err
			}
		case authedEnabled<<3 | wireVarint:
			out.Enabled = c.bool()
		case authedRevision<<3 | wireVarint:
			out.Revision = c.varint()
		case authedNames<<3 | wireBytes:
			out.Names = append(out.Names, c.utf8())
		case authedPermissions<<3 | wireBytes:
			var p kv.Permission
			if decodePermission(c.bytes(), &p) != nil {
				c.fail()
			}
			out.Permissions = append(out.Permissions, p)
		default:
			c.skip()
		}
	}
	return c.result()
}
