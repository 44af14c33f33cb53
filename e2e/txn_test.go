package e2e

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

func TestTxnCompares(t *testing.T) {
	cl := calmCluster(t)
	c := cl.Client(t)
	const key, missing = "compare/k", "compare/missing"
	clean(t, "compare/")
	lease := try(c.Grant(within(t), 600))(t)
	create := try(c.Put(within(t), key, "a", clientv3.WithLease(lease.ID)))(t).Header.Revision
	mod := try(c.Put(within(t), key, "m", clientv3.WithLease(lease.ID)))(t).Header.Revision
	compare := clientv3.Compare
	// Each transaction has a read in it: one without operations is a serializable read for etcd, and may be late.
	cases := []struct {
		name string
		cmp  clientv3.Cmp
		want bool
	}{
		{"value =", compare(clientv3.Value(key), "=", "m"), true},
		{"value = not", compare(clientv3.Value(key), "=", "a"), false},
		{"value !=", compare(clientv3.Value(key), "!=", "a"), true},
		{"value <", compare(clientv3.Value(key), "<", "n"), true},
		{"value < not", compare(clientv3.Value(key), "<", "m"), false},
		{"value >", compare(clientv3.Value(key), ">", "l"), true},
		{"version =", compare(clientv3.Version(key), "=", 2), true},
		{"version <", compare(clientv3.Version(key), "<", 2), false},
		{"version >", compare(clientv3.Version(key), ">", 1), true},
		{"create =", compare(clientv3.CreateRevision(key), "=", create), true},
		{"create !=", compare(clientv3.CreateRevision(key), "!=", create), false},
		{"create >", compare(clientv3.CreateRevision(key), ">", create-1), true},
		{"mod =", compare(clientv3.ModRevision(key), "=", mod), true},
		{"mod <", compare(clientv3.ModRevision(key), "<", mod+1), true},
		{"lease =", compare(clientv3.LeaseValue(key), "=", lease.ID), true},
		{"lease !=", compare(clientv3.LeaseValue(key), "!=", lease.ID), false},
		{"missing: version 0", compare(clientv3.Version(missing), "=", 0), true},
		{"missing: create 0", compare(clientv3.CreateRevision(missing), "=", 0), true},
		{"missing: mod 0", compare(clientv3.ModRevision(missing), "<", 1), true},
		{"missing: lease 0", compare(clientv3.LeaseValue(missing), "=", 0), true},
		{"missing: a value fails", compare(clientv3.Value(missing), "=", ""), false},
		{"missing: a value fails even !=", compare(clientv3.Value(missing), "!=", "x"), false},
	}
	for _, n := range cl.Nodes {
		client := n.Client(t)
		for _, test := range cases {
			response, err := client.Txn(within(t)).If(test.cmp).Then(clientv3.OpGet(key)).Else(clientv3.OpGet(key)).Commit()
			if err != nil || response.Succeeded != test.want {
				t.Errorf("%s at %s: %v, %v; want %v", test.name, n.Name, response, err, test.want)
			}
		}
	}
}

// A comparison of a range holds when it holds for every key in it.
func TestTxnCompareRanges(t *testing.T) {
	c := calmCluster(t).Client(t)
	const prefix = "compare-range/"
	clean(t, prefix)
	for _, key := range []string{"a", "b", "c"} {
		try(c.Put(within(t), prefix+key, "v"+key))(t)
	}
	try(c.Put(within(t), prefix+"c", "vc"))(t)
	compare := clientv3.Compare
	for _, test := range []struct {
		name string
		cmp  clientv3.Cmp
		want bool
	}{
		{"all exist", compare(clientv3.CreateRevision(prefix), ">", 0).WithPrefix(), true},
		{"one has version 2", compare(clientv3.Version(prefix), "=", 1).WithPrefix(), false},
		{"a and b have version 1", compare(clientv3.Version(prefix+"a"), "=", 1).WithRange(prefix + "c"), true},
		{"values", compare(clientv3.Value(prefix), ">", "v").WithPrefix(), true},
		{"values, not all", compare(clientv3.Value(prefix), "<", "vc").WithPrefix(), false},
		{"no key: version 0", compare(clientv3.Version(prefix+"x"), "=", 0).WithPrefix(), true},
		{"no key: version above 0", compare(clientv3.Version(prefix+"x"), ">", 0).WithPrefix(), false},
		{"no key: value", compare(clientv3.Value(prefix+"x"), "=", "").WithPrefix(), false},
		{"no leases", compare(clientv3.LeaseValue(prefix), "=", 0).WithPrefix(), true},
	} {
		response, err := c.Txn(within(t)).If(test.cmp).Then(clientv3.OpGet(prefix)).Else(clientv3.OpGet(prefix)).Commit()
		if err != nil || response.Succeeded != test.want {
			t.Errorf("%s: %v, %v; want %v", test.name, response, err, test.want)
		}
	}
}

