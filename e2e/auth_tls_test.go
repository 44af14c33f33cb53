package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestAuthOverTLS goes through the other proofs of who a client is, at one node with certificates on both sides: the common name of a certificate, and JSON web
// tokens by RS256, by HS256, and by RS256 of somebody else (the node has the public key only); with etcd's client, the command line, and etcdctl, if there is
// one, each command group of it.
func TestAuthOverTLS(t *testing.T) {
	if cluster.IsEtcd() {
		t.Skip("etcd has JSON web tokens and certificates, too; this is about ours")
	}
	of := newCertificates(t)
	for _, name := range []string{"node", "root", "alice", "stranger"} {
		of.issue(t, of.authority, name, time.Now().Add(time.Hour))
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	of.write(t, "jwt-key.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	of.write(t, "jwt.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	of.write(t, "hmac", []byte("a secret that all nodes have"))

	cl, err := cluster.New(cluster.Options{Nodes: 1, Flags: []string{"--bcrypt-cost=4", "--cert-file=" + of.path("node.pem"), "--key-file=" + of.path("node-key.pem"),
		"--trusted-ca-file=" + of.path("ca.pem"), "--client-cert-auth"}})
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
	n := cl.Nodes[0]
	for _, flag := range []string{"--listen-client-urls", "--advertise-client-urls"} {
		n.SetFlag(flag + "=" + strings.ReplaceAll(n.Flag(flag), "http://", "https://"))
	}
	endpoint := "https://" + n.Endpoint
	restart := func(tokens string) {
		t.Helper()
		n.SetFlag("--auth-token=" + tokens)
		must(t, n.Kill())
		must(t, n.Start())
		root := dialTLS(t, of.client(t, "root"), endpoint)
		cluster.Eventually(t, "a read by root's certificate", func() error { _, err := root.Get(within(t), "a/1"); return err })
	}
	as := func(config *tls.Config, c clientv3.Config) *clientv3.Client {
		t.Helper()
		c.Endpoints, c.TLS, c.Logger, c.DialTimeout = []string{endpoint}, config, zap.NewNop(), 5*time.Second
		client, err := clientv3.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	// What alice may, whatever proves that it is her.
	isAlice := func(what string, client *clientv3.Client) {
		t.Helper()
		if _, err := client.Put(within(t), "a/1", "v"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		_, err := client.Put(within(t), "b/1", "v")
		refuses(t, what, err, rpctypes.ErrPermissionDenied)
	}
	stranger := of.client(t, "stranger")

	restart("jwt,sign-method=RS256,pub-key=" + of.path("jwt.pem") + ",priv-key=" + of.path("jwt-key.pem") + ",ttl=10m")
	root := dialTLS(t, of.client(t, "root"), endpoint)
	try(root.UserAdd(within(t), "root", "r"))(t)
	try(root.UserGrantRole(within(t), "root", "root"))(t)
	try(root.UserAdd(within(t), "alice", "a"))(t)
	try(root.RoleAdd(within(t), "a"))(t)
	try(root.RoleGrantPermission(within(t), "a", "a/", "a0", clientv3.PermissionType(clientv3.PermReadWrite)))(t)
	try(root.UserGrantRole(within(t), "alice", "a"))(t)
	try(root.AuthEnable(within(t)))(t)
	revision := try(root.AuthStatus(within(t)))(t).AuthRevision // by the certificate alone

	isAlice("a certificate", dialTLS(t, of.client(t, "alice"), endpoint))
	_, err = dialTLS(t, stranger, endpoint).Get(within(t), "a/1")
	refuses(t, "a certificate of nobody", err, rpctypes.ErrPermissionDenied)
	isAlice("a password, with somebody else's certificate", as(stranger, clientv3.Config{Username: "alice", Password: "a"}))
	token := try(root.Authenticate(within(t), "alice", "a"))(t).Token
	parsed, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, jwt.WithValidMethods([]string{"RS256"}))
	if err != nil || parsed.Claims.(jwt.MapClaims)["username"] != "alice" {
		t.Errorf("%q: %+v, %v", token, parsed, err)
	}
	isAlice("RS256", as(stranger, clientv3.Config{Token: token}))
	commandGroups(t, of, endpoint)

	restart("jwt,sign-method=HS256,priv-key=" + of.path("hmac") + ",ttl=10m")
	isAlice("HS256", as(stranger, clientv3.Config{Username: "alice", Password: "a"}))
	_, err = as(stranger, clientv3.Config{Token: token}).Get(within(t), "a/1")
	refuses(t, "a token by another method", err, rpctypes.ErrInvalidAuthToken)

	// Somebody else makes tokens.
	restart("jwt,sign-method=RS256,pub-key=" + of.path("jwt.pem"))
	if _, err := root.Authenticate(within(t), "alice", "a"); err == nil || !strings.Contains(err.Error(), "verify-only") {
		t.Errorf("a node that only verifies: %v", err)
	}
	revision = try(root.AuthStatus(within(t)))(t).AuthRevision
	sign := func(user string, ends time.Time) string {
		t.Helper()
		return try(jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"username": user, "revision": revision, "exp": ends.Unix()}).SignedString(key))(t)
	}
	foreign := sign("alice", time.Now().Add(time.Minute))
	isAlice("a foreign token", as(stranger, clientv3.Config{Token: foreign}))
	_, err = as(stranger, clientv3.Config{Token: sign("alice", time.Now().Add(-time.Minute))}).Get(within(t), "a/1")
	refuses(t, "one that has ended", err, rpctypes.ErrInvalidAuthToken)
	of.write(t, "token", []byte(foreign+"\n"))
	run := ofCommands(t, of, endpoint, "stranger")
	program := try(cluster.Program())(t)
	if output, err := run(program, "get", "a/1", "--value-only", "--token-file="+of.path("token")); err != nil || output != "v" {
		t.Errorf("quorate with a token: %v\n%s", err, output)
	}
	if etcdctl, err := exec.LookPath("etcdctl"); err == nil {
		if output, err := run(etcdctl, "get", "a/1", "--print-value-only", "--auth-jwt-token="+foreign); err != nil || output != "v" {
			t.Errorf("etcdctl with a token: %v\n%s", err, output)
		}
	}
}

// ofCommands runs programs with the certificate of a user.
func ofCommands(t *testing.T, of *certificates, endpoint, user string) func(program string, arguments ...string) (string, error) {
	return func(program string, arguments ...string) (string, error) {
		command := exec.CommandContext(within(t), program, append(arguments, "--endpoints="+endpoint, "--cacert="+of.path("ca.pem"), "--cert="+of.path(user+".pem"),
			"--key="+of.path(user+"-key.pem"))...)
		output, err := command.CombinedOutput()
		return strings.TrimSpace(string(output)), err
	}
}

// commandGroups has etcdctl, if there is one, and quorate use each group of commands over TLS, as root by its certificate. Where the words are the same so is
// what they say.
func commandGroups(t *testing.T, of *certificates, endpoint string) {
	t.Helper()
	run := ofCommands(t, of, endpoint, "root")
	programs := []string{try(cluster.Program())(t)}
	if etcdctl, err := exec.LookPath("etcdctl"); err == nil {
		programs = append(programs, etcdctl)
	}
	for i, program := range programs {
		for _, c := range []struct{ line, want string }{
			{"user add bob --no-password", "User bob created"}, {"user list", "alice\nbob\nroot"}, {"role add bobs", "Role bobs created"},
			{"role grant-permission bobs read bob/ --prefix", "Role bobs updated"},
			{"role get bobs", "Role bobs\nKV Read:\n\t[bob/, bob0) (prefix bob/)\nKV Write:"}, {"user grant-role bob bobs", "Role bobs is granted to user bob"},
			{"user get bob", "User: bob\nRoles: bobs"}, {"user revoke-role bob bobs", "Role bobs is revoked from user bob"},
			{"role revoke-permission bobs bob/ --prefix", "Permission of range [bob/, bob0) is revoked from role bobs"},
			{"role list", "a\nbobs"}, {"role delete bobs", "Role bobs deleted"}, {"user delete bob", "User bob deleted"}, {"auth status", "Authentication Status: true"},
		} {
			if output, err := run(program, strings.Fields(c.line)...); err != nil || !strings.HasPrefix(output, c.want) {
				t.Errorf("%s %s: %v\n%s\nwant %s", program, c.line, err, output, c.want)
			}
		}
		lines := []string{"status", "shards", "transactions", "alarm list", "lease list", "put b/1 v", "get b/1", "backup create " + of.path("backups")}
		if i > 0 {
			lines = []string{"endpoint health", "endpoint status", "endpoint hashkv", "member list", "alarm list", "alarm disarm", "lease list", "put b/1 v", "get b/1",
				"del b/2", "compaction 2", "defrag", "snapshot save " + of.path("snapshot.db")}
		}
		for _, line := range lines {
			if output, err := run(program, strings.Fields(line)...); err != nil {
				t.Errorf("%s %s: %v\n%s", program, line, err, output)
			}
		}
	}
}
