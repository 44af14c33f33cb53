package etcd

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// door answers connections that speak HTTP/1.
type door struct {
	notice   string         // for people who came with HTTP/1
	tls      func(net.Addr) // is told of clients that came with TLS; may be nil
	answers  chan struct{}  // holds one for each answer being given
	patience time.Duration  // for one answer
}

// Bounds of what HTTP/1 costs: connections at a time, of which each holds two buffers of 4 KiB; bytes and time of one.
const (
	maxAnswers       = 32
	maxRequestHead   = 16 << 10
	maxRequestIgnore = 1 << 20 // of a body, so that the answer is not lost in a reset of the connection
	answerPatience   = 5 * time.Second
)

func newDoor(metricsURLs []string, wantedTLS func(net.Addr)) *door {
	return &door{notice: httpNotice(metricsURLs), tls: wantedTLS, answers: make(chan struct{}, maxAnswers), patience: answerPatience}
}

// httpNotice says what the port is, and where what was looked for may be.
func httpNotice(metricsURLs []string) string {
	elsewhere := "nowhere on this node: start it with --listen-metrics-urls to have them"
	if len(metricsURLs) > 0 {
		elsewhere = "at " + strings.Join(metricsURLs, ", ")
	}
	return "This is the client port of a Quorate node. Clients speak gRPC here (HTTP/2): etcdctl, quorate, or a client library of etcd's.\n" +
		"/health and /metrics are " + elsewhere + ".\n" +
		"The JSON gateway (/v3/...) is not there.\n"
}

// tlsHandshake is what a client with TLS begins with.
const tlsHandshake = 0x16

// isHTTP1 goes by the method; HTTP/2 begins with "PRI ".
func isHTTP1(first string) bool {
	switch first {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "OPTI", "PATC", "TRAC", "CONN":
		return true
	}
	return false
}

// answer reads the head of a request and gives the notice, whatever was asked. The first bytes have been read.
func (d *door) answer(conn net.Conn, first []byte) {
	if len(first) > 0 && first[0] == tlsHandshake {
		if d.tls != nil {
			d.tls(conn.RemoteAddr())
		}
		conn.SetDeadline(time.Now().Add(d.patience))
		io.WriteString(conn, d.notice) // which is no TLS, as the client finds out
		return
	}
	if !isHTTP1(string(first[:min(len(first), 4)])) {
		return
	}
	select {
	case d.answers <- struct{}{}:
		defer func() { <-d.answers }()
	default:
		return
	}
	conn.SetDeadline(time.Now().Add(d.patience))
	request, err := http.ReadRequest(bufio.NewReader(io.LimitReader(io.MultiReader(bytes.NewReader(first), conn), maxRequestHead)))
	if err != nil {
		request = nil // the notice says more than what is wrong with a request that is refused anyway
	}
	response := http.Response{
		// This status is for a server that does not speak the request's version; its text is to say what it does speak.
		StatusCode: http.StatusHTTPVersionNotSupported, ProtoMajor: 1, ProtoMinor: 1, Request: request, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		ContentLength: int64(len(d.notice)), Body: io.NopCloser(strings.NewReader(d.notice)),
	}
	var text bytes.Buffer
	if response.Write(&text) != nil {
		return
	}
	if _, err := conn.Write(text.Bytes()); err != nil {
		return
	}
	if half, can := conn.(interface{ CloseWrite() error }); can && half.CloseWrite() == nil {
		// A connection that is closed with unread bytes is reset, and the client may not see the answer.
		io.CopyN(io.Discard, conn, maxRequestIgnore)
	}
}
