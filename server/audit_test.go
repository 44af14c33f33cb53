package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/tlsconf"
)

// auditedNode is a cluster of one, and a client.
func auditedNode(t *testing.T, audit AuditOptions) (*Server, *clientv3.Client) {
	t.Helper()
	url, peer := freeURL(t), freeURL(t)
	s, err := Start(t.Context(), Options{Node: NodeOptions{
		Name: "n1", DataDir: filepath.Join(t.TempDir(), "n1"), ListenClientURLs: []URL{url}, AdvertiseClientURLs: []URL{url},
		ListenPeerURLs: []URL{peer}, AdvertisePeerURLs: []URL{peer}, Audit: audit,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) }) // it was closed, or the test has failed
	<-s.Ready()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url.HostPort()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return s, client
}

type auditLine struct {
	Time, Node, Proof, Client, Operation, Outcome string
	Keys                                          []struct{ Key, End string }
	Revision                                      int64
}

func readAudit(t *testing.T, path string) (lines []auditLine, text string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, l)
	}
	return lines, string(raw)
}

// TestAuditLog: each kind of call is recorded once, with its keys, revision and outcome, and without values.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy.json"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(`{"reads": true, "not_operations": ["Status"], "not_prefixes": ["noise/"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, client := auditedNode(t, AuditOptions{Log: log, PolicyFile: policy})
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.Put(ctx, "a", "SECRET")
	must(err)
	_, err = client.Put(ctx, "noise/a", "SECRET")
	must(err)
	_, err = client.Get(ctx, "a")
	must(err)
	_, err = client.Get(ctx, "a", clientv3.WithRange("b"))
	must(err)
	_, err = client.Txn(ctx).If(clientv3.Compare(clientv3.Value("c"), "=", "SECRET")).Then(clientv3.OpPut("t", "SECRET")).Else(clientv3.OpGet("e")).Commit()
	must(err)
	_, err = client.Delete(ctx, "a")
	must(err)
	lease, err := client.Grant(ctx, 60)
	must(err)
	_, err = client.Put(ctx, "a", "SECRET", clientv3.WithLease(lease.ID+1))
	if err == nil {
		t.Fatal("a put with a lease that is not there")
	}
	_, err = client.Status(ctx, client.Endpoints()[0])
	must(err)
	watch := client.Watch(ctx, "w", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	stream, err := etcdserverpb.NewKVClient(client.ActiveConnection()).RangeStream(ctx, &etcdserverpb.RangeRequest{Key: []byte("s")})
	must(err)
	for err == nil {
		_, err = stream.Recv()
	}
	_, err = client.MemberList(ctx)
	must(err)
	_, err = client.HashKV(ctx, client.Endpoints()[0], 0)
	must(err)
	snapshot, err := client.Snapshot(ctx)
	must(err)
	buffer := make([]byte, 64<<10)
	for err == nil {
		_, err = snapshot.Read(buffer)
	}
	snapshot.Close()
	must(client.Close())
	must(s.Close(ctx))

	lines, text := readAudit(t, log)
	if strings.Contains(text, "SECRET") || strings.Contains(text, "noise") {
		t.Errorf("what is not to be there:\n%s", text)
	}
	var got []string
	for _, l := range lines {
		if l.Node != "n1" || l.Proof != "none" || !strings.HasPrefix(l.Client, "127.0.0.1:") || l.Time == "" {
			t.Errorf("%+v", l)
		}
		revision := ""
		if l.Revision > 0 {
			revision = fmt.Sprint(" @", l.Revision)
		}
		got = append(got, fmt.Sprint(l.Operation, " ", l.Keys, " ", l.Outcome, revision))
	}
	slices.Sort(got)
	want := []string{
		"DeleteRange [{a }] OK @4", "HashKV [] OK", "LeaseGrant [] OK @4", "MemberList [] OK @4", "Put [{a }] NotFound", "Put [{a }] OK @2", "Range [{a b}] OK",
		"Range [{a }] OK @3", "RangeStream [{s }] OK", "Snapshot [] OK", "Txn [{c } {t } {e }] OK @3", "Watch [{w x}] OK",
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAuditNamesCertificates: a client with a verified certificate is recorded by its common name, and the key of a transaction that only compares is a read.
func TestAuditNamesCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	authority, err := tlsconf.NewAuthority("ca", now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issue := func(name string) (certificate, key []byte) {
		certificate, key, err := authority.Issue(tlsconf.Request{CommonName: name, Hosts: []string{"localhost", "127.0.0.1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	nodeCertificate, nodeKey := issue("node")
	certificate, key := issue("alice")
	log := filepath.Join(dir, "audit.log")
	url, peer := freeURL(t), freeURL(t)
	url.TLS = true
	node := NodeOptions{Name: "n1", DataDir: filepath.Join(dir, "n1"), ListenClientURLs: []URL{url}, AdvertiseClientURLs: []URL{url},
		ListenPeerURLs: []URL{peer}, AdvertisePeerURLs: []URL{peer}, Audit: AuditOptions{Log: log}}
	node.ClientTLS.CertFile, node.ClientTLS.KeyFile = file("cert.pem", nodeCertificate), file("key.pem", nodeKey)
	node.ClientTLS.TrustedCAFile = file("ca.pem", authority.PEM())
	s, err := Start(t.Context(), Options{Node: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) }) // it was closed, or the test has failed
	<-s.Ready()
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	config.RootCAs.AppendCertsFromPEM(authority.PEM())
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url.String()}, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Txn(t.Context()).If(clientv3.Compare(clientv3.Version("a"), ">", 0)).Then(clientv3.OpGet("a")).Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, text := readAudit(t, log)
	if len(lines) != 1 || lines[0].Proof != "certificate" || !strings.Contains(text, `"certificate":"alice"`) {
		t.Errorf("got %s", text)
	}
}

// TestAuditOnFullDisk: with --audit-full=refuse nothing is done that cannot be recorded; otherwise it is done and counted.
func TestAuditOnFullDisk(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs /dev/full")
	}
	for _, refuse := range []bool{true, false} {
		s, client := auditedNode(t, AuditOptions{Log: "/dev/full", Refuse: refuse})
		for {
			if end, refused := s.auditor.Begin(etcd.Attempt{Operation: "Put", Writes: true}); end == nil {
				if refused != refuse {
					t.Errorf("refused %v", refused)
				}
				break
			} else {
				end(etcd.Ending{})
			}
		}
		before := s.auditor.metrics().Dropped
		_, err := client.Put(t.Context(), "a", "b")
		if refuse && (status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "--audit-full=refuse")) || !refuse && err != nil {
			t.Errorf("refuse %v: a put: %v", refuse, err)
		}
		read, err := client.Get(t.Context(), "a")
		if err != nil || len(read.Kvs) == 1 == refuse {
			t.Errorf("refuse %v: %v, %v", refuse, read, err)
		}
		if dropped := s.auditor.metrics().Dropped - before; dropped == 1 == refuse {
			t.Errorf("refuse %v: %d records were dropped", refuse, dropped)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestAuditPolicyFile(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                   "",
		`{"reads": true}`:                      "",
		`{"operations": ["Put", "UserAdd"]}`:   "",
		`{"operations": ["Put", "Shards/List"`: "unexpected EOF",
		`{"values": true}`:                     `unknown field "values"`,
		`{"operations": ["put"]}`:              `there is no operation "put"`,
		`{} {}`:                                "more behind",
		``:                                     "EOF",
	} {
		path := filepath.Join(t.TempDir(), "policy")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := AuditOptions{Log: "-", PolicyFile: path}.policy()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--audit-policy")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := Check(Options{Node: NodeOptions{Audit: AuditOptions{Log: "-", PolicyFile: "missing"}}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("--check: %v", err)
	}
}

// TestAuditedKeysAreBounded: whatever a client names.
func TestAuditedKeysAreBounded(t *testing.T) {
	many := slices.Repeat([]kv.Span{{Start: []byte("k")}}, 1000)
	if some, more := someKeys(many); len(some) != maxAuditKeys || more != 1000-maxAuditKeys {
		t.Errorf("%d keys, and %d more", len(some), more)
	}
	long := []kv.Span{{Start: make([]byte, 5000)}, {Start: make([]byte, 5000)}, {Start: []byte("k")}}
	if some, more := someKeys(long); len(some) != 1 || more != 2 {
		t.Errorf("%d long keys, and %d more", len(some), more)
	}
}

// BenchmarkAudit is what a put pays where it is answered; the line is made and written elsewhere.
func BenchmarkAudit(b *testing.B) {
	s := &Server{options: Options{Node: NodeOptions{Audit: AuditOptions{Log: os.DevNull}}}}
	if err := s.openAudit(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	attempt := etcd.Attempt{Operation: "Put", Writes: true, Keys: []kv.Span{{Start: []byte("/registry/pods/default/a")}}, Client: "127.0.0.1:1"}
	for b.Loop() {
		if end, _ := s.auditor.Begin(attempt); end != nil {
			end(etcd.Ending{Revision: 1, Outcome: "OK"})
		}
	}
}