func TestTxnBranchesAndOwnWrites(t *testing.T) {
	cl := calmCluster(t)
	const prefix = "txn/"
	clean(t, prefix)
	for i, n := range cl.Nodes {
		c := n.Client(t)
		a, b := fmt.Sprintf("%s%d/a", prefix, i), fmt.Sprintf("%s%d/b", prefix, i)
		response := try(c.Txn(within(t)).
			If(clientv3.Compare(clientv3.Version(a), "=", 0)).
			Then(clientv3.OpGet(a), clientv3.OpPut(a, "1", clientv3.WithPrevKV()), clientv3.OpGet(a), clientv3.OpPut(b, "2"),
				clientv3.OpGet(fmt.Sprintf("%s%d/", prefix, i), clientv3.WithPrefix(), clientv3.WithCountOnly()), clientv3.OpDelete(prefix+"nothing", clientv3.WithPrevKV()), clientv3.OpGet(b)).
			Else(clientv3.OpPut(a, "wrong")).
			Commit())(t)
		r := response.Responses
		equal(t, "succeeded", response.Succeeded, true)
		equal(t, "answers", len(r), 7)
		revision := response.Header.Revision
		if got := r[0].GetResponseRange(); got.Count != 0 {
			t.Errorf("before the put: %v", got)
		}
		if got := r[2].GetResponseRange(); got.Count != 1 || string(got.Kvs[0].Value) != "1" || got.Kvs[0].ModRevision != revision {
			t.Errorf("own write at %d: %v", revision, got)
		}
		equal(t, "count of own writes", r[4].GetResponseRange().Count, 2)
		equal(t, "deletion of nothing", r[5].GetResponseDeleteRange().Deleted, 0)
		if got := r[6].GetResponseRange(); got.Count != 1 || string(got.Kvs[0].Value) != "2" {
			t.Errorf("own write of b: %v", got)
		}
		response = try(c.Txn(within(t)).If(clientv3.Compare(clientv3.Version(a), "=", 0)).Then(clientv3.OpPut(a, "wrong")).Else(clientv3.OpGet(a)).Commit())(t)
		if response.Succeeded || string(response.Responses[0].GetResponseRange().Kvs[0].Value) != "1" {
			t.Errorf("second run: %v", response)
		}
	}
}

// All changes of a transaction have one revision; one that changes nothing takes none.
func testTxnRevisions(t *testing.T, cl *cluster.Cluster) {
	c := cl.Client(t)
	before := try(c.Put(within(t), "txn-revision", "v"))(t).Header.Revision
	key := func(name string) string { return "txn-revision/" + name }
	empty := try(c.Txn(within(t)).Then(clientv3.OpGet("txn-revision"), clientv3.OpDelete(key("missing"))).Commit())(t)
	equal(t, "revision after a transaction without effects", empty.Header.Revision, before)
	nothing := try(c.Delete(within(t), "txn-revision/missing"))(t)
	equal(t, "revision after a deletion of nothing", nothing.Header.Revision, before)
	many := try(c.Txn(within(t)).Then(clientv3.OpPut(key("1"), ""), clientv3.OpPut(key("2"), ""),
		clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key("3"), "")}, nil)).Commit())(t)
	equal(t, "revision after three puts in one", many.Header.Revision, before+1)
	for _, pair := range try(c.Get(within(t), "txn-revision/", clientv3.WithPrefix()))(t).Kvs {
		equal(t, string(pair.Key), pair.ModRevision, before+1)
	}
	deleted := try(c.Delete(within(t), "txn-revision/", clientv3.WithPrefix()))(t)
	equal(t, "revision after a deletion of three", deleted.Header.Revision, before+2)
}

