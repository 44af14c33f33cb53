package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quoratedb/quorate/e2e/cluster"
	"github.com/quoratedb/quorate/tlsconf"
)

// certificates are an authority and what it has signed, in a directory.
type certificates struct {
	directory string
	authority *tlsconf.Authority
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{directory: t.TempDir()}
	c.authority = newAuthority(t)
	c.write(t, "ca.pem", c.authority.PEM())
	return c
}

func newAuthority(t *testing.T) *tlsconf.Authority {
	t.Helper()
	authority, err := tlsconf.NewAuthority("e2e", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func (c *certificates) path(name string) string { return filepath.Join(c.directory, name) }

func (c *certificates) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(c.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes NAME.pem and NAME-key.pem, whose common name is what comes before the first dot.
func (c *certificates) issue(t *testing.T, by *tlsconf.Authority, name string, notAfter time.Time) {
	t.Helper()
	common, _, _ := strings.Cut(name, ".")
	certificate, key, err := by.Issue(tlsconf.Request{CommonName: common, Hosts: []string{"127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: notAfter, Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, name+".pem", certificate)
	c.write(t, name+"-key.pem", key)
}

func (c *certificates) pair(t *testing.T, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.path(name+".pem"), c.path(name+"-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// client is the configuration of a client with a certificate, whose name may be empty for none. It believes what ca.pem says now.
func (c *certificates) client(t *testing.T, name string) *tls.Config {
	t.Helper()
	authorities, err := os.ReadFile(c.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(authorities)
	if name != "" {
		pair := c.pair(t, name) // shown whatever authorities the node names
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}

// dialTLS makes a client. Without a configuration it speaks plain text.
func dialTLS(t *testing.T, config *tls.Config, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TestTLS: three nodes that speak TLS with each other and with clients, with certificates on all sides. Who has no good one is refused, and the log says
// why. All certificates and their authority are replaced under load, without an error.
func TestTLS(t *testing.T) {
	if cluster.IsEtcd() {
		t.Skip("this is about our own flags")
	}
	of := newCertificates(t)
	later := time.Now().Add(time.Hour)
	for name, notAfter := range map[string]time.Time{"node": later, "alice": later, "mallory": later, "alice.expired": time.Now().Add(-time.Minute), "alice.revoked": later} {
		of.issue(t, of.authority, name, notAfter)
	}
	of.issue(t, newAuthority(t), "alice.foreign", later)
	of.revoke(t, of.authority, of.pair(t, "alice.revoked").Leaf)
	cl, endpoints := startTLS(t, of)
	client := dialTLS(t, of.client(t, "alice"), endpoints...)
	cluster.Eventually(t, "a write with TLS", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := client.Put(ctx, "tls", "1")
		return err
	})
	for name, line := range map[string]string{
		"": "didn't provide a certificate", "mallory": "none of the common names of --client-cert-allowed-cn", "alice.expired": "certificate has expired",
		"alice.revoked": "is revoked: --client-crl-file", "alice.foreign": "signed by unknown authority",
	} {
		of.refused(t, name, cl.Nodes[0])
		if err := cl.Nodes[0].WaitLog(line); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := dialTLS(t, nil, cl.Nodes[0].Endpoint).Get(ctx, "tls"); err == nil {
		t.Error("plain text was served")
	}
	if err := cl.Nodes[0].WaitLog("it speaks plain text, and the port takes TLS"); err != nil {
		t.Error(err)
	}
	equal(t, "over a socket in the file system", readTLS(t, dialTLS(t, nil, "unix://"+of.path("n2.sock"))), "1")

	watch := client.Watch(t.Context(), "tls")
	of.rotate(t, client, endpoints, cl.Nodes[0], nil)
	if _, err := dialTLS(t, of.client(t, "alice.new"), endpoints...).Put(within(t), "tls", "2"); err != nil {
		t.Fatal(err)
	}
	select { // over a connection from before
	case r := <-watch:
		if len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "2" {
			t.Errorf("the watch got %v, %v", r.Events, r.Err())
		}
	case <-within(t).Done():
		t.Error("the watch got nothing")
	}
	if err := cl.Nodes[2].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cl.Nodes[2].Start(); err != nil { // with the new certificate, among nodes that have been connected with the old one
		t.Fatal(err)
	}
	equal(t, "at the node that came back", readTLS(t, dialTLS(t, of.client(t, "alice.new"), endpoints[2])), "2")
	commandLines(t, of, endpoints)
}

// startTLS starts three nodes whose common name is node, for clients whose common name is alice.
func startTLS(t *testing.T, of *certificates) (cl *cluster.Cluster, endpoints []string) {
	t.Helper()
	cl, endpoints = planTLS(t, of, 3, "--client-crl-file="+of.path("crl.pem"))
	for _, n := range cl.Nodes {
		socket := "unix://" + of.path(n.Name+".sock")
		n.SetFlag("--listen-client-urls=" + n.Flag("--listen-client-urls") + "," + socket)
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	return cl, endpoints
}

// planTLS plans such nodes.
func planTLS(t *testing.T, of *certificates, nodes int, flags ...string) (cl *cluster.Cluster, endpoints []string) {
	t.Helper()
	for _, prefix := range []string{"--", "--peer-"} {
		flags = append(flags, prefix+"cert-file="+of.path("node.pem"), prefix+"key-file="+of.path("node-key.pem"), prefix+"trusted-ca-file="+of.path("ca.pem"))
	}
	flags = append(flags, "--client-cert-allowed-cn=alice", "--peer-cert-allowed-cn=node")
	cl, err := cluster.New(cluster.Options{Nodes: nodes, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(cl.Logs())
		}
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range cl.Nodes {
		for _, flag := range []string{"--listen-client-urls", "--advertise-client-urls", "--listen-peer-urls", "--initial-advertise-peer-urls", "--initial-cluster"} {
			n.SetFlag(flag + "=" + strings.ReplaceAll(n.Flag(flag), "http://", "https://"))
		}
		endpoints = append(endpoints, "https://"+n.Endpoint)
	}
	return cl, endpoints
}

func (c *certificates) revoke(t *testing.T, by *tlsconf.Authority, revoked ...*x509.Certificate) {
	t.Helper()
	list, err := by.Revoke(time.Now().Add(time.Hour), revoked...)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "crl.pem", list)
}

// refused: the node ends a connection with this certificate.
func (c *certificates) refused(t *testing.T, name string, n *cluster.Node) {
	t.Helper()
	conn, err := tls.Dial("tcp", n.Endpoint, c.client(t, name))
	if err == nil {
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(cluster.Patience)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a client learns from this what becomes of its certificate
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		t.Errorf("%q was not refused: %v", name, err)
	}
}

// What is so after each step of a rotation.
const (
	bothTrusted = "both authorities are trusted"
	newNodes    = "nodes have certificates of the new one"
	newClients  = "so have clients"
	oldRefused  = "the old one is not trusted any more"
)

// rotate replaces the authority and all that it has signed, while one client writes all the time, and another one connects anew for each write. Something else may
// be done after each step, with the configuration of a client that is good then.
func (c *certificates) rotate(t *testing.T, old *clientv3.Client, endpoints []string, n *cluster.Node, then map[string]func(*tls.Config)) {
	t.Helper()
	var config atomic.Pointer[tls.Config]
	config.Store(c.client(t, "alice"))
	ctx, stop := context.WithCancel(t.Context())
	wrote := make(chan error)
	var load sync.WaitGroup
	load.Go(func() {
		for ctx.Err() == nil {
			_, err := old.Put(within(t), "load/old", "")
			fresh, dialErr := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), TLS: config.Load()})
			if dialErr == nil {
				_, dialErr = fresh.Put(within(t), "load/new", "")
				_ = fresh.Close()
			}
			select {
			case wrote <- errors.Join(err, dialErr):
			case <-ctx.Done():
			}
		}
	})
	defer load.Wait()
	defer stop()
	some := func(step string) {
		t.Helper()
		for range 2 { // the first one may have begun before
			if err := <-wrote; err != nil {
				t.Errorf("%s: a write failed: %v", step, err)
			}
		}
		if then[step] != nil {
			done := make(chan struct{})
			go func() {
				defer close(done)
				then[step](config.Load())
			}()
			for running := true; running; {
				select {
				case err := <-wrote:
					if err != nil {
						t.Errorf("while something is done when %s: a write failed: %v", step, err)
					}
				case <-done:
					running = false
				}
			}
		}
	}
	served := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", n.Endpoint, config.Load())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before, authority := served(), newAuthority(t)
	some("before")
	c.write(t, "ca.pem", append(c.authority.PEM(), authority.PEM()...))
	config.Store(c.client(t, "alice"))
	some(bothTrusted)
	c.issue(t, authority, "node", time.Now().Add(time.Hour))
	if served() == before {
		t.Error("a new connection got the old certificate")
	}
	some(newNodes)
	c.issue(t, authority, "alice.new", time.Now().Add(time.Hour))
	c.issue(t, authority, "alice.revoked", time.Now().Add(time.Hour))
	config.Store(c.client(t, "alice.new"))
	some(newClients)
	c.write(t, "ca.pem", authority.PEM())
	c.revoke(t, authority, c.pair(t, "alice.revoked").Leaf)
	config.Store(c.client(t, "alice.new"))
	some(oldRefused)
	c.refused(t, "alice", n)
	c.refused(t, "alice.revoked", n)
	c.authority = authority
}

func readTLS(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	value := ""
	cluster.Eventually(t, "a read", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, err := client.Get(ctx, "tls")
		if err == nil && len(r.Kvs) == 1 {
			value = string(r.Kvs[0].Value)
		}
		return err
	})
	return value
}

// commandLines reads with quorate, and with etcdctl if there is one: they have the same flags.
func commandLines(t *testing.T, of *certificates, endpoints []string) {
	t.Helper()
	program, err := cluster.Program()
	if err != nil {
		t.Fatal(err)
	}
	programs := []string{program}
	if etcdctl, err := exec.LookPath("etcdctl"); err == nil {
		programs = append(programs, etcdctl)
	}
	flags := []string{"--endpoints=" + strings.Join(endpoints, ","), "--cacert=" + of.path("ca.pem"), "--cert=" + of.path("alice.new.pem"), "--key=" + of.path("alice.new-key.pem")}
	for _, program := range programs {
		output, err := exec.CommandContext(within(t), program, append([]string{"get", "tls"}, flags...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(output), "2") {
			t.Errorf("%s: %v\n%s", program, err, output)
		}
	}
	output, err := exec.CommandContext(within(t), program, append([]string{"status"}, flags...)...).CombinedOutput()
	if err != nil || strings.Count(string(output), "follower") != 2 {
		t.Errorf("status: %v\n%s", err, output)
	}
	output, err = exec.CommandContext(within(t), program, "get", "tls", "--timeout=1s", "--endpoints="+strings.TrimPrefix(endpoints[0], "https://")).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "speaks TLS, and this command did not: give --cacert") || strings.Contains(string(output), "overloaded") {
		t.Errorf("without TLS: %v\n%s", err, output)
	}
}

// TestCheckAndMetricsWithTLS: serve --check refuses what a start would refuse, and /metrics is served with TLS.
func TestCheckAndMetricsWithTLS(t *testing.T) {
	if cluster.IsEtcd() {
		t.Skip("this is about our own flags")
	}
	of := newCertificates(t)
	for _, name := range []string{"node", "other"} {
		of.issue(t, of.authority, name, time.Now().Add(time.Hour))
	}
	program, err := cluster.Program()
	if err != nil {
		t.Fatal(err)
	}
	flags := func(key string) []string {
		return []string{"serve", "--check", "--data-dir=" + of.path("data"), "--listen-metrics-urls=https://127.0.0.1:1", "--cert-file=" + of.path("node.pem"), "--key-file=" + of.path(key)}
	}
	output, err := exec.CommandContext(within(t), program, flags("node-key.pem")...).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "are in order; nothing was started") {
		t.Errorf("%v: %s", err, output)
	}
	output, err = exec.CommandContext(within(t), program, flags("other-key.pem")...).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "do not fit together") || !strings.Contains(string(output), "--key-file") {
		t.Errorf("%v: %s", err, output)
	}
	if _, err := os.Stat(of.path("data")); err == nil {
		t.Error("a check made the data directory")
	}
	cl, err := cluster.New(cluster.Options{Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	n := cl.Nodes[0]
	port := strings.TrimPrefix(n.PeerAddress, "127.0.0.1:")
	n.SetFlag("--listen-metrics-urls=https://127.0.0.2:" + port)
	n.SetFlag("--auto-tls")
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	web := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer web.CloseIdleConnections()
	cluster.Eventually(t, "metrics with TLS", func() error {
		answer, err := web.Get(fmt.Sprintf("https://127.0.0.2:%s/metrics", port))
		if err == nil {
			answer.Body.Close()
		}
		return err
	})
	if err := n.WaitLog("authenticates nobody"); err != nil {
		t.Error(err)
	}
	if _, err := tls.Dial("tcp", n.Endpoint, &tls.Config{InsecureSkipVerify: true}); err == nil || !strings.Contains(err.Error(), "does not look like a TLS handshake") {
		t.Errorf("TLS on a port without: %v", err)
	}
	if err := n.WaitLog("a client speaks TLS, and its port takes plain text"); err != nil {
		t.Error(err)
	}
}
