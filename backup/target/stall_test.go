package target

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pieces is a body, or the network that takes one, with pauses between pieces.
type pieces struct {
	ctx   context.Context
	piece int
	left  int
	pause time.Duration
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if err := wait(p.ctx, p.pause); err != nil {
		return 0, context.Canceled // as net/http says it
	}
	n := min(p.piece, len(b), p.left)
	p.left -= n
	return n, nil
}

func (p *pieces) Close() error { return nil }

// network takes a request with pauses, waits, and answers with pauses.
type network struct {
	pause, wait time.Duration
	piece       int
}

func (n network) RoundTrip(request *http.Request) (*http.Response, error) {
	buffer := make([]byte, n.piece)
	for request.Body != nil {
		if wait(request.Context(), n.pause) != nil {
			return nil, context.Canceled
		}
		if _, err := request.Body.Read(buffer); err != nil {
			break
		}
	}
	if wait(request.Context(), n.wait) != nil {
		return nil, context.Canceled
	}
	return &http.Response{Body: &pieces{ctx: request.Context(), piece: n.piece, left: 1 << 20, pause: n.pause}}, nil
}

// TestStalls: a request may take as long as it needs if it gets on, both ways, and is ended when it does not.
func TestStalls(t *testing.T) {
	for name, c := range map[string]struct {
		network network
		stalls  bool
	}{
		"quick":                    {network{0, 0, 1 << 20}, false},
		"slow":                     {network{4 * time.Second, 0, 32 << 10}, false},
		"slow, with small pieces":  {network{time.Second, 0, 8 << 10}, false},
		"too slow":                 {network{11 * time.Second, 0, 1 << 20}, true},
		"too slow in small pieces": {network{3 * time.Second, 0, 16 << 10}, true},
		"a long time to answer":    {network{0, 11 * time.Second, 1 << 20}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := &pieces{ctx: t.Context(), piece: 1 << 20, left: 1 << 20}
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://host", body)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := impatient{c.network, 10 * time.Second}.RoundTrip(request)
				if err == nil {
					_, err = io.ReadFull(answer.Body, make([]byte, 1<<20))
					if closed := answer.Body.Close(); closed != nil {
						t.Error(closed)
					}
				}
				if errors.Is(err, errStalled) != c.stalls || (err != nil) != c.stalls {
					t.Error(err)
				}
				time.Sleep(time.Minute) // nothing is left that wakes up
			})
		})
	}
}