func TestTxnNested(t *testing.T) {
	c := calmCluster(t).Client(t)
	const prefix = "nested/"
	clean(t, prefix)
	version := func(key string) clientv3.Cmp {
		return clientv3.Compare(clientv3.Version(prefix+key), "=", 0)
	}
	// Comparisons, nested ones too, see the state before the transaction; reads see its writes.
	response := try(c.Txn(within(t)).If(version("a")).Then(
		clientv3.OpPut(prefix+"a", "outer"),
		clientv3.OpTxn([]clientv3.Cmp{version("a")},
			[]clientv3.Op{clientv3.OpPut(prefix+"b", "then"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet(prefix, clientv3.WithPrefix())}, nil)},
			[]clientv3.Op{clientv3.OpPut(prefix+"b", "else")}),
	).Commit())(t)
	inner := response.Responses[1].GetResponseTxn()
	equal(t, "the inner comparison", inner.Succeeded, true)
	innermost := inner.Responses[1].GetResponseTxn().Responses[0].GetResponseRange()
	if innermost.Count != 2 || string(innermost.Kvs[0].Value) != "outer" || string(innermost.Kvs[1].Value) != "then" {
		t.Errorf("innermost read: %v", innermost)
	}
}

func TestTxnErrors(t *testing.T) {
	c := calmCluster(t).Client(t)
	const prefix = "txn-errors/"
	clean(t, prefix)
	commit := func(ops ...clientv3.Op) error {
		_, err := c.Txn(within(t)).Then(ops...).Commit()
		return err
	}
	put := func(key string) clientv3.Op { return clientv3.OpPut(prefix+key, "v") }
	refused(t, "two puts of a key", commit(put("a"), put("a")), rpctypes.ErrDuplicateKey)
	refused(t, "a put and a nested put", commit(put("a"), clientv3.OpTxn(nil, []clientv3.Op{put("a")}, nil)), rpctypes.ErrDuplicateKey)
	must(t, commit(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version(prefix+"a"), "=", 0)}, []clientv3.Op{put("a")}, []clientv3.Op{put("a")})))
	var many []clientv3.Op
	for i := range 129 {
		many = append(many, put(fmt.Sprint("many", i)))
	}
	refused(t, "too many operations", commit(many...), rpctypes.ErrTooManyOps)
	must(t, commit(many[:128]...))
	refused(t, "a lease that is not there", commit(put("b"), clientv3.OpPut(prefix+"c", "v", clientv3.WithLease(0x7ffe))), rpctypes.ErrLeaseNotFound)
	refused(t, "a future revision", commit(put("b"), clientv3.OpGet(prefix+"a", clientv3.WithRev(1<<60))), rpctypes.ErrFutureRev)
	refused(t, "an empty key", commit(put("b"), clientv3.OpPut("", "v")), rpctypes.ErrEmptyKey)
	equal(t, "what refused transactions left", try(c.Get(within(t), prefix+"b"))(t).Count, 0)
	big := strings.Repeat("x", 850_000)
	refused(t, "a large transaction", commit(clientv3.OpPut(prefix+"x", big), clientv3.OpPut(prefix+"y", big)), rpctypes.ErrRequestTooLarge)
	_, err := c.Put(within(t), prefix+"x", big+big)
	refused(t, "a large value", err, rpctypes.ErrRequestTooLarge)
	refused(t, "a put and a deletion around it", commit(put("a"), clientv3.OpDelete(prefix, clientv3.WithPrefix())), rpctypes.ErrDuplicateKey)
}

// A header tells a revision at which the answer is right.
func testHeaders(t *testing.T, cl *cluster.Cluster) {
	members := try(cl.Client(t).MemberList(within(t)))(t)
	equal(t, "members", len(members.Members), 3)
	revision := try(cl.Client(t).Put(within(t), "headers", "v"))(t).Header.Revision
	seen := map[uint64]bool{}
	for _, n := range cl.Nodes {
		c := n.Client(t)
		headers := map[string]*pb.ResponseHeader{
			"get":    try(c.Get(within(t), "headers"))(t).Header,
			"txn":    try(c.Txn(within(t)).Then(clientv3.OpGet("headers")).Commit())(t).Header,
			"delete": try(c.Delete(within(t), "headers/missing"))(t).Header,
			"put":    try(c.Put(within(t), "headers", "w"))(t).Header,
			"hash":   try(c.HashKV(within(t), n.Endpoint, 0))(t).Header,
		}
		revision++
		for name, header := range headers {
			want := revision
			if name != "put" && name != "hash" {
				want--
			}
			equal(t, name+"'s revision", header.Revision, want)
			equal(t, name+"'s cluster", header.ClusterId, members.Header.ClusterId)
			if header.RaftTerm == 0 {
				t.Errorf("%s has no term", name)
			}
			seen[header.MemberId] = true
		}
	}
	equal(t, "nodes that answered", len(seen), 3)
	for _, member := range members.Members {
		if !seen[member.ID] {
			t.Errorf("%v did not answer with its ID", member)
		}
	}
}
