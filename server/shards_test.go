package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/transport/freeport"
)

// soon bounds what must happen on a machine that has much else to do.
const soon = 60 * time.Second

// shardCluster is three nodes in this process.
type shardCluster struct {
	t       testing.TB
	table   *partition.Table
	options []Options
	servers []*Server // nil: does not run
	lines   *logLines
}

// logLines keeps what all nodes log.
type logLines struct {
	slog.Handler
	mu   sync.Mutex
	text strings.Builder
}

func newLogLines() *logLines {
	l := &logLines{}
	l.Handler = slog.NewTextHandler(l, nil)
	return l
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newShardCluster prepares three nodes, and starts none.
func newShardCluster(t testing.TB, cluster ClusterOptions) *shardCluster {
	t.Helper()
	c := &shardCluster{t: t, servers: make([]*Server, 3), lines: newLogLines()}
	cluster.HeartbeatInterval, cluster.ElectionTimeout = 80*time.Millisecond, 800*time.Millisecond
	cluster.Token = "shards"
	var clients []URL
	for i := range c.servers {
		clients = append(clients, freeURL(t))
		cluster.Members = append(cluster.Members, Member{Name: fmt.Sprintf("n%d", i+1), PeerURLs: []URL{freeURL(t)}})
	}
	dir := t.TempDir()
	for i, member := range cluster.Members {
		c.options = append(c.options, Options{
			Node: NodeOptions{
				Name: member.Name, DataDir: filepath.Join(dir, member.Name), ListenClientURLs: clients[i : i+1], AdvertiseClientURLs: clients[i : i+1],
				ListenPeerURLs: member.PeerURLs, AdvertisePeerURLs: member.PeerURLs,
			},
			Cluster: cluster, Logger: slog.New(c.lines),
		})
	}
	var err error
	if c.table, err = partition.New(c.options[0].WithDefaults().Cluster.Partition); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.close(0, 1, 2)
		if t.Failed() {
			t.Log(c.lines.String())
		}
	})
	return c
}

func freeURL(t testing.TB) URL {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	u, err := ParseURL("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// start starts nodes, and waits until they are ready.
func (c *shardCluster) start(nodes ...int) {
	c.t.Helper()
	for _, i := range nodes {
		s, err := Start(c.t.Context(), c.options[i])
		if err != nil {
			c.t.Fatal(err)
		}
		c.servers[i] = s
	}
	for _, i := range nodes {
		select {
		case <-c.servers[i].Ready():
		case err := <-c.servers[i].Err():
			c.t.Fatal(err)
		case <-time.After(soon):
			c.t.Fatalf("node %d is not ready", i+1)
		}
	}
}

// close ends nodes in order.
func (c *shardCluster) close(nodes ...int) {
	var wait sync.WaitGroup
	for _, i := range nodes {
		if s := c.servers[i]; s != nil {
			wait.Go(func() {
				if err := s.Close(context.Background()); err != nil {
					c.t.Error(err)
				}
			})
		}
		c.servers[i] = nil
	}
	wait.Wait()
}

// kill ends a node that hands nothing over.
func (c *shardCluster) kill(node int) {
	s := c.servers[node]
	c.servers[node] = nil
	s.closing.Do(func() {
		s.leaving.Store(true)
		if err := s.end(context.Background()); err != nil {
			c.t.Error(err)
		}
	})
}

// client is connected to one node.
func (c *shardCluster) client(node int) *clientv3.Client {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.options[node].Node.ListenClientURLs[0].HostPort()}, Logger: zap.NewNop()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

func (c *shardCluster) context() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), soon)
	c.t.Cleanup(cancel)
	return ctx
}

