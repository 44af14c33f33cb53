package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/quoratedb/quorate/kv"
)

// Security is TLS for connections between nodes.
type Security interface {
	// Server is the configuration for what is accepted.
	Server(protocols ...string) *tls.Config
	// Client is that for a connection to a host.
	Client(host string) *tls.Config
	// SpeaksFor tells why the other side may not speak for a node with these hosts.
	SpeaksFor(state tls.ConnectionState, hosts []string) error
}

// maxGreetingBytes is what a caller may send before its handshake is done, with TLS: certificates take a tenth of it.
const maxGreetingBytes = 64 << 10

var errGreetingTooLong = fmt.Errorf("%w: more than %d bytes before the end of the TLS handshake", ErrMalformed, maxGreetingBytes)

// secured is a connection with TLS. Frames and streams have ends of their own, so nothing is lost without TLS's: the end of the connection is one, and
// Close waits for nobody.
type secured struct {
	*tls.Conn
	raw *bounded
}

// bounded is a connection on which so many bytes may come until TLS is established.
type bounded struct {
	net.Conn
	left int // -1: any number. Owned by who reads.
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return b.Conn.Read(p)
	}
	if b.left == 0 {
		return 0, errGreetingTooLong
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// Read implements net.Conn.
func (s *secured) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// Close implements net.Conn.
func (s *secured) Close() error { return s.raw.Close() }

// secure does TLS's handshake on an accepted connection, whose deadline is set. Without TLS the connection is the one to use.
func (t *Transport) secure(conn net.Conn) (net.Conn, error) {
	if t.options.Security == nil {
		return conn, nil
	}
	s := &secured{raw: &bounded{Conn: conn, left: maxGreetingBytes}}
	s.Conn = tls.Server(s.raw, t.options.Security.Server())
	if err := s.Handshake(); err != nil {
		return nil, err
	}
	s.raw.left = -1
	return s, nil
}

// secureTo is secure for a connection that this node dialled.
func (t *Transport) secureTo(conn net.Conn, to kv.NodeID, address string) (net.Conn, error) {
	if t.options.Security == nil {
		return conn, nil
	}
	host, _, _ := net.SplitHostPort(address) // validated
	s := &secured{raw: &bounded{Conn: conn, left: -1}}
	s.Conn = tls.Client(s.raw, t.options.Security.Client(host))
	err := s.Handshake()
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &header) && string(header.RecordHeader[:]) == magic[:len(header.RecordHeader)]:
		return nil, fmt.Errorf("transport: node %s at %s speaks plain text, and this node TLS; either all nodes have https:// in --initial-cluster, or none has", to, address)
	case err != nil:
		return nil, fmt.Errorf("transport: TLS with node %s at %s: %w", to, address, err)
	}
	return s, nil
}

// refuseInsecure tells both sides why there is no TLS between them. A stranger learns nothing about the node.
func (t *Transport) refuseInsecure(conn net.Conn, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return // somebody looked whether the port is open, or was cut off
	}
	refused := &RefusedError{Address: conn.RemoteAddr().String(), Refusal: RefusalSecurity, Text: "TLS: " + err.Error()}
	var header tls.RecordHeaderError
	if errors.As(err, &header) && header.Conn != nil {
		refused.Text = "the caller speaks plain text, and this port TLS; if it is a node, it needs https:// in --initial-cluster and the flags --peer-cert-file, --peer-key-file, --peer-trusted-ca-file"
		answer := &reply{Refusal: RefusalSecurity, Text: refused.Text}
		_, _ = conn.Write(appendEnvelope(nil, answer.encode())) // if it does not arrive, there is nobody to be told
	}
	if listener := t.options.Listener.Refused; listener != nil && t.ctx.Err() == nil {
		listener(refused)
	}
	hangUp(conn, t.options.IdentityProbe)
}

// judgeSecurity tells why a caller may not speak for the node that it says it is.
func (t *Transport) judgeSecurity(conn net.Conn, h *hello) string {
	s, ok := conn.(*secured)
	if !ok {
		return ""
	}
	var hosts []string
	if p := t.peers.Load().byID[h.From]; p != nil {
		hosts = p.hosts()
	}
	if err := t.options.Security.SpeaksFor(s.ConnectionState(), hosts); err != nil {
		return fmt.Sprintf("the caller does not prove that it is node %s (%q): %v", h.From, h.Name, err)
	}
	return ""
}

// tlsRecord is what a caller with TLS begins with: a handshake, of some version 3.x.
const tlsRecord = "\x16\x03"
