package serveflags

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/tlsconf"
)

var update = flag.Bool("update", false, "rewrite docs/operations.md's flags section")

// TestEveryFlagOfEtcd: the list is what etcd 3.7.3 registers
// (embed.Config.AddFlags and etcdmain.newConfig).
func TestEveryFlagOfEtcd(t *testing.T) {
	content, err := os.ReadFile("testdata/etcd-3.7.3-flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*Flag{}
	for _, f := range Table() {
		if known[f.Name] != nil {
			t.Errorf("--%s is twice in the table", f.Name)
		}
		known[f.Name] = f
	}
	inEtcd := map[string]bool{}
	for _, name := range strings.Fields(string(content)) {
		inEtcd[name] = true
		if known[name] == nil {
			t.Errorf("etcd's --%s is not in the table", name)
		}
	}
	for _, f := range Table() {
		removed := f.Name == "discovery" || f.Name == "discovery-proxy" // in etcd's help only
		if !inEtcd[f.Name] && !f.Ours && !removed {
			t.Errorf("--%s is neither etcd's nor marked as ours", f.Name)
		}
		if f.Treatment == Applied && (f.Usage == "" || f.set == nil || f.Group == "") {
			t.Errorf("--%s is applied and lacks usage, group or setter", f.Name)
		}
		if f.Treatment != Applied && f.Because == "" {
			t.Errorf("--%s lacks a reason", f.Name)
		}
	}
}

// appliedCase says what one applied flag does: value in, changed options out.
type appliedCase struct {
	flag    string
	value   string
	invalid []string
	// with are other flags that the value needs to make sense.
	with []string
	get  func(Result) any
	want any
}

func appliedCases() []appliedCase {
	url := func(host string, port uint16) []server.URL { return []server.URL{{Host: host, Port: port}} }
	badURLs := []string{"", "10.0.0.1:2379", "http://10.0.0.1", "http://10.0.0.1:99999", "http://10.0.0.1:x", "http://10.0.0.1:1/path", "https://10.0.0.1", "https://10.0.0.1:1/path", "unix://", "unix:///a%2Cb", "ftp://10.0.0.1:1"}
	badListen := append([]string{"http://example.org:1"}, badURLs...)
	cluster := "--initial-cluster=default=http://10.0.0.1:5"
	return []appliedCase{
		{flag: "check", value: "true", invalid: []string{"maybe", ""}, get: func(r Result) any { return r.Check }, want: true},
		{flag: "name", value: "n1", invalid: []string{"", "a,b", "a=b"}, get: func(r Result) any { return r.Options.Node.Name }, want: "n1"},
		{flag: "data-dir", value: "/x", invalid: []string{""}, get: func(r Result) any { return r.Options.Node.DataDir }, want: "/x"},
		{flag: "listen-client-urls", value: "http://10.0.0.1:5", with: []string{"--advertise-client-urls=http://a:1"}, invalid: badListen,
			get: func(r Result) any { return r.Options.Node.ListenClientURLs }, want: url("10.0.0.1", 5)},
		{flag: "advertise-client-urls", value: "http://example.org:5", invalid: append([]string{"http://a:0"}, badURLs...),
			get: func(r Result) any { return r.Options.Node.AdvertiseClientURLs }, want: url("example.org", 5)},
		{flag: "listen-peer-urls", value: "http://[::1]:5", invalid: badListen,
			get: func(r Result) any { return r.Options.Node.ListenPeerURLs }, want: url("::1", 5)},
		{flag: "listen-metrics-urls", value: "http://0.0.0.0:5", invalid: badListen,
			get: func(r Result) any { return r.Options.Node.ListenMetricsURLs }, want: url("0.0.0.0", 5)},
		{flag: "listen-client-http-urls", value: "http://0.0.0.0:5", invalid: badListen,
			get: func(r Result) any { return r.Options.Node.ListenHTTPURLs }, want: url("0.0.0.0", 5)},
		{flag: "auto-repair", value: "true", invalid: []string{"maybe", ""}, get: func(r Result) any { return !r.Options.Node.RefuseDamaged }, want: true},
		{flag: "scrub-interval", value: "36h", invalid: []string{"", "1", "999ms", "-1s", "daily"}, get: func(r Result) any { return r.Options.Node.ScrubInterval }, want: 36 * time.Hour},
		{flag: "backup-hold-limit", value: "30m", invalid: []string{"", "1", "999ms", "-1s", "long"}, get: func(r Result) any { return r.Options.Node.BackupHoldLimit }, want: 30 * time.Minute},
		{flag: "enable-pprof", value: "true", invalid: []string{"maybe", ""},
			get: func(r Result) any { return r.Options.Node.EnablePprof }, want: true},
		{flag: "initial-advertise-peer-urls", value: "http://10.0.0.1:5", with: []string{cluster}, invalid: append([]string{"http://10.0.0.1:6"}, badURLs...),
			get: func(r Result) any { return r.Options.Node.AdvertisePeerURLs }, want: url("10.0.0.1", 5)},
		{flag: "initial-cluster", value: "b=http://x:5,default=http://localhost:2380",
			invalid: []string{"", "default", "=http://x:1", "default=x", "other=http://localhost:2380", "default=https://localhost:2380",
				"default=http://localhost:2380,b=http://localhost:2380", "default=http://localhost:2380,default=http://localhost:2381", "default=http://localhost:2380,b=http://x:0"},
			get: func(r Result) any { return server.FormatMembers(r.Options.Cluster.Members) }, want: "b=http://x:5,default=http://localhost:2380"},
		{flag: "initial-cluster-state", value: "existing", invalid: []string{"", "old"}, get: func(r Result) any { return r.Options.Node.InitialClusterState }, want: server.ClusterExisting},
		{flag: "initial-cluster-token", value: "t", invalid: []string{""}, get: func(r Result) any { return r.Options.Cluster.Token }, want: "t"},
		{flag: "force-new-cluster", value: "true", invalid: []string{"maybe", ""}, get: func(r Result) any { return r.Options.Node.ForceNewCluster }, want: true},
		{flag: "join", value: "a:1,b:2", invalid: []string{""}, get: func(r Result) any { return r.Join.Endpoints }, want: "a:1,b:2"},
		{flag: "join-as-learner", value: "true", with: []string{"--join=a:1"}, invalid: []string{"maybe", ""}, get: func(r Result) any { return r.Join.Learner }, want: true},
		{flag: "join-cacert", value: "f", with: []string{"--join=a:1"}, invalid: []string{""}, get: func(r Result) any { return r.Join.CAFile }, want: "f"},
		{flag: "join-cert", value: "f", with: []string{"--join=a:1"}, invalid: []string{""}, get: func(r Result) any { return r.Join.CertFile }, want: "f"},
		{flag: "join-key", value: "f", with: []string{"--join=a:1"}, invalid: []string{""}, get: func(r Result) any { return r.Join.KeyFile }, want: "f"},
		{flag: "join-insecure-skip-tls-verify", value: "true", with: []string{"--join=a:1"}, invalid: []string{"maybe", ""},
			get: func(r Result) any { return r.Join.SkipVerify }, want: true},
		{flag: "join-user", value: "u", with: []string{"--join=a:1"}, invalid: []string{""}, get: func(r Result) any { return r.Join.User }, want: "u"},
		{flag: "join-password-file", value: "f", with: []string{"--join=a:1"}, invalid: []string{""}, get: func(r Result) any { return r.Join.PasswordFile }, want: "f"},
		{flag: "join-token-file", value: "f", with: []string{"--join=a:1"}, invalid: []string{""}, get: func(r Result) any { return r.Join.TokenFile }, want: "f"},
		{flag: "heartbeat-interval", value: "50", invalid: []string{"0", "-1", "x", "1s", "201"}, get: func(r Result) any { return r.Options.Cluster.HeartbeatInterval }, want: 50 * time.Millisecond},
		{flag: "election-timeout", value: "50000", invalid: []string{"0", "499", "50001", ""}, get: func(r Result) any { return r.Options.Cluster.ElectionTimeout }, want: 50 * time.Second},
		{flag: "read-safety", value: "quorum", invalid: []string{"", "none"}, get: func(r Result) any { return r.Options.Cluster.ReadSafety }, want: server.ReadQuorum},
		{flag: "consensus", value: "raft", invalid: []string{"", "zab"}, get: func(r Result) any { return r.Options.Cluster.Consensus }, want: server.ConsensusRaft},
		{flag: "paxos-phase1-quorum", value: "3", with: []string{"--consensus=paxos", "--initial-cluster=default=http://localhost:2380,b=http://b:1,c=http://c:1"}, invalid: []string{"", "x", "-1", "1", "4", "99999"},
			get: func(r Result) any { return r.Options.Cluster.Quorums.Phase1 }, want: 3},
		{flag: "paxos-phase2-quorum", value: "1", with: []string{"--consensus=paxos", "--paxos-phase1-quorum=3", "--initial-cluster=default=http://localhost:2380,b=http://b:1,c=http://c:1"}, invalid: []string{"", "x", "-1", "4", "99999"},
			get: func(r Result) any { return r.Options.Cluster.Quorums.Phase2 }, want: 1},
		{flag: "initial-shards", value: "16", invalid: []string{"", "0", "-1", "1025", "x"}, get: func(r Result) any { return r.Options.Cluster.Partition.Flags() },
			want: "--initial-shards=16 --initial-partition=hash"},
		{flag: "initial-partition", value: "range", with: []string{"--initial-shards=2", "--initial-split-keys=/b"}, invalid: []string{"", "list", "hash"},
			get: func(r Result) any { return r.Options.Cluster.Partition.Flags() }, want: "--initial-shards=2 --initial-partition=range --initial-split-keys=/b"},
		{flag: "initial-split-keys", value: "/b,c%2c%00", invalid: []string{"", "b,", "%", "c,b", "b,b", strings.Repeat("b", 1025)},
			get: func(r Result) any { return r.Options.Cluster.Partition.Flags() }, want: "--initial-shards=3 --initial-partition=range --initial-split-keys=/b,c%2C%00"},
		{flag: "hash-prefix", value: "2", with: []string{"--initial-shards=4"}, invalid: []string{"", "-1", "65", "x"},
			get: func(r Result) any { return r.Options.Cluster.Partition.Flags() }, want: "--initial-shards=4 --initial-partition=hash --hash-prefix=2"},
		{flag: "commit-protocol", value: "3pc", invalid: []string{"", "3PC", "1pc"}, get: func(r Result) any { return r.Options.Cluster.CommitProtocol }, want: server.Commit3PC},
		{flag: "leaders", value: "spread", invalid: []string{"", "everywhere"}, get: func(r Result) any { return r.Options.Cluster.Leaders }, want: server.LeadersSpread},
		{flag: "snapshot-count", value: "0x10", invalid: []string{"0", "-5", "many"}, get: func(r Result) any { return r.Options.Node.SnapshotCount }, want: uint64(16)},
		{flag: "quota-backend-bytes", value: "-1", invalid: []string{"", "1GB"}, get: func(r Result) any { return r.Options.Cluster.QuotaBytes }, want: int64(-1)},
		{flag: "auth-token", value: "jwt,sign-method=HS256,priv-key=parse_test.go", invalid: []string{"x"}, get: func(r Result) any { return r.Options.Node.AuthToken }, want: "jwt,sign-method=HS256,priv-key=parse_test.go"},
		{flag: "auth-token-ttl", value: "60", invalid: []string{"0", "31536001"}, get: func(r Result) any { return r.Options.Node.AuthTokenTTL }, want: time.Minute},
		{flag: "bcrypt-cost", value: "4", invalid: []string{"3", "32"}, get: func(r Result) any { return r.Options.Node.BcryptCost }, want: 4},
		{flag: "max-txn-ops", value: "1024", invalid: []string{"0", "-1", "100001"}, get: func(r Result) any { return r.Options.Cluster.MaxTxnOps }, want: 1024},
		{flag: "max-request-bytes", value: "10485760", invalid: []string{"0", "33554433"}, get: func(r Result) any { return r.Options.Cluster.MaxRequestBytes }, want: 10 << 20},
		{flag: "watch-progress-notify-interval", value: "5s", invalid: []string{"5", "0s", "-1s"}, get: func(r Result) any { return r.Options.Node.WatchProgressNotifyInterval }, want: 5 * time.Second},
		{flag: "max-client-memory-bytes", value: "9000000000", invalid: []string{"", "0", "-1", "8388607"}, get: func(r Result) any { return r.Options.Node.MaxClientMemoryBytes }, want: int64(9e9)},
		{flag: "max-connection-memory-bytes", value: "5000000", invalid: []string{"", "0", "-1", "4194303"}, get: func(r Result) any { return r.Options.Node.MaxConnectionMemoryBytes }, want: int64(5e6)},
		{flag: "max-client-connections", value: "7", invalid: []string{"", "0", "-1", "1000001"}, get: func(r Result) any { return r.Options.Node.MaxClientConnections }, want: 7},
		{flag: "max-concurrent-streams", value: "7", invalid: []string{"0", "4294967296"}, get: func(r Result) any { return r.Options.Node.MaxConcurrentStreams }, want: uint32(7)},
		{flag: "grpc-keepalive-min-time", value: "1s", invalid: []string{"1", "-1s"}, get: func(r Result) any { return r.Options.Node.KeepAlive.MinTime }, want: time.Second},
		{flag: "grpc-keepalive-interval", value: "0s", invalid: []string{"0.5x", "-1s"}, get: func(r Result) any { return r.Options.Node.KeepAlive.Interval }, want: time.Duration(-1)},
		{flag: "grpc-keepalive-timeout", value: "3s", invalid: []string{"", "-1s"}, get: func(r Result) any { return r.Options.Node.KeepAlive.Timeout }, want: 3 * time.Second},
		{flag: "auto-compaction-mode", value: "revision", with: []string{"--auto-compaction-retention=9"}, invalid: []string{"", "hourly"},
			get: func(r Result) any { return r.Options.Cluster.AutoCompaction }, want: autocompact.Policy{Mode: autocompact.Revision, Revisions: 9}},
		{flag: "auto-compaction-retention", value: "90m", invalid: []string{"", "a", "-1", "-1h", "1ms"},
			get: func(r Result) any { return r.Options.Cluster.AutoCompaction.Period }, want: 90 * time.Minute},
		{flag: "strict-reconfig-check", value: "true", invalid: []string{"", "maybe"}, get: func(r Result) any { return !r.Options.Node.SkipReconfigCheck }, want: true},
		{flag: "max-learners", value: "3", invalid: []string{"", "0", "-1", "65"}, get: func(r Result) any { return r.Options.Node.MaxLearners }, want: 3},
		{flag: "corrupt-check-time", value: "1h", invalid: []string{"", "1", "1ms", "-1s"}, get: func(r Result) any { return r.Options.Node.CorruptCheckInterval }, want: time.Hour},
		{flag: "initial-corrupt-check", value: "true", invalid: []string{"", "maybe"}, get: func(r Result) any { return r.Options.Node.InitialCorruptCheck }, want: true},
		{flag: "audit-log", value: "-", invalid: []string{""}, get: func(r Result) any { return r.Options.Node.Audit.Log }, want: "-"},
		{flag: "audit-policy", value: "p", with: []string{"--audit-log=-"}, invalid: []string{""}, get: func(r Result) any { return r.Options.Node.Audit.PolicyFile }, want: "p"},
		{flag: "audit-max-size", value: "3", with: []string{"--audit-log=x"}, invalid: []string{"", "0", "x", "1048577"}, get: func(r Result) any { return r.Options.Node.Audit.MaxFileBytes }, want: int64(3 << 20)},
		{flag: "audit-max-files", value: "3", with: []string{"--audit-log=x"}, invalid: []string{"", "0", "x"}, get: func(r Result) any { return r.Options.Node.Audit.MaxFiles }, want: 3},
		{flag: "audit-full", value: "refuse", with: []string{"--audit-log=x"}, invalid: []string{"", "stop"}, get: func(r Result) any { return r.Options.Node.Audit.Refuse }, want: true},
		{flag: "log-level", value: "debug", invalid: []string{"", "loud"}, get: func(r Result) any { return r.Log.Level }, want: "debug"},
		{flag: "log-format", value: "json", invalid: []string{"", "xml"}, get: func(r Result) any { return r.Log.Format }, want: "json"},
	}
}

// tlsCases: each flag beside those that it needs.
func tlsCases() []appliedCase {
	clients := []string{"--listen-client-urls=https://10.0.0.1:5", "--advertise-client-urls=https://a:1"}
	peers := []string{"--listen-peer-urls=https://10.0.0.1:5", "--initial-advertise-peer-urls=https://10.0.0.1:5"}
	of := func(base []string, more ...string) []string { return slices.Concat(base, more) }
	cert, peerCert := []string{"--cert-file=c", "--key-file=k"}, []string{"--peer-cert-file=c", "--peer-key-file=k"}
	client := func(get func(tlsconf.Options) any) func(Result) any {
		return func(r Result) any { return get(r.Options.Node.ClientTLS) }
	}
	peer := func(get func(tlsconf.Options) any) func(Result) any {
		return func(r Result) any { return get(r.Options.Node.PeerTLS) }
	}
	var cases []appliedCase
	for _, role := range []struct {
		prefix, crl, cn, hostname string
		urls, cert                []string
		get                       func(func(tlsconf.Options) any) func(Result) any
	}{
		{"", "client-crl-file", "client-cert-allowed-cn", "client-cert-allowed-hostname", clients, cert, client},
		{"peer-", "peer-crl-file", "peer-cert-allowed-cn", "peer-cert-allowed-hostname", peers, peerCert, peer},
	} {
		ca := "--" + role.prefix + "trusted-ca-file=ca"
		cases = append(cases,
			appliedCase{flag: role.prefix + "cert-file", value: "x", with: of(role.urls, role.cert[1]), invalid: []string{""}, get: role.get(func(o tlsconf.Options) any { return o.CertFile }), want: "x"},
			appliedCase{flag: role.prefix + "key-file", value: "x", with: of(role.urls, role.cert[0]), invalid: []string{""}, get: role.get(func(o tlsconf.Options) any { return o.KeyFile }), want: "x"},
			appliedCase{flag: role.prefix + "trusted-ca-file", value: "x", with: of(role.urls, role.cert...), get: role.get(func(o tlsconf.Options) any { return o.TrustedCAFile }), want: "x"},
			appliedCase{flag: role.prefix + "client-cert-auth", value: "true", with: of(role.urls, append(role.cert, ca)...), invalid: []string{"maybe"}, get: role.get(func(o tlsconf.Options) any { return o.ClientCertAuth }), want: true},
			appliedCase{flag: role.crl, value: "x", with: of(role.urls, append(role.cert, ca)...), get: role.get(func(o tlsconf.Options) any { return o.CRLFile }), want: "x"},
			appliedCase{flag: role.cn, value: "a,b", with: of(role.urls, append(role.cert, ca)...), invalid: []string{"a,,b"}, get: role.get(func(o tlsconf.Options) any { return o.AllowedCNs }), want: []string{"a", "b"}},
			appliedCase{flag: role.hostname, value: "a,b", with: of(role.urls, append(role.cert, ca)...), invalid: []string{",b"}, get: role.get(func(o tlsconf.Options) any { return o.AllowedHostnames }), want: []string{"a", "b"}},
			appliedCase{flag: role.prefix + "auto-tls", value: "1", with: role.urls, invalid: []string{"false", "0", "x"}, get: role.get(func(o tlsconf.Options) any { return o.Auto }), want: true},
			appliedCase{flag: "self-signed-cert-validity", value: "2", with: of(role.urls, "--"+role.prefix+"auto-tls"), invalid: []string{"0", "-1", "101", ""}, get: role.get(func(o tlsconf.Options) any { return o.AutoYears }), want: 2},
			appliedCase{flag: "cipher-suites", value: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", with: of(role.urls, role.cert...), invalid: []string{"x", "TLS_RSA_WITH_RC4_128_SHA"},
				get: role.get(func(o tlsconf.Options) any { return o.CipherSuites }), want: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
			appliedCase{flag: "tls-min-version", value: "TLS1.3", with: of(role.urls, role.cert...), invalid: []string{"TLS1.1", "x"}, get: role.get(func(o tlsconf.Options) any { return o.MinVersion }), want: "TLS1.3"},
			appliedCase{flag: "tls-max-version", value: "TLS1.2", with: of(role.urls, role.cert...), invalid: []string{"TLS1.1", "x"}, get: role.get(func(o tlsconf.Options) any { return o.MaxVersion }), want: "TLS1.2"},
		)
	}
	cases = append(cases,
		appliedCase{flag: "peer-client-cert-file", value: "x", with: of(peers, append(peerCert, "--peer-client-key-file=y")...), invalid: []string{""}, get: peer(func(o tlsconf.Options) any { return o.ClientCertFile }), want: "x"},
		appliedCase{flag: "peer-client-key-file", value: "x", with: of(peers, append(peerCert, "--peer-client-cert-file=y")...), invalid: []string{""}, get: peer(func(o tlsconf.Options) any { return o.ClientKeyFile }), want: "x"})
	return append(cases, appliedCase{flag: "peer-skip-client-san-verification", value: "true", with: of(peers, peerCert...), invalid: []string{"x"},
		get: peer(func(o tlsconf.Options) any { return o.SkipNameCheck }), want: true})
}

func TestAppliedFlags(t *testing.T) {
	covered := map[string]bool{"version": true}
	byName := map[string]*Flag{}
	for _, f := range Table() {
		byName[f.Name] = f
	}
	for _, c := range append(appliedCases(), tlsCases()...) {
		covered[c.flag] = true
		f := byName[c.flag]
		spellings := [][]string{{"--" + c.flag + "=" + c.value}, {"-" + c.flag + "=" + c.value}}
		if f.Kind == Bool { // the value of a true/false flag needs the equals sign
			spellings = append(spellings, []string{"--" + c.flag}, []string{"-" + c.flag})
		} else {
			spellings = append(spellings, []string{"--" + c.flag, c.value}, []string{"-" + c.flag, c.value})
		}
		for _, spelling := range spellings {
			check(t, c, spelling, append(spelling, c.with...), nil)
		}
		check(t, c, []string{f.Env()}, c.with, []string{f.Env() + "=" + c.value})
		// The flag beats the variable, even one with a bad value.
		check(t, c, []string{"flag over environment"}, append([]string{"--" + c.flag + "=" + c.value}, c.with...), []string{f.Env() + "=garbage,,="})
		for _, bad := range c.invalid {
			_, err := Parse(append([]string{"--" + c.flag + "=" + bad}, c.with...), nil, false)
			if err == nil {
				t.Errorf("--%s=%s was accepted", c.flag, bad)
			} else if !strings.Contains(err.Error(), "--") {
				t.Errorf("--%s=%s: the error names no flag: %v", c.flag, bad, err)
			}
		}
	}
	for _, f := range Table() {
		if f.Treatment == Applied && !covered[f.Name] {
			t.Errorf("--%s has no case", f.Name)
		}
	}
}

func check(t *testing.T, c appliedCase, what, arguments, environment []string) {
	t.Helper()
	result, err := Parse(arguments, environment, false)
	if err != nil {
		t.Errorf("%v: %v", what, err)
		return
	}
	if got := c.get(result); !reflect.DeepEqual(got, c.want) {
		t.Errorf("%v: got %v, want %v", what, got, c.want)
	}
}

// TestFlagsThatAreOnByDefault: they can be turned off.
func TestFlagsThatAreOnByDefault(t *testing.T) {
	r, err := Parse([]string{"--strict-reconfig-check=false", "--auto-repair=0"}, nil, false)
	if err != nil || !r.Options.Node.SkipReconfigCheck || !r.Options.Node.RefuseDamaged {
		t.Errorf("%v: %+v", err, r.Options.Node)
	}
}

// TestDocumentedDefaults: what help says is the default changes nothing.
func TestDocumentedDefaults(t *testing.T) {
	plain, err := Parse(nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Table() {
		if f.Treatment != Applied || f.Default == "" || strings.Contains(f.Default, "NAME") {
			continue
		}
		arguments := []string{"--" + f.Name + "=" + f.Default}
		if f.Name == "listen-client-urls" {
			arguments = append(arguments, "--advertise-client-urls="+f.Default)
		}
		result, err := Parse(arguments, nil, false)
		if err != nil {
			t.Errorf("%v: %v", arguments, err)
			continue
		}
		if f.Name == "version" {
			continue
		}
		result.Options.Logger, plain.Options.Logger = nil, nil
		// What was said is remembered of a cluster's flags, beside what they are: then it must be so where the node joins.
		if got, want := exported(result.Options.Cluster), exported(plain.Options.Cluster); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, want %+v", arguments, got, want)
		}
		result.Options.Cluster = plain.Options.Cluster
		if !reflect.DeepEqual(result, plain) {
			t.Errorf("%v: got %+v, want %+v", arguments, result, plain)
		}
	}
}

func exported(o server.ClusterOptions) (fields []any) {
	v := reflect.ValueOf(o)
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() {
			fields = append(fields, v.Field(i).Interface())
		}
	}
	return fields
}

func TestDerivedDefaults(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		asEtcd    bool
		dir       string
		members   string
	}{
		{nil, false, "default.quorate", "default=http://localhost:2380"},
		{nil, true, "default.etcd", "default=http://localhost:2380"},
		{[]string{"--name=a"}, true, "a.etcd", "a=http://localhost:2380"},
		{[]string{"--name=a", "--data-dir=d"}, true, "d", "a=http://localhost:2380"},
		{[]string{"--name=a", "--initial-advertise-peer-urls=http://x:1,http://y:2"}, false, "a.quorate", "a=http://x:1,a=http://y:2"},
	} {
		result, err := Parse(c.arguments, nil, c.asEtcd)
		if err != nil {
			t.Errorf("%v: %v", c.arguments, err)
			continue
		}
		if got := result.Options.Node.DataDir; got != c.dir {
			t.Errorf("%v: data dir %s, want %s", c.arguments, got, c.dir)
		}
		if got := server.FormatMembers(result.Options.Cluster.Members); got != c.members {
			t.Errorf("%v: members %s, want %s", c.arguments, got, c.members)
		}
	}
}