// until waits for a condition of all nodes that run.
func (c *shardCluster) until(what string, holds func() error) {
	c.t.Helper()
	deadline := time.Now().Add(soon)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// keys are of all shards, three each.
func (c *shardCluster) keys() map[kv.ShardID][]string {
	found := map[kv.ShardID][]string{}
	for left, i := 3*len(c.table.Descriptors()), 0; left > 0; i++ {
		key := fmt.Sprintf("/%c/dir%d/key", 'a'+rune(i%26), i)
		shard := c.table.Overlapping(kv.Span{Start: []byte(key)})[0].Shard
		if len(found[shard]) < 3 {
			found[shard] = append(found[shard], key)
			left--
		}
	}
	return found
}

// leaders are those of all shards, if all nodes that run agree, and the leaders run.
func (c *shardCluster) leaders() (map[kv.ShardID]kv.NodeID, error) {
	leaders := map[kv.ShardID]kv.NodeID{}
	for i, s := range c.servers {
		if s == nil {
			continue
		}
		for _, shard := range (localNode{s}).Shards().Shards {
			if known := leaders[shard.ID]; shard.Leader == 0 || known != 0 && known != shard.Leader {
				return nil, fmt.Errorf("node %d takes %v for the leader of shard %d, others %v", i+1, shard.Leader, shard.ID, known)
			}
			if c.servers[c.indexOf(shard.Leader)] == nil {
				return nil, fmt.Errorf("node %d takes %v for the leader of shard %d, which does not run", i+1, shard.Leader, shard.ID)
			}
			leaders[shard.ID] = shard.Leader
		}
	}
	return leaders, nil
}

func (c *shardCluster) indexOf(node kv.NodeID) int {
	return slices.IndexFunc(c.options, func(o Options) bool { return o.NodeID() == node })
}

func splitAt(keys ...string) partition.Scheme {
	s := partition.Scheme{Kind: partition.Range, Shards: 1 + len(keys)}
	for _, key := range keys {
		s.SplitKeys = append(s.SplitKeys, []byte(key))
	}
	return s
}

// TestShards: keys of each shard are written through one node and read through another, also after a restart, and what touches two shards is refused by name.
func TestShards(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]ClusterOptions{
		"one":           {},
		"range 3":       {Partition: splitAt("/f", "/m")},
		"range 8":       {Partition: splitAt("/c", "/f", "/h", "/k", "/m", "/p", "/s"), Consensus: ConsensusPaxos},
		"hash 3":        {Partition: partition.Scheme{Kind: partition.Hash, Shards: 3}, Consensus: ConsensusPaxos, Leaders: LeadersSpread},
		"hash 8":        {Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}},
		"hash 8 prefix": {Partition: partition.Scheme{Kind: partition.Hash, Shards: 8, HashPrefix: 2}, Leaders: LeadersSpread},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, cluster)
			c.start(0, 1, 2)
			keys := c.keys()
			c.write(keys)
			c.read(keys)
			c.crossShards(keys)
			c.close(0, 1, 2)
			c.start(0, 1, 2)
			c.read(keys)
		})
	}
}

func (c *shardCluster) write(keys map[kv.ShardID][]string) {
	c.t.Helper()
	clients := []*clientv3.Client{c.client(0), c.client(1), c.client(2)}
	for shard, of := range keys {
		for i, key := range of {
			c.put(clients[i%3], key, fmt.Sprint(shard, key))
		}
	}
}

// put writes a key; again if a leader is lost, which happens on a machine that has much else to do.
func (c *shardCluster) put(client *clientv3.Client, key, value string) {
	c.t.Helper()
	c.until("put "+key, func() error {
		_, err := client.Put(c.context(), key, value)
		return err
	})
}

// read gets every key from every node, and counts those of the shards.
func (c *shardCluster) read(keys map[kv.ShardID][]string) {
	c.t.Helper()
	for node := range c.servers {
		client := c.client(node)
		for shard, of := range keys {
			for _, key := range of {
				got, err := client.Get(c.context(), key)
				if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != fmt.Sprint(shard, key) {
					c.t.Fatalf("get %s at node %d: %v, %v", key, node+1, got, err)
				}
			}
		}
		for _, shard := range (localNode{c.servers[node]}).Shards().Shards {
			if shard.Keys != int64(len(keys[shard.ID])) || shard.State != "member" {
				c.t.Errorf("node %d has %d keys in shard %d (%s)", node+1, shard.Keys, shard.ID, shard.State)
			}
		}
	}
}

