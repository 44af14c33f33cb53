package etcdwire

import "errors"

var (
	// ErrMalformed: the bytes are not a message of the expected type.
	ErrMalformed = errors.New("malformed protobuf message")
	// ErrTooDeep: transactions are nested deeper than Limits allow.
	ErrTooDeep = errors.New("transactions are nested too deeply")
	// ErrUnknownKind: the sender used a kind of request or response that this version does not know.
	ErrUnknownKind = errors.New("unknown kind of message from another node; is it a newer version?")
)
