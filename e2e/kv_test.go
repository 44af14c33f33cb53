package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// fillRange writes five keys so that each sort target gives another order, without ties:
//
//	key  create  mod  version  value
//	a    1       2    2        v3
//	b    2       1    1        v5
//	c    3       5    5        v1
//	d    4       3    3        v4
//	e    5       4    4        v2
//
// The numbers under create and mod are ranks. It returns the revisions of the creations and of the last changes.
func fillRange(t *testing.T, c *clientv3.Client, prefix string) (create, mod map[string]int64) {
	t.Helper()
	create, mod = map[string]int64{}, map[string]int64{}
	put := func(key, value string) int64 {
		return try(c.Put(within(t), prefix+key, value))(t).Header.Revision
	}
	final := map[string]string{"a": "v3", "b": "v5", "c": "v1", "d": "v4", "e": "v2"}
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		create[key] = put(key, final[key])
		mod[key] = create[key]
	}
	for _, change := range []struct {
		key   string
		times int
	}{{"a", 1}, {"d", 2}, {"e", 3}, {"c", 4}} {
		for range change.times {
			mod[change.key] = put(change.key, final[change.key])
		}
	}
	return create, mod
}

func TestRangeOptions(t *testing.T) {
	cl := calmCluster(t)
	const prefix = "range/"
	clean(t, prefix)
	create, mod := fillRange(t, cl.Client(t), prefix)
	all := clientv3.WithPrefix()
	type options = []clientv3.OpOption
	cases := []struct {
		name    string
		key     string
		options options
		want    string
		count   int64
		more    bool
	}{
		{"one", "c", nil, "c", 1, false},
		{"missing", "x", nil, "", 0, false},
		{"prefix", "", options{all}, "abcde", 5, false},
		{"range", "b", options{clientv3.WithRange(prefix + "d")}, "bc", 2, false},
		{"empty range", "d", options{clientv3.WithRange(prefix + "b")}, "", 0, false},
		{"limit", "", options{all, clientv3.WithLimit(2)}, "ab", 5, true},
		{"limit that fits", "", options{all, clientv3.WithLimit(5)}, "abcde", 5, false},
		{"key descending", "", options{all, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "edcba", 5, false},
		{"key descending, limit", "", options{all, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(2)}, "ed", 5, true},
		{"version ascending", "", options{all, clientv3.WithSort(clientv3.SortByVersion, clientv3.SortAscend)}, "badec", 5, false},
		{"version descending", "", options{all, clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend)}, "cedab", 5, false},
		{"create ascending", "", options{all, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}, "abcde", 5, false},
		{"create descending", "", options{all, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend)}, "edcba", 5, false},
		{"mod ascending", "", options{all, clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend)}, "badec", 5, false},
		{"mod descending", "", options{all, clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend)}, "cedab", 5, false},
		{"mod, no order", "", options{all, clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortNone)}, "badec", 5, false},
		{"value ascending", "", options{all, clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "ceadb", 5, false},
		{"value descending, limit", "", options{all, clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend), clientv3.WithLimit(3)}, "bda", 5, true},
		{"first created", "", append(clientv3.WithFirstCreate(), all), "a", 5, true},
		{"last changed", "", append(clientv3.WithLastRev(), all), "c", 5, true},
		{"min mod", "", options{all, clientv3.WithMinModRev(mod["d"])}, "cde", 5, false},
		{"max mod", "", options{all, clientv3.WithMaxModRev(mod["d"])}, "abd", 5, false},
		{"min create", "", options{all, clientv3.WithMinCreateRev(create["c"])}, "cde", 5, false},
		{"max create", "", options{all, clientv3.WithMaxCreateRev(create["c"])}, "abc", 5, false},
		{"filters together", "", options{all, clientv3.WithMinCreateRev(create["b"]), clientv3.WithMaxModRev(mod["e"])}, "bde", 5, false},
		{"filter and limit", "", options{all, clientv3.WithMinModRev(mod["d"]), clientv3.WithLimit(2)}, "cd", 5, true},
		{"count only", "", options{all, clientv3.WithCountOnly()}, "", 5, false},
		{"count only, limit", "", options{all, clientv3.WithCountOnly(), clientv3.WithLimit(2)}, "", 5, false},
		{"at a revision", "", options{all, clientv3.WithRev(create["c"])}, "abc", 3, false},
		{"at a revision, limit", "", options{all, clientv3.WithRev(create["c"]), clientv3.WithLimit(1)}, "a", 3, true},
		{"at a revision, count only", "", options{all, clientv3.WithRev(create["d"]), clientv3.WithCountOnly()}, "", 4, false},
		{"before all", "", options{all, clientv3.WithRev(create["a"] - 1)}, "", 0, false},
		{"serializable at a revision", "", options{all, clientv3.WithRev(create["b"]), clientv3.WithSerializable()}, "ab", 2, false},
	}
	for _, n := range cl.Nodes {
		c := n.Client(t)
		for _, test := range cases {
			response, err := c.Get(within(t), prefix+test.key, test.options...)
			if err != nil {
				t.Errorf("%s at %s: %v", test.name, n.Name, err)
				continue
			}
			got := strings.ReplaceAll(strings.Join(keysOf(response), ""), prefix, "")
			if got != test.want || response.Count != test.count || response.More != test.more {
				t.Errorf("%s at %s: %q, count %d, more %v; want %q, %d, %v", test.name, n.Name, got, response.Count, response.More, test.want, test.count, test.more)
			}
		}
	}
}