func (c *shardCluster) crossShards(keys map[kv.ShardID][]string) {
	c.t.Helper()
	if len(keys) == 1 {
		return
	}
	client := c.client(1)
	both := []string{fmt.Sprint(1, keys[1][0]), fmt.Sprint(3, keys[3][0])}
	moved, err := again(c, func() (*clientv3.TxnResponse, error) {
		return client.Txn(c.context()).If(clientv3.Compare(clientv3.Value(keys[1][0]), "=", both[0]), clientv3.Compare(clientv3.Value(keys[3][0]), "=", both[1])).
			Then(clientv3.OpPut(keys[1][0], both[0], clientv3.WithPrevKV()), clientv3.OpPut(keys[3][0], both[1], clientv3.WithPrevKV())).Commit()
	})
	if err != nil || !moved.Succeeded || string(moved.Responses[0].GetResponsePut().PrevKv.Value) != both[0] || string(moved.Responses[1].GetResponsePut().PrevKv.Value) != both[1] {
		c.t.Errorf("a transaction over two shards: %+v, %v", moved, err)
	}
	_, err = again(c, func() (*clientv3.TxnResponse, error) {
		return client.Txn(c.context()).If(clientv3.Compare(clientv3.Value(keys[3][0]), "=", fmt.Sprint(3, keys[3][0]))).
			Then(clientv3.OpPut(keys[3][0], fmt.Sprint(3, keys[3][0]))).Commit()
	})
	if err != nil {
		c.t.Errorf("a transaction in one shard: %v", err)
	}
}

// TestOtherShardsAreRefused: a directory and the other nodes keep the shards that a cluster was created with.
func TestOtherShardsAreRefused(t *testing.T) {
	t.Parallel()
	c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 3}})
	c.start(0, 1)
	c.close(1)
	for _, other := range []partition.Scheme{{Shards: 1}, {Kind: partition.Hash, Shards: 4}, {Kind: partition.Hash, Shards: 3, HashPrefix: 1}, splitAt("a", "b")} {
		options := c.options[1]
		options.Cluster.Partition = other
		_, err := Start(t.Context(), options)
		if err == nil || !strings.Contains(err.Error(), "created with --initial-shards=3 --initial-partition=hash, and this would be ") ||
			!strings.Contains(err.Error(), described(options)) {
			t.Errorf("%v on the directory of 3 shards by hash: %v", other, err)
		}
	}
	told := c.options[1].Cluster.Partition
	c.options[1].Cluster.Partition = partition.Scheme{} // nothing is said: then it is what the directory says
	c.start(1)
	c.options[1].Cluster.Partition = told

	// The third node has nothing yet, and other flags.
	stranger := c.options[2]
	c.options[2].Cluster.Partition.Shards = 5
	s, err := Start(t.Context(), c.options[2])
	if err != nil {
		t.Fatal(err)
	}
	c.servers[2] = s
	c.until("both nodes say why", func() error {
		text := c.lines.String()
		for _, want := range []string{
			"refuses the calling", "are those of --initial-shards=3 --initial-partition=hash and those of the other are those of --initial-shards=5 --initial-partition=hash",
			"give all nodes of a cluster the same " + shardFlags,
		} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("nobody says %q", want)
			}
		}
		return nil
	})
	select {
	case <-s.Ready():
		t.Error("a node with other shards is ready")
	default:
	}
	c.close(2)
	// Nothing was stored, but the directory has those flags now.
	c.options[2] = stranger
	if _, err := Start(t.Context(), stranger); err == nil || !strings.Contains(err.Error(), "created with --initial-shards=5") {
		t.Errorf("the directory of 5 shards: %v", err)
	}
}

func described(o Options) string {
	if text := o.WithDefaults().Cluster.partition(); text != "" {
		return text
	}
	return "one shard"
}

// TestNodeJoinsLate: a node that was down while the cluster was created has a replica of every shard, soon.
func TestNodeJoinsLate(t *testing.T) {
	t.Parallel()
	c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}})
	c.start(0, 1)
	keys := c.keys()
	writer := c.client(0)
	for shard, of := range keys {
		for _, key := range of {
			c.put(writer, key, fmt.Sprint(shard, key))
		}
	}
	c.start(2)
	c.until("it has everything", func() error {
		for _, shard := range (localNode{c.servers[2]}).Shards().Shards {
			if shard.State != "member" || shard.Keys != int64(len(keys[shard.ID])) {
				return fmt.Errorf("%+v", shard)
			}
		}
		return nil
	})
	// It counts: with one of the two old ones there is a majority.
	c.kill(0)
	reader := c.client(2)
	for shard, of := range keys {
		if got, err := reader.Get(c.context(), of[0]); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != fmt.Sprint(shard, of[0]) {
			t.Errorf("%s: %v, %v", of[0], got, err)
		}
	}
	c.start(0)
	c.read(keys)
}