// valueFor gives a value of the flag's kind that is not harmless.
func valueFor(f *Flag) string {
	switch f.Kind {
	case Bool:
		if f.isHarmless("true") {
			return "false"
		}
		return "true"
	case Unsigned, Integer:
		return "77"
	case Duration:
		return "77m"
	default:
		return "something"
	}
}

func TestIgnoredAndRefusedFlags(t *testing.T) {
	for _, f := range Table() {
		if f.Treatment == Applied {
			continue
		}
		value := valueFor(f)
		for _, input := range []struct{ arguments, environment []string }{
			{[]string{"--" + f.Name + "=" + value}, nil},
			{nil, []string{f.Env() + "=" + value}},
		} {
			result, err := Parse(input.arguments, input.environment, false)
			switch {
			case f.Treatment == Refused && (err == nil || !strings.Contains(err.Error(), f.Because)):
				t.Errorf("%v: not refused with its reason: %v", input, err)
			case f.Treatment == Ignored && err != nil:
				t.Errorf("%v: %v", input, err)
			case f.Treatment == Ignored && (len(result.Notices) != 1 || !strings.Contains(result.Notices[0], f.Because)):
				t.Errorf("%v: want one notice with the reason, got %q", input, result.Notices)
			}
		}
		for _, harmless := range f.harmless {
			if harmless == "" && f.Kind != Text {
				continue
			}
			result, err := Parse([]string{"--" + f.Name + "=" + harmless}, nil, false)
			if err != nil || len(result.Notices) != 0 {
				t.Errorf("--%s=%s: want silence, got %q, %v", f.Name, harmless, result.Notices, err)
			}
		}
		if f.Kind != Text && f.Kind != deadFlag {
			if _, err := Parse([]string{"--" + f.Name + "=no-such-value"}, nil, false); err == nil {
				t.Errorf("--%s took a value of another type", f.Name)
			}
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"--data-dri=x"}, "did you mean --data-dir?"},
		{[]string{"--listen-client-url=http://x:1"}, "did you mean --listen-client-urls?"},
		{[]string{"--experimental-watch-progress-notify-interval=5s"}, "did you mean --watch-progress-notify-interval?"},
		{[]string{"--qqqqqqqqqqqqq"}, "unknown flag --qqqqqqqqqqqqq; `quorate serve --help`"},
		{[]string{"--audit-policy=x"}, "have no meaning without --audit-log"},
		{[]string{"--name"}, "--name needs a value"},
		{[]string{"serve"}, `"serve" is not a flag`},
		{[]string{"--auto-tls", "false"}, `"false" is not a flag`},
		{[]string{"--"}, "is not a flag"},
		{[]string{"-"}, "is not a flag"},
		{[]string{"---name=x"}, "is not a flag"},
		{[]string{"--=x"}, "is not a flag"},
		{[]string{"--listen-client-urls=http://127.0.0.1:1"}, "--advertise-client-urls is required"},
		{[]string{"--config-file=x"}, "configuration files are not read"},
		{[]string{"--cert-file=x"}, "--cert-file is given, and no URL of --listen-client-urls"},
		{[]string{"--auto-tls"}, "--auto-tls is given, and no URL"},
		{[]string{"--peer-auto-tls"}, "--peer-auto-tls is given, and no URL of --listen-peer-urls"},
		{[]string{"--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, "nothing would be encrypted"},
		{[]string{"--listen-metrics-urls=https://127.0.0.1:1"}, "give --cert-file and --key-file, or --auto-tls"},
		{[]string{"--listen-metrics-urls=https://127.0.0.1:1", "--auto-tls", "--client-cert-auth"}, "--client-cert-auth needs --trusted-ca-file"},
		{[]string{"--client-cert-file=x"}, "--client-cert-file=x is refused: etcd's JSON gateway alone shows this certificate"},
		{[]string{"--listen-client-http-urls=http://localhost:2379"}, "both name http://localhost:2379"},
		{[]string{"--listen-peer-urls=https://127.0.0.1:1"}, "mix http:// and https://"},
		{[]string{"--listen-peer-urls=unix:///x"}, "only clients can use sockets"},
		{[]string{"--auth-token=jwt,pub-key=x"}, "sign-method must be one of"},
		{[]string{"--auth-token=jwt,sign-method=RS256"}, "neither priv-key nor pub-key is given"},
		{[]string{"--auth-token=x"}, "unknown type of tokens"},
		{[]string{"--listen-client-urls=https://127.0.0.1:1"}, "--advertise-client-urls is required"},
		{[]string{"--listen-peer-urls=http://localhost:2379"}, "both name http://localhost:2379"},
	} {
		_, err := Parse(c.arguments, nil, false)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want an error with %q", c.arguments, err, c.want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, argument := range []string{"-h", "--help", "-help"} {
		if result, err := Parse([]string{argument}, nil, false); err != nil || !result.Help {
			t.Errorf("%s: %+v, %v", argument, result, err)
		}
	}
	if result, err := Parse([]string{"--version", "--name="}, nil, false); err == nil {
		t.Errorf("a bad flag beside --version: %+v", result)
	}
	if result, err := Parse([]string{"--version"}, []string{"ETCD_VERSION=3.5.1"}, false); err != nil || !result.Version {
		t.Errorf("--version: %+v, %v", result, err)
	}
	if result, err := Parse(nil, []string{"ETCD_VERSION=3.5.1"}, false); err != nil || result.Version || len(result.Notices) != 0 {
		t.Errorf("ETCD_VERSION: %+v, %v", result, err)
	}
	for _, f := range Table() {
		if f.Treatment == Applied && !strings.Contains(Help(), "  --"+f.Name+" ") && !strings.Contains(Help(), "  --"+f.Name+"\n") {
			t.Errorf("help does not list --%s", f.Name)
		}
	}
}

func TestEnvironment(t *testing.T) {
	result, err := Parse(nil, []string{"ETCD_NAME=e", "ETCD_DATA_DIR=", "ETCD_PORT=tcp://10.0.0.1:2379", "PATH=/bin", "QUORATE_READ_SAFETY=quorum", "QUORATE_ENDPOINTS=x"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if result.Options.Node.Name != "e" || result.Options.Node.DataDir != "e.quorate" || result.Options.Cluster.ReadSafety != server.ReadQuorum {
		t.Errorf("got %+v", result.Options)
	}
	if len(result.Notices) != 1 || !strings.Contains(result.Notices[0], "ETCD_PORT") {
		t.Errorf("notices: %q", result.Notices)
	}
	if _, err := Parse(nil, []string{"ETCD_HEARTBEAT_INTERVAL=fast"}, false); err == nil || !strings.Contains(err.Error(), "ETCD_HEARTBEAT_INTERVAL") {
		t.Errorf("a bad variable: %v", err)
	}
}

func TestRemarks(t *testing.T) {
	result, err := Parse([]string{"--initial-cluster=default=http://localhost:2380,b=http://x:1", "--advertise-client-urls=http://0.0.0.0:2379"}, nil, false)
	if err != nil || len(result.Notices) != 2 {
		t.Errorf("got %q, %v", result.Notices, err)
	}
}

// TestEditDistance compares with the definition, computed without a table.
func TestEditDistance(t *testing.T) {
	var naive func(a, b string) int
	naive = func(a, b string) int {
		if a == "" || b == "" {
			return len(a) + len(b)
		}
		if a[0] == b[0] {
			return naive(a[1:], b[1:])
		}
		return 1 + min(naive(a[1:], b), naive(a, b[1:]), naive(a[1:], b[1:]))
	}
	words := []string{"", "a", "ab", "ba", "name", "nmae", "names", "anem", "data", "date", "tada"}
	for _, a := range words {
		for _, b := range words {
			if got, want := editDistance(a, b), naive(a, b); got != want {
				t.Errorf("editDistance(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("--name=a\n--data-dir\nx", "ETCD_NAME=b")
	f.Add("--initial-cluster=a=http://x:1,b=http://y:2\n--name=a", "")
	f.Fuzz(func(t *testing.T, arguments, environment string) {
		result, err := Parse(strings.Split(arguments, "\n"), strings.Split(environment, "\n"), false)
		if err != nil || result.Help || result.Version {
			return
		}
		if err := result.Options.Validate(); err != nil {
			t.Fatalf("accepted and not valid: %v", err)
		}
	})
}

// TestJoinRefusals: what cannot be meant together.
func TestJoinRefusals(t *testing.T) {
	for want, arguments := range map[string][]string{
		"leave --initial-cluster out": {"--join=a:1", "--initial-cluster=default=http://localhost:2380"},
		"--join is not":               {"--join-user=root"},
	} {
		if _, err := Parse(arguments, nil, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", arguments, err)
		}
	}
}
