// Package snapshots carries stores between etcd and Quorate: snapshots of the real etcd are restored into Quorate, and those of Quorate with etcd's own tool
// into the real etcd. Both then answer the same about every key at every revision, and about leases.
package snapshots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "snapshots-")
	if err == nil {
		program = filepath.Join(dir, "quorate")
		build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/quorate") // as e2e does, so that little is compiled twice
		build.Dir = "../.."
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build quorate:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// store is a running node, of either.
type store struct {
	t *testing.T
	*clientv3.Client
	ctx      context.Context
	endpoint string
	stop     func()
}

func freeURL(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", nextPort.Add(1))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return "http://" + address
		}
	}
	t.Fatal("no free port")
	return ""
}

// nextPort gives each port once: tests run beside each other, and would fill each other's stores. The ports are below those of outgoing connections.
var nextPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(int64(10_000 + os.Getpid()%20_000))
	return &n
}()

func connect(t *testing.T, endpoint string, stop func()) *store {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); c.Close() })
	s := &store{t, c, ctx, endpoint, stop}
	t.Cleanup(stop)
	for {
		if _, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly()); err == nil || rpctypes.Error(err) == rpctypes.ErrUserEmpty {
			return s
		} else if ctx.Err() != nil {
			t.Fatalf("%s does not serve: %v", endpoint, err)
		}
	}
}

func mustParse(t *testing.T, text string) []url.URL {
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return []url.URL{*u}
}

// startEtcd starts the real etcd. dir may be one that was restored, with the peer URL and token it was restored with.
func startEtcd(t *testing.T, dir, peer, token string) *store {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name, cfg.LogLevel, cfg.InitialClusterToken = dir, "n1", "error", token
	client := freeURL(t)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = mustParse(t, peer), mustParse(t, peer)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = mustParse(t, client), mustParse(t, client)
	cfg.InitialCluster = "n1=" + peer
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	return connect(t, client, func() {
		if !stopped {
			stopped = true
			e.Close()
		}
	})
}

func flagsOf(dir, peer string, more []string) []string {
	return append([]string{"--name=n1", "--data-dir=" + dir, "--initial-cluster=n1=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--listen-peer-urls=" + peer}, more...)
}

func startQuorate(t *testing.T, dir, peer string, more ...string) *store {
	client := freeURL(t)
	arguments := append(flagsOf(dir, peer, more), "--listen-client-urls="+client, "--advertise-client-urls="+client)
	node := exec.Command(program, append([]string{"serve"}, arguments...)...)
	log := &strings.Builder{}
	node.Stderr = log
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	return connect(t, client, func() {
		if stopped {
			return
		}
		stopped = true
		node.Process.Signal(os.Interrupt)
		node.Wait()
		if t.Failed() {
			t.Logf("the node's log:\n%s", log)
		}
	})
}

// restoreQuorate restores a snapshot, and returns the token to start with.
func restoreQuorate(t *testing.T, file, dir, peer string, more ...string) (token string) {
	arguments := append([]string{"restore", "--from-etcd-snapshot=" + file}, flagsOf(dir, peer, more)...)
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", arguments, err, out)
	}
	_, token, _ = strings.Cut(string(out), "--initial-cluster-token=")
	return strings.TrimSpace(token)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fill writes what a snapshot has to carry: keys written often, deleted, created again, in transactions over many, with leases whose keys are anywhere, and a
