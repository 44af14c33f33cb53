package h2

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// readHeaders takes what is of interest from the headers of a call. refused: it must not begin.
func (s *Stream) readHeaders(f *http2.MetaHeadersFrame) (status Status, refused bool) {
	httpMethod, contentType, encoding := "", "", ""
	for i := range f.Fields {
		name, value := f.Fields[i].Name, f.Fields[i].Value
		switch name {
		case ":path":
			s.method = value
		case ":method":
			httpMethod = value
		case "content-type":
			contentType = value
		case "grpc-encoding":
			encoding = value
		case "grpc-timeout":
			timeout, err := parseTimeout(value)
			if err != nil {
				return Status{Code: codeInternal, Message: fmt.Sprintf("malformed grpc-timeout: %v", err)}, true
			}
			s.timeout = max(timeout, 1)
		default:
			if slices.Contains(s.conn.options.Keep, name) && s.Header(name) == "" {
				s.kept = append(s.kept, field{name, value})
			}
		}
	}
	switch {
	case !isGRPC(contentType):
		return Status{Code: codeInternal, Message: fmt.Sprintf("this port speaks gRPC: the content type of a call is application/grpc, not %q", contentType)}, true
	case httpMethod != "POST":
		return Status{Code: codeInternal, Message: fmt.Sprintf("this port speaks gRPC: the HTTP method of a call is POST, not %q", httpMethod)}, true
	case encoding != "" && encoding != "identity":
		return Status{Code: codeUnimplemented, Message: fmt.Sprintf("grpc: Decompressor is not installed for grpc-encoding %q", encoding)}, true
	}
	return Status{}, false
}

func isGRPC(contentType string) bool {
	const base = "application/grpc"
	if !strings.HasPrefix(strings.ToLower(contentType), base) {
		return false
	}
	rest := contentType[len(base):]
	return rest == "" || rest[0] == '+' || rest[0] == ';'
}

// parseTimeout reads gRPC's form: up to eight digits and a unit.
func parseTimeout(text string) (time.Duration, error) {
	if len(text) < 2 || len(text) > 9 {
		return 0, fmt.Errorf("%q: want one to eight digits and a unit", text)
	}
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}
	unit, known := units[text[len(text)-1]]
	if !known {
		return 0, fmt.Errorf("%q: the unit must be one of H, M, S, m, u, n", text)
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q: want one to eight digits and a unit", text)
	}
	if time.Duration(n) > math.MaxInt64/unit {
		return math.MaxInt64, nil
	}
	return time.Duration(n) * unit, nil
}
