package h2

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
)

// TestEarlyEnds: a call that is ended early is told the status, but never in the middle of a message.
func TestEarlyEnds(t *testing.T) {
	for name, c := range map[string]struct {
		parts    []Message
		produced bool
		trailers bool
	}{
		"before anything":                      {nil, true, true},
		"before the message is sent":           {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}}, false, true},
		"behind a message":                     {[]Message{{Bytes: []byte("ab")}}, true, true},
		"behind all parts":                     {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}, {Bytes: []byte("c"), Rest: true}}, true, true},
		"while the rest is not there":          {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}}, true, false},
		"while the window is closed":           {[]Message{{Bytes: make([]byte, 100_000)}}, true, false},
		"while the window is closed to a rest": {[]Message{{Bytes: make([]byte, 65_530), WholeBytes: 70_000}, {Bytes: make([]byte, 4_470), Rest: true}}, true, false},
	} {
		s := newShell(t, 1, Options{})
		open(t, s, 1)
		one := s.open[0]
		for _, m := range c.parts {
			s.conn.Send(one, m)
		}
		var out []byte
		if c.produced {
			out = s.conn.Produce(nil, 1<<20)
		}
		s.conn.FinishEarly(one, Status{Code: codeResourceExhausted})
		reader := http2.NewFramer(nil, bytes.NewReader(s.conn.Produce(out, 1<<20)))
		trailers, reset := false, http2.ErrCode(0)
		for frame, err := reader.ReadFrame(); err == nil; frame, err = reader.ReadFrame() {
			switch f := frame.(type) {
			case *http2.HeadersFrame:
				trailers = trailers || f.StreamEnded()
			case *http2.RSTStreamFrame:
				reset = f.ErrCode
			}
		}
		if trailers != c.trailers || !trailers && reset != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("%s: trailers %v, reset %v", name, trailers, reset)
		}
		s.end(t)
	}
}