// compaction in the middle.
func (s *store) fill(seed uint64, compacts bool) {
	t, rng := s.t, rand.New(rand.NewPCG(seed, 1))
	key := func() string { return fmt.Sprintf("d%d/k%d", rng.IntN(6), rng.IntN(12)) }
	var leases []clientv3.LeaseID
	for i := range 4 {
		grant := must[*clientv3.LeaseGrantResponse](t)(s.Grant(s.ctx, int64(500+i)))
		leases = append(leases, grant.ID)
	}
	must[*clientv3.LeaseRevokeResponse](t)(s.Revoke(s.ctx, leases[3]))
	for i := range 300 {
		switch k := key(); rng.IntN(10) {
		case 0:
			must[*clientv3.DeleteResponse](t)(s.Delete(s.ctx, k))
		case 1:
			must[*clientv3.DeleteResponse](t)(s.Delete(s.ctx, k[:3], clientv3.WithPrefix()))
		case 2:
			must[*clientv3.PutResponse](t)(s.Put(s.ctx, k, "leased", clientv3.WithLease(leases[rng.IntN(3)])))
		case 3:
			var ops []clientv3.Op
			for _, n := range rng.Perm(12)[:5] {
				if at := fmt.Sprintf("d%d/k%d", rng.IntN(6), n); n%3 == 0 {
					ops = append(ops, clientv3.OpDelete(at))
				} else {
					ops = append(ops, clientv3.OpPut(at, fmt.Sprint("txn", i)))
				}
			}
			must[*clientv3.TxnResponse](t)(s.Txn(s.ctx).Then(ops...).Commit())
		case 4:
			must[*clientv3.PutResponse](t)(s.Put(s.ctx, k, strings.Repeat("large", 2000+rng.IntN(2000))))
		default:
			must[*clientv3.PutResponse](t)(s.Put(s.ctx, k, fmt.Sprint("value", i)))
		}
		if compacts && i == 200 {
			now := must[*clientv3.GetResponse](t)(s.Get(s.ctx, "d"))
			must[*clientv3.CompactResponse](t)(s.Compact(s.ctx, now.Header.Revision-20))
		}
	}
}

// content is all that clients can learn of a store.
type content struct {
	revision, compacted int64
	byRevision          map[int64][]*mvccpb.KeyValue
	events              []string
	leases              map[clientv3.LeaseID]string
}

// read reads everything up to a revision; 0: the newest.
func (s *store) read(to int64) content {
	t := s.t
	c := content{byRevision: map[int64][]*mvccpb.KeyValue{}, leases: map[clientv3.LeaseID]string{}}
	c.revision = must[*clientv3.GetResponse](t)(s.Get(s.ctx, "d", clientv3.WithPrefix())).Header.Revision
	if to != 0 {
		c.revision = to
	}
	for rev := c.revision; rev > 0; rev-- {
		r, err := s.Get(s.ctx, "d", clientv3.WithPrefix(), clientv3.WithRev(rev))
		if errors.Is(err, rpctypes.ErrCompacted) {
			c.compacted = rev + 1
			break
		}
		c.byRevision[rev] = must[*clientv3.GetResponse](t)(r, err).Kvs
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	seen := int64(0)
	marker := int64(0)
	if to == 0 {
		marker = must[*clientv3.PutResponse](t)(s.Put(s.ctx, "marker", "")).Header.Revision
	}
	for r := range s.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(max(c.compacted, 1))) {
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Events {
			if seen = e.Kv.ModRevision; seen <= c.revision && strings.HasPrefix(string(e.Kv.Key), "d") {
				c.events = append(c.events, fmt.Sprintf("%v %d %s %d %d %d %.20s",
					e.Type, e.Kv.ModRevision, e.Kv.Key, e.Kv.CreateRevision, e.Kv.Version, e.Kv.Lease, e.Kv.Value))
			}
		}
		if seen >= max(marker, c.revision) {
			break
		}
	}
	for _, l := range must[*clientv3.LeaseLeasesResponse](t)(s.Leases(s.ctx)).Leases {
		info := must[*clientv3.LeaseTimeToLiveResponse](t)(s.TimeToLive(s.ctx, l.ID, clientv3.WithAttachedKeys()))
		var keys []string
		for _, k := range info.Keys {
			keys = append(keys, string(k))
		}
		slices.Sort(keys)
		c.leases[l.ID] = fmt.Sprint(info.GrantedTTL, keys)
		if info.TTL > info.GrantedTTL || info.TTL < info.GrantedTTL-60 {
			t.Errorf("lease %x of %d s has %d s left", l.ID, info.GrantedTTL, info.TTL)
		}
	}
	return c
}

