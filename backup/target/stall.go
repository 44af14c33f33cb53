package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// stallBytes must move, in both directions together, within a stall time-out.
const stallBytes = 64 << 10

var errStalled = errors.New("nothing, or very little, came or went for too long")

// impatient ends requests that do not get on. Time-outs of whole requests would end large objects on slow networks.
type impatient struct {
	next    http.RoundTripper
	timeout time.Duration
}

// RoundTrip implements http.RoundTripper.
func (i impatient) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	w := &watchdog{ctx: ctx, cancel: cancel, timeout: i.timeout}
	w.timer = time.AfterFunc(i.timeout, func() { cancel(fmt.Errorf("%w (%s)", errStalled, i.timeout)) })
	request = request.WithContext(ctx)
	if request.Body != nil && request.Body != http.NoBody {
		request.Body = &watched{request.Body, w, false}
	}
	response, err := i.next.RoundTrip(request)
	if err != nil {
		defer w.end()
		return nil, w.reason(err)
	}
	w.timer.Reset(w.timeout)
	response.Body = &watched{response.Body, w, true}
	return response, nil
}

// watchdog ends a request whose timer was not set anew in time.
type watchdog struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	timeout time.Duration
	moved   atomic.Int64 // since the timer was set
}

func (w *watchdog) move(n int) {
	if w.moved.Add(int64(n)) >= stallBytes {
		w.moved.Store(0)
		w.timer.Reset(w.timeout)
	}
}

func (w *watchdog) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// reason is the error that ended a request: the watchdog's if it was the watchdog.
func (w *watchdog) reason(err error) error {
	if cause := context.Cause(w.ctx); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// watched is a body whose bytes are seen by a watchdog. The request ends with the body of its answer.
type watched struct {
	io.ReadCloser
	watchdog *watchdog
	last     bool
}

// Read implements io.Reader.
func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.watchdog.move(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.watchdog.reason(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watched) Close() error {
	err := b.ReadCloser.Close()
	if b.last {
		b.watchdog.end()
	}
	return err
}
