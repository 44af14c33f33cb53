// Package packed reads fields off bytes that nobody has checked, and appends what it reads: bytes, numbers as uvarints, and strings behind their lengths.
// What has few kinds of messages or rows decodes them with it; see members.Decode.
package packed

import "encoding/binary"

// Reader takes fields off the front of bytes. Once one cannot be read, it has failed: nothing is left, and all that comes reads as zero. So a decoder reads
// everything first, and asks once, by Done. The zero Reader has no bytes.
type Reader struct {
	rest   []byte
	failed bool
}

// NewReader reads in.
func NewReader(in []byte) Reader { return Reader{rest: in} }

// Fail is called for a field that can be read and cannot be true.
func (r *Reader) Fail() { r.failed, r.rest = true, nil }

// Failed tells whether anything could not be read, or Fail was called.
func (r *Reader) Failed() bool { return r.failed }

// More tells whether there are bytes left.
func (r *Reader) More() bool { return len(r.rest) > 0 }

// Done tells whether all was read, and nothing is left.
func (r *Reader) Done() bool { return !r.failed && len(r.rest) == 0 }

// Byte takes one byte.
func (r *Reader) Byte() byte {
	if len(r.rest) == 0 {
		r.Fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

// Bool takes a byte that is 0 or 1.
func (r *Reader) Bool() bool {
	b := r.Byte()
	if b > 1 {
		r.Fail()
	}
	return b == 1
}

// Uvarint takes a number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// UpTo takes a number that is at most limit.
func (r *Reader) UpTo(limit uint64) uint64 {
	v := r.Uvarint()
	if v > limit {
		r.Fail()
		return 0
	}
	return v
}

// Fixed64 takes eight bytes, the lowest first.
func (r *Reader) Fixed64() uint64 {
	if len(r.rest) < 8 {
		r.Fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

// Count takes how many things come, each of which takes a byte at least: no more than there are bytes.
func (r *Reader) Count() int {
	n := r.Uvarint()
	if n > uint64(len(r.rest)) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Bytes takes a string of bytes, which is a part of those that are read. It is nil if there are none.
func (r *Reader) Bytes() []byte {
	n := r.Count()
	if n == 0 {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// String takes a string.
func (r *Reader) String() string { return string(r.Bytes()) }

// Strings takes how many strings come, and those.
func (r *Reader) Strings() (all []string) {
	for range r.Count() {
		all = append(all, r.String())
	}
	return all
}

// AppendBool is the inverse of Reader.Bool.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendString is the inverse of Reader.Bytes and Reader.String.
func AppendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendStrings is the inverse of Reader.Strings.
func AppendStrings(dst []byte, all []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(all)))
	for _, s := range all {
		dst = AppendString(dst, s)
	}
	return dst
}