func (c content) mustEqual(t *testing.T, other content) {
	t.Helper()
	if c.revision != other.revision || c.compacted != other.compacted {
		t.Errorf("revision %d compacted at %d, want %d and %d", other.revision, other.compacted, c.revision, c.compacted)
	}
	for rev := range c.byRevision {
		if a, b := fmt.Sprint(c.byRevision[rev]), fmt.Sprint(other.byRevision[rev]); a != b {
			t.Fatalf("at revision %d: %.300s\nwant %.300s", rev, b, a)
		}
	}
	for i := range max(len(c.events), len(other.events)) {
		if i >= len(c.events) || i >= len(other.events) || c.events[i] != other.events[i] {
			t.Fatalf("event %d of %d and %d differs: %v\nwant %v", i, len(other.events), len(c.events), at(other.events, i), at(c.events, i))
		}
	}
	if !reflect.DeepEqual(c.leases, other.leases) {
		t.Errorf("leases %v, want %v", other.leases, c.leases)
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}

// save does what etcdctl snapshot save does.
func (s *store) save() string {
	file := filepath.Join(s.t.TempDir(), "snapshot.db")
	version, err := snapshot.NewV3(zap.NewNop()).Save(s.ctx, clientv3.Config{Endpoints: []string{s.endpoint}, Logger: zap.NewNop()}, file)
	if err != nil || version != "3.7.0" {
		s.t.Fatalf("save a snapshot: version %q, %v", version, err)
	}
	return file
}

var shapes = map[string][]string{
	"1 shard":                {},
	"8 by hash":              {"--initial-shards=8", "--initial-partition=hash"},
	"3 by range, 3pc, paxos": {"--initial-shards=3", "--initial-partition=range", "--initial-split-keys=d2/k5,d4", "--commit-protocol=3pc", "--consensus=paxos"},
}

// TestFromEtcd restores a snapshot of etcd into Quorate.
func TestFromEtcd(t *testing.T) {
	t.Parallel() // most of the time they wait for disks
	for _, compacts := range []bool{false, true} {
		peer := freeURL(t)
		source := startEtcd(t, t.TempDir(), peer, "x")
		source.fill(3, compacts)
		revision := must[*clientv3.GetResponse](t)(source.Get(source.ctx, "d")).Header.Revision
		file := source.save()
		want := source.read(0)
		source.stop()
		if want.revision != revision || want.compacted > 1 != compacts {
			t.Fatalf("the source is at revision %d, compacted at %d", want.revision, want.compacted)
		}
		hashes := map[string]uint32{}
		for name, flags := range shapes {
			if !compacts && len(flags) > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s, compacted %v", name, compacts), func(t *testing.T) {
				dir, peer := filepath.Join(t.TempDir(), "data"), freeURL(t)
				token := restoreQuorate(t, file, dir, peer, flags...)
				s := startQuorate(t, dir, peer, append(flags, "--initial-cluster-token="+token)...)
				hashes[name] = must[*clientv3.HashKVResponse](t)(s.HashKV(s.ctx, s.endpoint, revision)).Hash
				want.mustEqual(t, s.read(0))
				if r := must[*clientv3.PutResponse](t)(s.Put(s.ctx, "d0/new", "x")); r.Header.Revision <= revision {
					t.Errorf("the next revision is %d, after %d", r.Header.Revision, revision)
				}
			})
		}
		for name, hash := range hashes {
			if hash != hashes["1 shard"] {
				t.Errorf("with %s the hash is %x, with one %x", name, hash, hashes["1 shard"])
			}
		}
	}
}

// TestToEtcd restores snapshots of Quorate with etcd's tool into etcd.
func TestToEtcd(t *testing.T) {
	t.Parallel()
	for name, flags := range shapes {
		for _, compacts := range []bool{false, true} {
			if compacts == (name == "8 by hash") {
				continue
			}
			t.Run(fmt.Sprintf("%s, compacted %v", name, compacts), func(t *testing.T) {
				t.Parallel()
				source := startQuorate(t, filepath.Join(t.TempDir(), "data"), freeURL(t), flags...)
				source.fill(5, compacts)
				file := source.save()
				want := source.read(0)
				source.stop()
				toEtcd(t, file, want)
			})
		}
	}
}

func toEtcd(t *testing.T, file string, want content) {
	tool := snapshot.NewV3(zap.NewNop())
	status, err := tool.Status(file)
	if err != nil || status.Revision != want.revision || status.Version != "3.7.0" || status.TotalKey != len(want.byRevision[want.revision]) {
		t.Fatalf("status %+v, %v; want revision %d and %d keys", status, err, want.revision, len(want.byRevision[want.revision]))
	}
	dir, peer := filepath.Join(t.TempDir(), "data"), freeURL(t)
	err = tool.Restore(snapshot.RestoreConfig{SnapshotPath: file, Name: "n1", OutputDataDir: dir, PeerURLs: []string{peer}, InitialCluster: "n1=" + peer,
		InitialClusterToken: "y"})
	if err != nil {
		t.Fatal(err)
	}
	want.mustEqual(t, startEtcd(t, dir, peer, "y").read(0))
}