func TestRangeGivesWhatWasPut(t *testing.T) {
	cl := calmCluster(t)
	const prefix = "range-values/"
	clean(t, prefix)
	c := cl.Client(t)
	create, mod := fillRange(t, c, prefix)
	for _, n := range cl.Nodes {
		response := try(n.Client(t).Get(within(t), prefix+"c"))(t)
		pair := response.Kvs[0]
		got := fmt.Sprintf("%s=%s create %d mod %d version %d lease %d", pair.Key, pair.Value, pair.CreateRevision, pair.ModRevision, pair.Version, pair.Lease)
		equal(t, n.Name, got, fmt.Sprintf("%sc=v1 create %d mod %d version 5 lease 0", prefix, create["c"], mod["c"]))
		response = try(n.Client(t).Get(within(t), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly()))(t)
		for _, pair := range response.Kvs {
			if len(pair.Value) != 0 || pair.ModRevision == 0 {
				t.Errorf("keys only at %s: %v", n.Name, pair)
			}
		}
		old := try(n.Client(t).Get(within(t), prefix+"c", clientv3.WithRev(mod["c"]-1)))(t).Kvs[0]
		if old.Version != 4 || old.ModRevision >= mod["c"] || old.CreateRevision != create["c"] {
			t.Errorf("the version before at %s: %v", n.Name, old)
		}
	}
}

func TestRangeFromKey(t *testing.T) {
	c := calmCluster(t).Client(t)
	// The last keys of all: nothing else is behind them.
	const prefix = "\xfe\xfefrom-key/"
	clean(t, prefix)
	for _, key := range []string{"a", "b", "c"} {
		try(c.Put(within(t), prefix+key, key))(t)
	}
	response := try(c.Get(within(t), prefix+"b", clientv3.WithFromKey()))(t)
	equal(t, "from b", strings.Join(keysOf(response), " "), prefix+"b "+prefix+"c")
	everything := try(c.Get(within(t), "", clientv3.WithFromKey(), clientv3.WithCountOnly()))(t)
	listed := try(c.Get(within(t), "", clientv3.WithPrefix(), clientv3.WithRev(everything.Header.Revision)))(t)
	equal(t, "keys from the empty key", listed.Count, int64(len(listed.Kvs)))
	equal(t, "deleted", try(c.Delete(within(t), prefix+"b", clientv3.WithFromKey()))(t).Deleted, 2)
	equal(t, "left", try(c.Get(within(t), prefix, clientv3.WithFromKey()))(t).Count, 1)
}

// A serializable read answers from the node's own state, with a quorum or without.
func testSerializableReadNeedsNoQuorum(t *testing.T, cl *cluster.Cluster) {
	try(cl.Client(t).Put(within(t), "serializable", "v"))(t)
	for _, n := range cl.Nodes {
		eventuallyReads(t, n.Client(t), "serializable", "v", clientv3.WithSerializable())
	}
	must(t, cl.Nodes[0].Kill())
	must(t, cl.Nodes[2].Kill())
	c := cl.Nodes[1].Client(t)
	eventuallyReads(t, c, "serializable", "v", clientv3.WithSerializable())
	status := try(cl.Nodes[1].Status(within(t)))(t)
	if status.Header.MemberId == 0 || status.Version == "" || status.RaftIndex == 0 {
		t.Errorf("status without a quorum: %v", status)
	}
	if _, err := c.Put(short(t), "serializable", "w"); err == nil {
		t.Error("a write was acknowledged without a quorum")
	}
	if _, err := c.Get(short(t), "serializable"); err == nil {
		t.Error("a linearizable read was answered without a quorum")
	}
}

