package etcdwire

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"github.com/quoratedb/quorate/kv"
)

func validString(b []byte) bool { return utf8.Valid(b) }

// AppendRequest writes the node-to-node form of a request:
//
//	kind (1 byte), length of the principal (uvarint), principal, etcd's request message
//
// If the cluster ever had users, judgedMark and kv.Request.AuthVersion (uvarint) come before the principal, as a part of it.
func AppendRequest(dst []byte, r *kv.Request) []byte {
	dst = append(dst, byte(r.Kind))
	if r.AuthVersion != 0 {
		dst = binary.AppendUvarint(dst, uint64(1+varintSize(r.AuthVersion)+len(r.Principal)))
		dst = binary.AppendUvarint(append(dst, judgedMark), r.AuthVersion)
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(r.Principal)))
	}
	dst = append(dst, r.Principal...)
	return AppendBody(dst, r)
}

// judgedMark is in no principal, for those are UTF-8.
const judgedMark = 0xff

// DecodeRequest reads what AppendRequest wrote; all of in belongs to it. Keys and
// values alias in.
func DecodeRequest(in []byte, limits Limits) (*kv.Request, error) {
	if len(in) == 0 {
		return nil, ErrMalformed
	}
	c := cursor{b: in, at: 1}
	principal := c.bytes()
	if c.bad {
		return nil, ErrMalformed
	}
	r, err := DecodeBody(kv.Kind(in[0]), in[c.at:], limits)
	if err != nil {
		return nil, err
	}
	if len(principal) > 0 && principal[0] == judgedMark {
		version, n := binary.Uvarint(principal[1:])
		if n <= 0 {
			return nil, ErrMalformed
		}
		r.AuthVersion, principal = version, principal[1+n:]
	}
	r.Principal = string(principal)
	return r, nil
}

// AppendResponse writes the node-to-node form of a response:
//
//	kind (1 byte), etcd's response message with nothing but the revision in its header
func AppendResponse(dst []byte, r *kv.Response) []byte {
	return AppendAnswer(append(dst, byte(r.Kind)), Header{}, r)
}

// ResponseSize is the number of bytes AppendResponse writes.
func ResponseSize(r *kv.Response) int { return 1 + AnswerSize(Header{}, r) }

// DecodeResponse reads what AppendResponse wrote; all of in belongs to it. Keys and values alias in.
func DecodeResponse(in []byte) (*kv.Response, error) {
	if len(in) == 0 {
		return nil, ErrMalformed
	}
	r, err := DecodeAnswer(kv.Kind(in[0]), in[1:])
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Hints are facts that help whoever gets an error to act on it. Zero means "not known".
type Hints struct {
	Compacted kv.Revision // the compacted revision, with kv.ErrCompacted
	Leader    kv.NodeID   // who leads now, with kv.ErrNotLeader
}

// AppendError writes the node-to-node form of an error:
//
//	code of the kv sentinel (1 byte, 0: none), compacted revision, leader (uvarints), message
func AppendError(dst []byte, err error, hints Hints) []byte {
	dst = append(dst, byte(kv.CodeOf(err)))
	dst = binary.AppendUvarint(dst, uint64(hints.Compacted))
	dst = binary.AppendUvarint(dst, uint64(hints.Leader))
	return append(dst, err.Error()...)
}

// DecodeError reads what AppendError wrote: an error with the same message, for which
// errors.Is holds with the same sentinel, if this version knows it. bad says that in is no error at all.
func DecodeError(in []byte) (remote error, hints Hints, bad error) {
	if len(in) == 0 {
		return nil, Hints{}, ErrMalformed
	}
	c := cursor{b: in, at: 1}
	hints.Compacted = kv.Revision(c.int64())
	hints.Leader = kv.NodeID(c.varint())
	if c.bad {
		return nil, Hints{}, ErrMalformed
	}
	message := string(in[c.at:])
	sentinel := kv.ErrorOf(kv.Code(in[0]))
	switch {
	case sentinel == nil:
		return errors.New(message), hints, nil
	case sentinel.Error() == message:
		return sentinel, hints, nil
	default:
		return &remoteError{sentinel, message}, hints, nil
	}
}

// remoteError is an error of another node.
type remoteError struct {
	sentinel *kv.Error
	message  string
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.sentinel }
