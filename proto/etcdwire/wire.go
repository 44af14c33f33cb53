package etcdwire

import (
	"encoding/binary"
	"math/bits"
)

// Wire types of https://protobuf.dev/programming-guides/encoding.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wireGroup  = 3
	wireEnd    = 4
	wire32     = 5
)

// Unknown is what an enum becomes whose number package kv's types cannot hold.
const Unknown = 255

const (
	maxFieldNumber = 1<<29 - 1
	// maxGroupDepth is how deeply unknown groups may nest, as in protobuf's Go implementation.
	maxGroupDepth = 10000
)

// cursor reads one message. A read past its end or of nonsense sets bad, which
// ends every loop; the values read afterwards mean nothing.
type cursor struct {
	b    []byte
	at   int
	last uint64 // the tag read last, for skip
	bad  bool
}

func (c *cursor) more() bool { return c.at < len(c.b) && !c.bad }

func (c *cursor) fail() { c.bad = true }

// result is the verdict at the end of a message.
func (c *cursor) result() error {
	if c.bad {
		return ErrMalformed
	}
	return nil
}

// tag returns the next field's number and wire type in one: number<<3 | type.
func (c *cursor) tag() uint64 {
	tag := c.varint()
	if n := tag >> 3; n == 0 || n > maxFieldNumber {
		c.fail()
	}
	c.last = tag
	return tag
}

func (c *cursor) varint() uint64 {
	if c.at < len(c.b) && c.b[c.at] < 0x80 {
		c.at++
		return uint64(c.b[c.at-1])
	}
	return c.longVarint()
}

func (c *cursor) longVarint() uint64 {
	v, n := binary.Uvarint(c.b[c.at:])
	if n <= 0 {
		c.fail()
		return 0
	}
	c.at += n
	return v
}

func (c *cursor) int64() int64 { return int64(c.varint()) }

func (c *cursor) bool() bool { return c.varint() != 0 }

// enum truncates to 32 bits as protobuf does and maps what does not fit to Unknown.
func (c *cursor) enum() uint8 {
	v := int32(c.varint())
	if v < 0 || v > Unknown {
		return Unknown
	}
	return uint8(v)
}

// bytes returns the next length-prefixed field; nil when it is empty, so that it pins nothing.
func (c *cursor) bytes() []byte {
	n := c.varint()
	if c.bad || n > uint64(len(c.b)-c.at) {
		c.fail()
		return nil
	}
	from := c.at
	c.at += int(n)
	if n == 0 {
		return nil
	}
	return c.b[from:c.at:c.at]
}

// utf8 returns the next string field.
func (c *cursor) utf8() string {
	b := c.bytes()
	if !validString(b) {
		c.fail()
	}
	return string(b)
}

// skip passes over the value of the field whose tag was read last.
func (c *cursor) skip() {
	if !c.bad {
		c.skipValue(c.last, maxGroupDepth)
	}
}

func (c *cursor) skipValue(tag uint64, depth int) {
	switch tag & 7 {
	case wireVarint:
		c.varint()
	case wire64:
		c.skipBytes(8)
	case wireBytes:
		c.bytes()
	case wireGroup:
		c.skipGroup(tag>>3, depth)
	case wire32:
		c.skipBytes(4)
	default: // the end of a group that never began, or a type that does not exist
		c.fail()
	}
}

func (c *cursor) skipBytes(n int) {
	if n > len(c.b)-c.at {
		c.fail()
		return
	}
	c.at += n
}

func (c *cursor) skipGroup(number uint64, depth int) {
	if depth <= 0 {
		c.fail()
		return
	}
	for !c.bad {
		tag := c.varint()
		if n := tag >> 3; c.bad || n == 0 || n > maxFieldNumber {
			c.fail()
			return
		}
		if tag&7 == wireEnd {
			if tag>>3 != number {
				c.fail()
			}
			return
		}
		c.skipValue(tag, depth-1)
	}
}

// countFields returns how often the fields with the given tags occur in the rest of the message, so
// that slices can be made in one piece.
func (c cursor) countFields(a, b, d uint64) (na, nb, nd int) {
	for c.more() {
		switch c.tag() {
		case a:
			na++
		case b:
			nb++
		case d:
			nd++
		}
		c.skip()
	}
	return na, nb, nd
}

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// Sizes of whole fields with a one-byte tag; zero values are left out.

func intSize(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + varintSize(uint64(v))
}

func boolSize(v bool) int {
	if v {
		return 2
	}
	return 0
}

func bytesSize(n int) int {
	if n == 0 {
		return 0
	}
	return messageSize(n)
}

// messageSize is the size of a field that is written even when it is empty.
func messageSize(n int) int { return 1 + varintSize(uint64(n)) + n }

func appendInt(dst []byte, number byte, v int64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, number<<3|wireVarint), uint64(v))
}

func appendBool(dst []byte, number byte, v bool) []byte {
	if !v {
		return dst
	}
	return append(dst, number<<3|wireVarint, 1)
}

func appendBytes[B []byte | string](dst []byte, number byte, v B) []byte {
	if len(v) == 0 {
		return dst
	}
	return append(appendHead(dst, number, len(v)), v...)
}

// appendHead begins a field of n bytes.
func appendHead(dst []byte, number byte, n int) []byte {
	return binary.AppendUvarint(append(dst, number<<3|wireBytes), uint64(n))
}