func TestRangeStream(t *testing.T) {
	cl := calmCluster(t)
	const prefix, keys = "stream/", 3000
	clean(t, prefix)
	c := cl.Client(t)
	value := strings.Repeat("x", 500)
	for i := 0; i < keys; i += 100 {
		var puts []clientv3.Op
		for j := i; j < i+100; j++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%05d", prefix, j), value))
		}
		try(c.Txn(within(t)).Then(puts...).Commit())(t)
	}
	want := try(c.Get(within(t), prefix, clientv3.WithPrefix()))(t)
	beforeLast := want.Kvs[keys-1].ModRevision - 1
	var before []string
	for _, pair := range want.Kvs {
		if pair.ModRevision <= beforeLast {
			before = append(before, string(pair.Key))
		}
	}
	for _, n := range cl.Nodes {
		for _, test := range []struct {
			options []clientv3.OpOption
			want    []string
		}{
			{nil, keysOf(want)},
			{[]clientv3.OpOption{clientv3.WithLimit(1500)}, keysOf(want)[:1500]},
			{[]clientv3.OpOption{clientv3.WithRev(beforeLast)}, before},
			{[]clientv3.OpOption{clientv3.WithKeysOnly(), clientv3.WithSerializable(), clientv3.WithRev(want.Header.Revision)}, keysOf(want)},
		} {
			if len(test.options) == 0 {
				test.options = []clientv3.OpOption{clientv3.WithRev(0)}
			}
			stream := try(n.Client(t).GetStream(within(t), prefix, append(test.options, clientv3.WithPrefix())...))(t)
			got, err := clientv3.GetStreamToGetResponse(stream)
			if err != nil {
				t.Errorf("stream at %s: %v", n.Name, err)
				continue
			}
			if !slices.Equal(keysOf(got), test.want) {
				t.Errorf("stream at %s: %d keys, want %d", n.Name, len(got.Kvs), len(test.want))
			}
		}
	}
	stream := try(c.GetStream(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(1<<60)))(t)
	_, err := clientv3.GetStreamToGetResponse(stream)
	refused(t, "a future revision", err, rpctypes.ErrFutureRev)
}

func TestPutOptions(t *testing.T) {
	c := calmCluster(t).Client(t)
	const key = "put/key"
	clean(t, "put/")
	first := try(c.Put(within(t), key, "1", clientv3.WithPrevKV()))(t)
	if first.PrevKv != nil {
		t.Errorf("the first put has a previous pair: %v", first.PrevKv)
	}
	second := try(c.Put(within(t), key, "2", clientv3.WithPrevKV()))(t)
	if p := second.PrevKv; p == nil || string(p.Value) != "1" || p.Version != 1 || p.ModRevision != first.Header.Revision {
		t.Errorf("previous pair: %v", second.PrevKv)
	}
	lease := try(c.Grant(within(t), 600))(t)
	try(c.Put(within(t), key, "3", clientv3.WithLease(lease.ID)))(t)
	// The value changes, the lease stays.
	try(c.Put(within(t), key, "4", clientv3.WithIgnoreLease()))(t)
	pair := try(c.Get(within(t), key))(t).Kvs[0]
	equal(t, "value", string(pair.Value), "4")
	equal(t, "lease", clientv3.LeaseID(pair.Lease), lease.ID)
	// The lease goes, the value stays.
	try(c.Put(within(t), key, "", clientv3.WithIgnoreValue()))(t)
	pair = try(c.Get(within(t), key))(t).Kvs[0]
	equal(t, "value", string(pair.Value), "4")
	equal(t, "lease", pair.Lease, 0)
	equal(t, "version", pair.Version, 5)
	try(c.Revoke(within(t), lease.ID))(t)
	equal(t, "keys after the revocation", try(c.Get(within(t), key))(t).Count, 1)

	_, err := c.Put(within(t), "put/missing", "", clientv3.WithIgnoreValue())
	refused(t, "ignore_value without a key", err, rpctypes.ErrKeyNotFound)
	_, err = c.Put(within(t), "put/missing", "v", clientv3.WithIgnoreLease())
	refused(t, "ignore_lease without a key", err, rpctypes.ErrKeyNotFound)
	_, err = c.Put(within(t), key, "v", clientv3.WithIgnoreValue())
	refused(t, "ignore_value with a value", err, rpctypes.ErrValueProvided)
	_, err = c.Put(within(t), key, "v", clientv3.WithIgnoreLease(), clientv3.WithLease(7))
	refused(t, "ignore_lease with a lease", err, rpctypes.ErrLeaseProvided)
	_, err = c.Put(within(t), key, "v", clientv3.WithLease(0x7fff))
	refused(t, "a lease that is not there", err, rpctypes.ErrLeaseNotFound)
	_, err = c.Put(within(t), "", "v")
	refused(t, "an empty key", err, rpctypes.ErrEmptyKey)
	_, err = c.Get(within(t), "")
	refused(t, "reading an empty key", err, rpctypes.ErrEmptyKey)
	_, err = c.Delete(within(t), "")
	refused(t, "deleting an empty key", err, rpctypes.ErrEmptyKey)
}