// TestLeaders: leaders come to where the policy wants them, also when a node is killed, and when one is stopped in order.
func TestLeaders(t *testing.T) {
	t.Parallel()
	for _, policy := range []LeaderPolicy{LeadersSequencer, LeadersSpread} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 8}, Leaders: policy})
			c.start(0, 1, 2)
			c.until("placed", c.placed)
			c.kill(c.indexOf(c.servers[0].leaderOf(kv.SystemShard)))
			c.until("placed after a kill", c.placed)
			down := slices.Index(c.servers, nil)
			c.start(down)
			c.until("placed after the start", c.placed)
			// Shortly after a start a node neither votes nor campaigns.
			c.until("it may lead", func() error {
				if c.servers[down].clock() < 2*c.options[0].Cluster.ElectionTimeout {
					return errors.New("it has only just begun")
				}
				return nil
			})
			c.until("placed before the stop", c.placed)
			c.close(c.indexOf(c.leading(policy == LeadersSequencer)))
			if text := c.lines.String(); strings.Count(text, "handed over leadership before the stop") != 1 || strings.Contains(text, "leadership was not handed over") {
				t.Error("a node that was stopped in order did not hand over what it led")
			}
			c.until("placed after a stop", c.placed)
		})
	}
}

// leading is a node that leads shards: the one of the system shard, or another one.
func (c *shardCluster) leading(system bool) kv.NodeID {
	of := c.servers[0].leaderOf(kv.SystemShard)
	for _, d := range c.table.Descriptors() {
		if leader := c.servers[0].leaderOf(d.Shard); (leader == of) == system {
			return leader
		}
	}
	return of
}

// placed tells which leaders are not where the policy wants them.
func (c *shardCluster) placed() error {
	leaders, err := c.leaders()
	if err != nil {
		return err
	}
	count := map[kv.NodeID]int{}
	for shard, leader := range leaders {
		count[leader]++
		if c.options[0].Cluster.Leaders != LeadersSpread && leader != leaders[kv.SystemShard] {
			return fmt.Errorf("shard %d is led by %v, the system shard by %v", shard, leader, leaders[kv.SystemShard])
		}
	}
	if c.options[0].Cluster.Leaders != LeadersSpread {
		return nil
	}
	fewest, most := len(leaders), 0
	for i, s := range c.servers {
		if s != nil {
			led := count[c.options[i].NodeID()]
			fewest, most = min(fewest, led), max(most, led)
		}
	}
	if most > fewest+1 {
		return fmt.Errorf("the nodes lead %v", count)
	}
	return nil
}

