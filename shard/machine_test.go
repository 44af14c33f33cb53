package shard

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

func newGroup(t *testing.T, options Options) *group {
	t.Helper()
	g := &group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *group) must(t *testing.T, line string) *kv.Response {
	t.Helper()
	response, err := g.do(parseRequest([]string{line}))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return response
}

// A lease with more keys than one expiry deletes is emptied over several revisions, and so is one that a client revokes.
func TestLeaseWithManyKeys(t *testing.T) {
	options := testOptions(1)
	options.MaxKeysPerExpiry = 40
	g := newGroup(t, options)
	for _, id := range []string{"1", "2"} {
		g.must(t, "grant "+id+" 5")
		for i := range 100 {
			g.must(t, fmt.Sprintf("put %s/%03d v lease=%s", id, i, id))
		}
	}
	before := g.leader.Closed()
	if r := g.must(t, "revoke 1"); r.Revision != before+3 || g.leader.Closed() != before+3 {
		t.Fatalf("revoke at %d, store at %d, want %d", r.Revision, g.leader.Closed(), before+3)
	}
	if _, exists := g.leader.leaseEvaluated(1); exists {
		t.Fatal("a revoked lease exists")
	}
	g.now += 6 * time.Second
	for i := range 3 {
		if g.leader.leases.size() != 1 {
			t.Fatalf("tick %d: the lease is gone before its keys", i)
		}
		g.now += 10 * time.Millisecond
		if err := g.leader.Tick(g.now); err != nil {
			t.Fatal(err)
		}
		g.propose()
		if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
	}
	if g.leader.leases.size() != 0 || g.leader.Closed() != before+6 {
		t.Fatalf("%d leases, revision %d, want 0 and %d", g.leader.leases.size(), g.leader.Closed(), before+6)
	}
	if n := g.must(t, "get 1 * count").Range.Count; n != 0 {
		t.Fatalf("%d keys are left", n)
	}
}

