package transport

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/tlsconf"
)

// secureBy gives nodes certificates of an authority that is made for the test, for these hosts.
func secureBy(t *testing.T, authority *tlsconf.Authority, hosts ...string) func(*Options) {
	t.Helper()
	certificate, key, err := authority.Issue(tlsconf.Request{Hosts: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	for name, content := range map[string][]byte{"ca": authority.PEM(), "cert": certificate, "key": key} {
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source, err := tlsconf.Open(tlsconf.Options{Role: tlsconf.Peers, CertFile: filepath.Join(directory, "cert"), KeyFile: filepath.Join(directory, "key"),
		TrustedCAFile: filepath.Join(directory, "ca")}.WithDefaults(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Security = source }
}

func newAuthority(t *testing.T) *tlsconf.Authority {
	t.Helper()
	authority, err := tlsconf.NewAuthority("ca", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestFramesAndStreamsWithTLS(t *testing.T) {
	_, a, b := pair(t, secureBy(t, newAuthority(t), "127.0.0.1"))
	large := strings.Repeat("x", 3<<20) // more than sockets take at once
	for _, payload := range []string{"1", large, "2"} {
		if !a.Append(2, ChannelConsensus, text(payload)) {
			t.Fatal("no room")
		}
		a.Flush()
	}
	b.await(t, "3 frames", func() bool { return slices.Equal(b.payloads(1), []string{"1:1", "1:" + large, "1:2"}) })
	var got []byte
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) (err error) {
		got, err = io.ReadAll(r)
		return err
	}
	s, err := a.OpenStream(context.Background(), 2, "snapshot")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte(large)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || string(got) != large {
		t.Fatalf("%d bytes arrived: %v", len(got), err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.awaitEvent(t, "disconnected", "EOF")
}

// TestPlainAndTLSTellEachOther: both sides say what is wrong, whoever calls.
func TestPlainAndTLSTellEachOther(t *testing.T) {
	c := newCluster(t, 2)
	secure, plain := c.open(t, 1, 11, secureBy(t, newAuthority(t), "127.0.0.1")), c.open(t, 2, 12)
	c.expose(t, secure)
	c.expose(t, plain)
	plain.awaitEvent(t, "refused by", "the caller speaks plain text, and this port TLS")
	secure.awaitEvent(t, "refused ", "the caller speaks plain text, and this port TLS")
	secure.awaitEvent(t, "dial failed", "speaks plain text, and this node TLS")
	plain.awaitEvent(t, "refused ", "the other side speaks TLS, and this node plain text")
	if r := plain.refused[0]; r.Refusal != RefusalSecurity {
		t.Errorf("refusal %d", r.Refusal)
	}
}

// TestStrangersWithTLS: a node of another authority, and one with the certificate of another host, are kept out, and both sides say why.
func TestStrangersWithTLS(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.open(t, 1, 11, secureBy(t, newAuthority(t), "127.0.0.1")), c.open(t, 2, 12, secureBy(t, newAuthority(t), "127.0.0.1"))
	c.expose(t, a)
	c.expose(t, b)
	a.awaitEvent(t, "dial failed 2", "unknown authority")
	b.awaitEvent(t, "refused 0 (9): TLS: remote error: tls: ")

	c = newCluster(t, 2)
	authority := newAuthority(t)
	a = c.open(t, 1, 11, secureBy(t, authority, "127.0.0.1"))
	b = c.open(t, 2, 12, secureBy(t, authority, "other.test"))
	c.expose(t, a)
	b.awaitEvent(t, "refused by", "does not prove that it is node 2", "is for other hosts than 127.0.0.1")
	a.awaitEvent(t, "refused 2 (9)", "for other hosts")
}

// TestStrangersLearnNothing: before they have shown a certificate, strangers get no byte that is the node's own but TLS's; what they send is bounded.
func TestStrangersLearnNothing(t *testing.T) {
	c := newCluster(t, 2)
	n := c.open(t, 1, 11, secureBy(t, newAuthority(t), "127.0.0.1"), func(o *Options) { o.IdentityProbe = 50 * time.Millisecond })
	other := c.options(2, 12, newRecorder())
	conn, answer := call(t, &node{Transport: n.Transport}, other, 1, purposeFrames)
	defer conn.Close()
	if answer.Refusal != RefusalSecurity || answer.Cluster != 0 || answer.Node != 0 || answer.Instance != 0 || answer.Name != "" || len(answer.Metadata) != 0 || answer.MaxVersion != 0 {
		t.Errorf("a stranger was told %+v", answer)
	}
	greeting := append([]byte{0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, bytes.Repeat([]byte{7}, 200<<10)...)
	for _, first := range [][]byte{greeting, greeting[:9], []byte("\x16\x03\x01\xff\xff"), bytes.Repeat([]byte{0}, 100)} {
		stranger, err := net.Dial("tcp", n.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = stranger.Write(first)
		_ = stranger.(*net.TCPConn).CloseWrite()
		said, _ := io.ReadAll(stranger)
		if bytes.Contains(said, []byte("n1")) {
			t.Errorf("the node said its name: %q", said)
		}
		stranger.Close()
	}
	b := &bounded{Conn: zeros{}, left: 1000}
	if got, err := io.Copy(io.Discard, b); got != 1000 || !errors.Is(err, ErrMalformed) {
		t.Errorf("%d bytes were read before the handshake was done: %v", got, err)
	}
}

// zeros is a caller that never ends.
type zeros struct{ net.Conn }

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
