package s3

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// fault is what the proxy does to a request.
type fault string

const (
	none      fault = "none"
	error500  fault = "500"
	error503  fault = "503"
	error429  fault = "429"
	reset     fault = "reset"     // before the server has it
	lost      fault = "lost"      // the server does it, and the answer is lost
	truncated fault = "truncated" // the answer breaks off
	stalled   fault = "stalled"   // the server does it, and the answer does not come
	slow      fault = "slow"      // the answer comes in small pieces
)

var faults = []fault{error500, error503, error429, reset, lost, truncated, stalled, slow}

// proxy stands before the server.
type proxy struct {
	*httptest.Server
	forward http.Transport
	server  string

	mutex  sync.Mutex
	choose func(*http.Request) fault // nil: none
	seen   map[fault]int
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	p := &proxy{server: server, seen: make(map[fault]int)}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	t.Cleanup(p.forward.CloseIdleConnections)
	return p
}

// next has the proxy do these to the next requests, and then nothing.
func (p *proxy) next(list ...fault) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.choose = func(*http.Request) fault {
		if len(list) == 0 {
			return none
		}
		first := list[0]
		list = list[1:]
		return first
	}
}

// often has the proxy do something to one of so many requests, each of the faults in turn.
func (p *proxy) often(random *rand.Rand, oneOf int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	turn := 0
	p.choose = func(*http.Request) fault {
		if random.IntN(oneOf) > 0 {
			return none
		}
		turn++
		return faults[turn%len(faults)]
	}
}

func (p *proxy) chosen(request *http.Request) fault {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.choose == nil {
		return none
	}
	f := p.choose(request)
	p.seen[f]++
	return f
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	f := p.chosen(request)
	switch f {
	case error500, error503, error429:
		status := map[fault]int{error500: 500, error503: 503, error429: 429}[f]
		answer.Header().Set("Content-Type", "application/xml")
		answer.WriteHeader(status)
		_, _ = io.WriteString(answer, "<Error><Code>Busy</Code><Message>the proxy says no</Message></Error>")
		return
	case reset:
		hangUp(answer)
		return
	}
	onward := request.Clone(request.Context())
	onward.URL.Scheme, onward.URL.Host, onward.RequestURI = "http", p.server, ""
	got, err := p.forward.RoundTrip(onward) // with the host of the request, which is signed
	if err != nil {
		hangUp(answer)
		return
	}
	defer got.Body.Close()
	switch f {
	case lost:
		hangUp(answer)
	case stalled:
		<-request.Context().Done()
	default:
		relay(answer, got, f)
	}
}

// relay gives the server's answer on.
func relay(answer http.ResponseWriter, got *http.Response, f fault) {
	for name, values := range got.Header {
		answer.Header()[name] = values
	}
	answer.WriteHeader(got.StatusCode)
	switch f {
	case truncated:
		_, _ = io.CopyN(answer, got.Body, got.ContentLength/2)
		answer.(http.Flusher).Flush()
		hangUp(answer)
	case slow:
		for range 5 {
			if _, err := io.CopyN(answer, got.Body, 1+got.ContentLength/4); err != nil {
				return
			}
			answer.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond) // what is slow about it
		}
	default:
		_, _ = io.Copy(answer, got.Body)
	}
}

// hangUp ends the connection with a reset.
func hangUp(answer http.ResponseWriter) {
	connection, _, err := http.NewResponseController(answer).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = connection.Close()
}