// What expires fits into log entries of bounded size, however long the keys, however many the leases, and however long the
// proposals have to wait.
func TestExpiryOfLongKeys(t *testing.T) {
	const bound, keyBytes = 1000, 300
	options := testOptions(1)
	options.MaxExpiryBytes = bound
	g := newGroup(t, options)
	for lease := range 20 {
		g.must(t, fmt.Sprintf("grant %d 5", lease+1))
		for i := range 10 {
			g.must(t, fmt.Sprintf("put %02d/%02d%s v lease=%d", lease, i, strings.Repeat("k", keyBytes), lease+1))
		}
	}
	g.now += 6 * time.Second
	g.must(t, "keepalive 20") // does what expiry was about to do
	for entries := 0; g.leader.leases.size() > 0; entries++ {
		if entries > 200 {
			t.Fatalf("%d leases are left after %d entries", g.leader.leases.size(), entries)
		}
		for range 5 { // nothing is proposed meanwhile, as if no quorum answered
			g.now += 10 * time.Millisecond
			if err := g.leader.Tick(g.now); err != nil {
				t.Fatal(err)
			}
		}
		if g.propose() != 0 {
			if size := len(g.log[len(g.log)-1].Data); size > bound+bound+keyBytes {
				t.Fatalf("an entry of %d bytes", size)
			}
		}
		if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.must(t, "get 0 * count").Range.Count; n != 0 {
		t.Fatalf("%d keys are left", n)
	}
}

// What is too large changes nothing. A lease is revoked in parts instead.
func TestRequestTooLarge(t *testing.T) {
	options := testOptions(1)
	options.MaxRequestEffectBytes = 4000
	g := newGroup(t, options)
	g.must(t, "grant 1 50")
	for i := range 100 {
		g.must(t, fmt.Sprintf("put k%03d v lease=1", i))
	}
	before := g.leader.Closed()
	if _, err := g.do(parseRequest([]string{"del a *"})); !errors.Is(err, kv.ErrRequestTooLarge) {
		t.Fatal(err)
	}
	if err := g.leader.Check(); err != nil || !g.leader.lead.overlay.empty() {
		t.Fatalf("%v, %d changes in flight", err, g.leader.lead.overlay.changes.size())
	}
	if r := g.must(t, "get k count"); g.leader.Closed() != before || r.Revision != before {
		t.Fatalf("revision %d, want %d", g.leader.Closed(), before)
	}
	if r := g.must(t, "ttl 1 keys"); len(r.LeaseTimeToLive.Keys) != 100 {
		t.Fatalf("%d keys attached", len(r.LeaseTimeToLive.Keys))
	}
	if err := Validate(parseRequest([]string{"put a " + strings.Repeat("x", 100)}), Limits{MaxRequestBytes: 100}); !errors.Is(err, kv.ErrRequestTooLarge) {
		t.Fatal(err)
	}
}

// An entry that contradicts the state stops the machine, and it stays stopped.
func TestAssertions(t *testing.T) {
	good := func() *entry {
		return &entry{header: header{term: 1, seq: 1, leaseClock: 10, base: 1}}
	}
	tests := map[string]func(*group) consensus.Entry{
		"gap in the log": func(*group) consensus.Entry { return consensus.Entry{Index: 3, Term: 1, Kind: consensus.EntryBarrier} },
		"wrong base": func(*group) consensus.Entry {
			e := good()
			e.base = 7
			return consensus.Entry{Index: 2, Term: 1, Data: encodeEntry(e)}
		},
		"compaction in the future": func(*group) consensus.Entry {
			e := good()
			e.ops = []op{{kind: opCompact, revision: 9}}
			return consensus.Entry{Index: 2, Term: 1, Data: encodeEntry(e)}
		},
		"garbage":      func(*group) consensus.Entry { return consensus.Entry{Index: 2, Term: 1, Data: []byte("garbage")} },
		"unknown kind": func(*group) consensus.Entry { return consensus.Entry{Index: 2, Term: 1, Kind: 77} },
		"clock back": func(g *group) consensus.Entry {
			g.append(1, consensus.EntryCommand, encodeEntry(good()))
			if err := g.catchUp(g.leader, 2); err != nil {
				t.Fatal(err)
			}
			e := good()
			e.seq, e.leaseClock = 2, 9
			return consensus.Entry{Index: 3, Term: 1, Data: encodeEntry(e)}
		},
	}
	for name, bad := range tests {
		g := newGroup(t, testOptions(1))
		g.leader.Follow()
		e := bad(g)
		if _, err := g.leader.apply(e); !errors.Is(err, ErrInconsistent) && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := g.leader.apply(consensus.Entry{Index: 2, Term: 1, Kind: consensus.EntryBarrier}); err == nil {
			t.Fatalf("%s: the machine went on", name)
		}
	}
	g := newGroup(t, testOptions(1))
	g.must(t, "put a 1")
	if err := g.leader.Lead(1, 0); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("lead in the middle of a term: %v", err)
	}
}

// A new group starts at a position and with a membership; both survive, and entries change the membership.
func TestBootstrapAndConfig(t *testing.T) {
	r := mustOpen(testOptions(1))
	start := consensus.SnapshotMeta{Index: 1, Term: 1, Config: consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}}
	if err := r.batch(func(b storage.Batch) error { return r.Bootstrap(start, []kv.NodeRecord{{ID: 7, Name: "n7"}}, b) }); err != nil {
		t.Fatal(err)
	}
	if err := r.Bootstrap(start, nil, r.engine.NewBatch()); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("a second bootstrap: %v", err)
	}
	r.engine.Flush(func(error) {})
	r.engine.CompleteFlush()
	next := consensus.Config{Voters: []consensus.ReplicaID{1, 2, 4}, Learners: []consensus.ReplicaID{3}}
	done, err := r.apply(consensus.Entry{Index: 2, Term: 2, Kind: consensus.EntryConfig, Data: consensus.AppendConfig(nil, next)})
	if err != nil || done.Config == nil || !done.Config.Equal(next) || !r.Config().Equal(next) {
		t.Fatalf("%+v %v", done, err)
	}
	crashed, err := openReplica(r.engine.Crash(nil), r.options)
	if err != nil || crashed.AppliedIndex() != 1 || !crashed.Config().Equal(start.Config) || len(crashed.Nodes()) != 1 || crashed.Nodes()[0].Name != "n7" {
		t.Fatalf("%v %d %v", err, crashed.AppliedIndex(), crashed.Config())
	}
}

func TestMinLeaseTTL(t *testing.T) {
	for timeout, want := range map[time.Duration]int64{time.Second: 2, 100 * time.Millisecond: 1, 2 * time.Second: 3, 10 * time.Second: 15} {
		if got := MinLeaseTTLSeconds(timeout); got != want {
			t.Errorf("election timeout %v: %d s, want %d", timeout, got, want)
		}
	}
}