func TestDelete(t *testing.T) {
	c := calmCluster(t).Client(t)
	const prefix = "delete/"
	clean(t, prefix)
	for _, key := range []string{"a", "b", "c", "d"} {
		try(c.Put(within(t), prefix+key, "of "+key))(t)
	}
	one := try(c.Delete(within(t), prefix+"a", clientv3.WithPrevKV()))(t)
	if one.Deleted != 1 || len(one.PrevKvs) != 1 || string(one.PrevKvs[0].Value) != "of a" {
		t.Errorf("delete a: %v", one)
	}
	before := try(c.Get(within(t), prefix+"b"))(t).Kvs[0]
	none := try(c.Delete(within(t), prefix+"a", clientv3.WithPrevKV()))(t)
	if none.Deleted != 0 || len(none.PrevKvs) != 0 {
		t.Errorf("delete a again: %v", none)
	}
	some := try(c.Delete(within(t), prefix, clientv3.WithPrefix(), clientv3.WithPrevKV()))(t)
	equal(t, "deleted", some.Deleted, 3)
	for i, pair := range some.PrevKvs {
		equal(t, "previous key", string(pair.Key), prefix+string("bcd"[i]))
	}
	equal(t, "left", try(c.Get(within(t), prefix, clientv3.WithPrefix()))(t).Count, 0)
	// The past is not touched, and the next life of a key is a new one.
	old := try(c.Get(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(some.Header.Revision-1)))(t)
	equal(t, "before the deletion", old.Count, 3)
	again := try(c.Put(within(t), prefix+"b", "again"))(t)
	pair := try(c.Get(within(t), prefix+"b"))(t).Kvs[0]
	if pair.Version != 1 || pair.CreateRevision != again.Header.Revision || pair.CreateRevision <= before.CreateRevision {
		t.Errorf("a new life: %v", pair)
	}
}

// Values of every byte, keys with zeros, and values of a megabyte come back as they went in.
func TestBinaryAndLarge(t *testing.T) {
	cl := calmCluster(t)
	const prefix = "binary/"
	clean(t, prefix)
	var every []byte
	for i := range 256 {
		every = append(every, byte(i))
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for i, pair := range [][2]string{{"\x00", string(every)}, {"a\x00b", ""}, {string(every), "v"}, {"large", large}} {
		n := cl.Nodes[i%len(cl.Nodes)]
		try(n.Client(t).Put(within(t), prefix+pair[0], pair[1]))(t)
		got := try(cl.Nodes[(i+1)%len(cl.Nodes)].Client(t).Get(within(t), prefix+pair[0]))(t)
		if got.Count != 1 || string(got.Kvs[0].Value) != pair[1] {
			t.Errorf("pair %d came back changed", i)
		}
	}
}

// What one node acknowledged, every other shows to a linearizable read at once.
func TestReadsFollowWrites(t *testing.T) {
	cl := calmCluster(t)
	clients := make([]*clientv3.Client, len(cl.Nodes))
	for i, n := range cl.Nodes {
		clients[i] = n.Client(t)
	}
	ctx := within(t)
	for i := range 60 {
		value := fmt.Sprint(i)
		put := try(clients[i%3].Put(ctx, "follow", value))(t)
		for j, c := range clients {
			got, err := c.Get(ctx, "follow")
			must(t, err)
			if string(got.Kvs[0].Value) != value || got.Kvs[0].ModRevision != put.Header.Revision || got.Header.Revision < put.Header.Revision {
				t.Fatalf("write %d through node %d, read through node %d: %v", i, i%3, j, got)
			}
		}
	}
}

func eventuallyReads(t *testing.T, c *clientv3.Client, key, want string, options ...clientv3.OpOption) {
	t.Helper()
	eventually(t, "read "+key, func(ctx context.Context) error {
		response, err := c.Get(ctx, key, options...)
		switch {
		case err != nil:
			return err
		case response.Count != 1 || string(response.Kvs[0].Value) != want:
			return fmt.Errorf("%v", response)
		}
		return nil
	})
}