func TestPartitionOptions(t *testing.T) {
	many := partition.Scheme{Kind: partition.Range, Shards: 17}
	for i := range 16 {
		many.SplitKeys = append(many.SplitKeys, []byte(strings.Repeat(string(rune('a'+i)), 1024)))
	}
	for name, c := range map[string]struct {
		given partition.Scheme
		want  string // the flags, or a part of the error
	}{
		"nothing":               {partition.Scheme{}, "--initial-shards=1"},
		"a number":              {partition.Scheme{Shards: 4}, "--initial-shards=4 --initial-partition=hash"},
		"a kind":                {partition.Scheme{Kind: partition.Hash}, "--initial-shards=1"},
		"a prefix":              {partition.Scheme{HashPrefix: 2, Shards: 3}, "--initial-shards=3 --initial-partition=hash --hash-prefix=2"},
		"a prefix, one shard":   {partition.Scheme{HashPrefix: 2}, "--initial-shards=1"},
		"split keys":            {partition.Scheme{SplitKeys: splitAt("b", "c").SplitKeys}, "--initial-shards=3 --initial-partition=range --initial-split-keys=b,c"},
		"too few split keys":    {partition.Scheme{Shards: 3, SplitKeys: splitAt("b").SplitKeys}, "3 shards by range need 2 split keys, the first key of each shard but the first, and there are 1: give that many"},
		"too many split keys":   {partition.Scheme{Shards: 2, SplitKeys: splitAt("b", "c").SplitKeys}, "2 shards by range need 1 split keys"},
		"range without keys":    {partition.Scheme{Kind: partition.Range, Shards: 3}, "there are 0: give that many, or another number of shards; the flags are --initial-shards, "},
		"hash with split keys":  {partition.Scheme{Kind: partition.Hash, Shards: 2, SplitKeys: splitAt("b").SplitKeys}, "give none, or choose range"},
		"range with a prefix":   {partition.Scheme{Kind: partition.Range, Shards: 2, HashPrefix: 1, SplitKeys: splitAt("b").SplitKeys}, "give no hash prefix, or choose hash"},
		"split keys in reverse": {splitAt("c", "b"), `"b" comes after "c": give them in order`},
		"a split key twice":     {splitAt("c", "c"), `"c" is there twice: leave one out`},
		"an empty split key":    {splitAt(""), "leave it out"},
		"a long split key":      {splitAt(strings.Repeat("k", 1025)), "give only its beginning"},
		"long split keys":       {many, "--initial-split-keys is 16399 bytes long, more than 16384: give shorter keys, or fewer"},
		"too many":              {partition.Scheme{Shards: 1025}, "1 to 1024 shards, not 1025"},
		"fewer than none":       {partition.Scheme{Shards: -1}, "1 to 1024 shards, not -1"},
	} {
		options := Options{Cluster: ClusterOptions{Partition: c.given}}.WithDefaults()
		got := options.Cluster.Partition.Flags()
		if err := options.Validate(); err != nil {
			if got = err.Error(); !errors.Is(err, ErrBadOptions) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if strings.HasPrefix(c.want, "--initial-shards") && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	options := Options{Cluster: ClusterOptions{CommitProtocol: "1pc"}}.WithDefaults()
	if err := options.Validate(); err == nil || !strings.Contains(err.Error(), `--commit-protocol=1pc: must be "2pc" or "3pc"`) {
		t.Error(err)
	}
	options = Options{Cluster: ClusterOptions{Leaders: "nobody"}}.WithDefaults()
	if err := options.Validate(); err == nil || !strings.Contains(err.Error(), `--leaders=nobody: must be "sequencer" or "spread"`) {
		t.Error(err)
	}
}

// TestJudgeShards: nodes that look for a key in different shards never talk; with one shard they say what earlier versions said.
func TestJudgeShards(t *testing.T) {
	cluster := func(s partition.Scheme) ClusterOptions {
		return Options{Cluster: ClusterOptions{Partition: s}}.WithDefaults().Cluster
	}
	long := splitAt(strings.Repeat("a", 900), strings.Repeat("b", 900))
	longer := splitAt(strings.Repeat("a", 900), strings.Repeat("c", 900))
	three := cluster(partition.Scheme{Shards: 2})
	three.CommitProtocol = Commit3PC
	all := []ClusterOptions{cluster(partition.Scheme{}), cluster(partition.Scheme{Shards: 2}), three, cluster(splitAt("b")), cluster(splitAt("c")), cluster(long), cluster(longer)}
	for i, a := range all {
		for j, b := range all {
			why := a.judgePeer(b.metadata())
			if (why == "") != (i == j) {
				t.Errorf("%s judges %s: %q", a.metadata(), b.metadata(), why)
			}
			if first, second, _ := strings.Cut(why, " and those of the other are "); why != "" && (len(why) > 3<<10 || strings.TrimPrefix(first, "its shards are ") == second) {
				t.Errorf("%d bytes: %s", len(why), why)
			}
		}
	}
	if got := string(all[0].metadata()); got != "raft" {
		t.Errorf("a node with one shard says %q", got)
	}
	if why := all[1].judgePeer([]byte("raft --initial-shards=2 --initial-partition=hash")); !strings.Contains(why, "of a version before transactions") {
		t.Errorf("of a node before transactions over several shards it says %q", why)
	}
	one := all[0]
	one.CommitProtocol = Commit3PC
	if why := one.judgePeer(all[0].metadata()); why != "" {
		t.Errorf("with one shard the commit protocol matters: %s", why)
	}
	if why := all[1].judgePeer([]byte("paxos --initial-shards=2 --initial-partition=hash")); !strings.Contains(why, "that of the other is paxos;") {
		t.Error(why)
	}
}

// TestShardFails: a node goes on without a shard, and says so; but not without the system shard.
func TestShardFails(t *testing.T) {
	s, metrics := startAlone(t, func(o *Options) { o.Cluster.Partition.Shards = 3 })
	<-s.Ready()
	s.groupFailed(2, errors.New("out of tune"))
	removed := make(chan error, 1)
	s.driver.Remove(3, func(err error) { removed <- err })
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	list := (localNode{s}).Shards().Shards
	if len(list) != 3 || list[0].State != "member" || list[1].State != "has stopped: out of tune" || list[2].State != "could not be opened" {
		t.Errorf("%+v", list)
	}
	if status := (localNode{s}).Status(); status.Shards != 3 || status.ShardsLed != 2 || !slices.Contains(status.Errors, "the replica of shard 2 has stopped: out of tune") {
		t.Errorf("%+v", status)
	}
	await(t, metrics+"/readyz/shards", http.StatusServiceUnavailable, "[-]shards failed: shard 2: its replica here has stopped; shard 3: its replica here could not be opened\n")
	text := get(t, metrics+"/metrics")
	for _, line := range []string{`quorate_shard_stopped{shard="1"} 0`, `quorate_shard_stopped{shard="2"} 1`, `quorate_shard_stopped{shard="3"} 1`, "quorate_shards 3", "quorate_shards_led 2",
		"quorate_shards_without_leader 1", "quorate_shards_not_ready 2", `quorate_shard_leads{shard="1"} 1`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if err := s.submit(&kv.Request{Kind: kv.KindMemberList, MemberList: &kv.MemberListRequest{}}); err != nil {
		t.Error(err)
	}
	select {
	case err := <-s.Err():
		t.Errorf("the node ends: %v", err)
	default:
	}
	s.groupFailed(1, errors.New("out of order"))
	if err := <-s.Err(); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("without the system shard: %v", err)
	}
}

func TestRate(t *testing.T) {
	var r rate
	for i, step := range []struct {
		counted uint64
		want    float64
	}{{1000, 0}, {1100, 50}, {1200, 75}, {1200, 37.5}, {5, 18.75}, {105, 59.375}} {
		if r.count(step.counted, time.Duration(i)*time.Second); r.perSecond != step.want {
			t.Errorf("step %d: %v, want %v", i, r.perSecond, step.want)
		}
	}
	for i := range 20 {
		r.count(105, time.Duration(6+i)*time.Second)
	}
	if r.perSecond != 0 {
		t.Errorf("nothing is done, and the rate is %v", r.perSecond)
	}
	r.count(500, 0) // the same moment, or an earlier one
	if r.perSecond != 0 {
		t.Errorf("in no time the rate becomes %v", r.perSecond)
	}
}

// TestReadyShards: a node of several shards is ready when all of them can be read there; until then its probe names those that cannot.
func TestReadyShards(t *testing.T) {
	c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 3}})
	alone, err := Start(t.Context(), c.options[0])
	if err != nil {
		t.Fatal(err)
	}
	c.servers[0] = alone
	probe := func() error { return localNode{alone}.Read(c.context(), false) }
	if err := probe(); err == nil || err.Error() != "waiting for shards [1 2 3]" {
		t.Errorf("a node that is alone: %v", err)
	}
	if alone.caughtUp(2) {
		t.Error("a shard without a leader is there")
	}
	c.start(1, 2)
	select {
	case <-alone.Ready():
	case <-time.After(soon):
		t.Fatal("never ready")
	}
	if err := probe(); err != nil {
		t.Error(err)
	}
	for _, s := range c.servers {
		for _, id := range s.options.Cluster.Partition.ShardIDs() {
			if s.leaderOf(id) == 0 {
				t.Errorf("ready, and nobody leads shard %d", id)
			}
		}
	}
	alone.waitsFor.Store(&[]kv.ShardID{3, 2})
	alone.failedShards.add(3, kv.ErrCorrupt)
	if alone.waitForShards(); alone.waitsFor.Load() != nil { // nobody waits for what has stopped
		t.Errorf("waits for %v", *alone.waitsFor.Load())
	}
}