func TestLeaseIDs(t *testing.T) {
	g := newGroup(t, testOptions(3))
	for range 20 {
		if id := g.must(t, "grant 0 5").LeaseGrant.ID; id <= 0 {
			t.Fatalf("lease ID %d", id)
		}
	}
	if g.leader.leases.size() != 20 {
		t.Fatalf("%d leases", g.leader.leases.size())
	}
}

func TestSerializable(t *testing.T) {
	scan := func(serializable bool) kv.Op { return kv.Op{Range: &kv.RangeRequest{Serializable: serializable}} }
	tests := []struct {
		request                *kv.Request
		readOnly, serializable bool
	}{
		{&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Serializable: true}}, true, true},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{}}, true, false},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{scan(true)}, Failure: []kv.Op{scan(true)}}}, true, true},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{scan(true)}, Failure: []kv.Op{scan(false)}}}, true, false},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{{Txn: &kv.TxnRequest{}}}}}, true, false},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{{Txn: &kv.TxnRequest{Failure: []kv.Op{scan(true)}}}}}}, true, true},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{scan(true), {Txn: &kv.TxnRequest{Failure: []kv.Op{scan(false)}}}}}}, true, false},
		{&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{{Txn: &kv.TxnRequest{Failure: []kv.Op{{Put: &kv.PutRequest{}}}}}}}}, false, false},
		{&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{}}, true, false},
		{&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{}}, false, false},
	}
	for _, c := range tests {
		if IsReadOnly(c.request) != c.readOnly || IsSerializable(c.request) != c.serializable {
			t.Errorf("%s: read-only %v, serializable %v", describe(c.request), IsReadOnly(c.request), IsSerializable(c.request))
		}
	}
}

// An entry whose predecessor is missing is void, whatever else it says; so is one of a term without a barrier,
// and one that was applied already.
func TestVoid(t *testing.T) {
	g := newGroup(t, testOptions(1))
	g.leader.Follow()
	put := func(term consensus.Term, seq uint64, base kv.Revision) []byte {
		o := &entry{header: header{term: term, seq: seq, base: base}}
		o.effects = []mvcc.Effect{{Key: fmt.Appendf(nil, "k%d", base), Value: []byte("v"), At: mvcc.Locator{Rev: base + 1}, Create: base + 1, Version: 1}}
		return encodeEntry(o)
	}
	for i, c := range []struct {
		data []byte
		void bool
	}{
		{put(1, 2, 1), true},
		{put(2, 1, 1), true},
		{put(1, 1, 1), false},
		{put(1, 1, 1), true},
		{put(1, 3, 2), true},
		{put(1, 2, 2), false},
	} {
		done, err := g.leader.apply(consensus.Entry{Index: consensus.Index(i + 2), Term: 9, Data: c.data})
		if err != nil || done.Void != c.void || (len(done.Effects) == 0) != c.void {
			t.Fatalf("entry %d: %+v %v, want void %v", i, done, err, c.void)
		}
	}
	if g.leader.Closed() != 3 || g.leader.Metrics().VoidEntries != 4 {
		t.Fatalf("revision %d, %d void", g.leader.Closed(), g.leader.Metrics().VoidEntries)
	}
}

// A clock that jumps ends no lease early; the jump prolongs leases by what is above one step.
func TestLeaseClockJumps(t *testing.T) {
	options := testOptions(1)
	options.MaxClockStep = 500 * time.Millisecond
	g := newGroup(t, options)
	g.must(t, "grant 1 5")
	g.must(t, "put a v lease=1")
	tick := func(d time.Duration) {
		t.Helper()
		g.now += d
		if err := g.leader.Tick(g.now); err != nil {
			t.Fatal(err)
		}
		g.propose()
		if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
	}
	tick(time.Hour)
	for range 44 {
		tick(100 * time.Millisecond)
	}
	if g.leader.leases.size() != 1 {
		t.Fatal("the lease ended 4.9 s after it was granted for 5, because a clock had jumped")
	}
	tick(200 * time.Millisecond)
	if n := g.must(t, "get a").Range.Count; n != 0 || g.leader.leases.size() != 0 {
		t.Fatalf("the lease of 5 s is there after 5.1 s, with %d keys", n)
	}
}
