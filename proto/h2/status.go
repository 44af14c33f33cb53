package h2

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Status is how a call ended: the fields of google.rpc.Status.
type Status struct {
	Code    uint32 // of gRPC; 0: well
	Message string
	Details []byte // the whole status as protobuf, if it has more than code and message
}

// Codes of gRPC that this package answers with itself.
const (
	codeDeadlineExceeded  = 4
	codeResourceExhausted = 8
	codeUnimplemented     = 12
	codeInternal          = 13
)

// tooManyRequests is what etcd says when it is overloaded, and what clients know.
var tooManyRequests = Status{Code: codeResourceExhausted, Message: "etcdserver: too many requests"}

func (s *Status) fields() []field {
	all := []field{{"grpc-status", strconv.FormatUint(uint64(s.Code), 10)}}
	if s.Code != 0 || s.Message != "" {
		all = append(all, field{"grpc-message", percentEncoded(s.Message)})
	}
	if len(s.Details) > 0 {
		all = append(all, field{"grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(s.Details)})
	}
	return all
}

func plain(b byte) bool { return b >= ' ' && b <= '~' && b != '%' }

// percentEncoded is how gRPC puts a text into a header. What is not UTF-8 is replaced.
func percentEncoded(text string) string {
	ok := true
	for i := range len(text) {
		ok = ok && plain(text[i])
	}
	if ok {
		return text
	}
	var b strings.Builder
	for _, r := range text { // U+FFFD for what is no UTF-8
		var encoded [utf8.UTFMax]byte
		for _, one := range encoded[:utf8.EncodeRune(encoded[:], r)] {
			if plain(one) {
				b.WriteByte(one)
			} else {
				fmt.Fprintf(&b, "%%%02X", one)
			}
		}
	}
	return b.String()
}
