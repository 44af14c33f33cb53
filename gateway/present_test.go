package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// storeWith returns a store whose shards are led by these nodes, with a few keys: 1a at 2, 2a at 3, 2b at 4, everywhere applied.
func storeWith(t testing.TB, options Options, leader1, leader2, issuer kv.NodeID) (first, second *cluster, c *counter) {
	first, second, c = newStore(t, options)
	first.elect(leader1)
	second.elect(leader2)
	exchangeBoth(first, second)
	for _, key := range []string{"1a", "2a", "2b"} {
		writeKey(t, first, second, key, "old")
	}
	c.issuer, c.asked = issuer, 0
	return first, second, c
}

// writeKey puts a key, and has it applied everywhere.
func writeKey(t testing.TB, first, second *cluster, key, value string) {
	t.Helper()
	r := submit(first.nodes[1].gateway, putValue(key, value))
	exchangeBoth(first, second)
	if r.answers != 1 || r.err != nil {
		t.Fatalf("put %s: %d answers, %v", key, r.answers, r.err)
	}
}

func putValue(key, value string) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}
}

func getRange(from, to string) *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(from), End: []byte(to)}}}
}

// says checks what a call was answered; "": nothing yet.
func says(t *testing.T, what string, r *result, want string) {
	t.Helper()
	got := ""
	if r.answers > 0 {
		got = responseText(r.resp, r.err)
	}
	if got != want || r.answers > 1 {
		t.Errorf("%s: answered %q, %d times; want %q", what, got, r.answers, want)
	}
}

// TestReadWhereIssued: the node that issues revisions and leads the shard answers at once, with the last revision of the whole store. What is in flight at
// or below it, or without a revision, is waited for by reads of that key and of spans, and by no others.
func TestReadWhereIssued(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 1, 1)
	g := first.nodes[1].gateway
	says(t, "shard 1", submit(g, get("1a")), "revision 4: 1a=old@2")
	says(t, "shard 2", submit(g, get("2a")), "revision 4: 2a=old@3")
	c.hold = true
	write := submit(g, putValue("2a", "new"))
	says(t, "as of what the shard has come to", submit(g, get("2a")), "revision 4: 2a=old@3")
	c.issue(1, 1) // so shard 2 might have got revision 5
	before, other, span := submit(g, get("2a")), submit(g, get("2b")), submit(g, getRange("2", "3"))
	says(t, "a key without a revision yet", before, "")
	says(t, "another key", other, "revision 5: 2b=old@4")
	says(t, "a span", span, "")
	says(t, "another shard", submit(g, get("1a")), "revision 5: 1a=old@2")
	second.nodes[1].issue() // revision 6 is on its way
	during := submit(g, get("2a"))
	says(t, "another key, later", submit(g, get("2b")), "revision 6: 2b=old@4")
	second.nodes[1].number()
	says(t, "the write", write, "")
	exchangeBoth(first, second)
	g.reading.wait()
	says(t, "the write", write, "revision 6")
	says(t, "the read before it got its revision", before, "revision 5: 2a=old@3")
	says(t, "the span", span, "revision 5: 2a=old@3 2b=old@4")
	says(t, "the read after", during, "revision 6: 2a=new@6")
	if c.asked != 0 {
		t.Errorf("%d questions", c.asked)
	}
}

// TestReadIssuedElsewhere: reads that come together share one question; those that come later share the next. The leader of the shard reads at once then.
func TestReadIssuedElsewhere(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	g := first.nodes[2].gateway
	c.hold = true
	a, b := submit(g, get("2a")), submit(g, get("2b"))
	c.issue(1, 3)
	d := submit(g, get("2a"))
	if c.asked != 1 {
		t.Fatalf("%d questions", c.asked)
	}
	if first := c.questions[0]; fmt.Sprint(first.shards) != "[2]" {
		t.Errorf("asked about %v", first.shards)
	}
	q := c.questions[0]
	c.questions = nil
	q.got(q.at, nil) // what was true when it was asked
	says(t, "the first", a, "revision 4: 2a=old@3")
	says(t, "the second", b, "")
	says(t, "the third", d, "")
	if c.asked != 2 || c.answerAll() != 1 {
		t.Errorf("%d questions", c.asked)
	}
	says(t, "the second", b, "revision 7: 2b=old@4")
	says(t, "the third", d, "revision 7: 2a=old@3")
	if n := len(first.frames) + len(second.frames); n != 0 {
		t.Errorf("%d frames", n)
	}
	if m := g.Metrics(); m.PresentReads != 3 || m.QuestionCount != 2 || m.ArrivalCount != 0 {
		t.Errorf("%+v", m)
	}
}

// TestReadAtFollower: the replica here is behind. If the shard is clean it is waited for; otherwise the leader says what is to be applied, once what it has
// in flight has come to that.
func TestReadAtFollower(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	g := first.nodes[3].gateway
	says(t, "up to date", submit(g, get("2a")), "revision 4: 2a=old@3")
	submit(first.nodes[2].gateway, putValue("2a", "new"))
	c.issue(1, 5)
	clean := submit(g, get("2a"))
	c.unclean[2] = true
	unclean := submit(g, getRange("2", "3"))
	second.nodes[3].apply()
	first.nodes[3].gateway.reading.wait()
	says(t, "clean", clean, "revision 10: 2a=new@5")
	says(t, "not clean", unclean, "")
	if len(first.frames) != 1 || first.frames[0].payload[0] != 16+7 {
		t.Fatalf("frames: %+v", first.frames)
	}
	first.deliver()
	says(t, "not clean, and the leader has not applied it", unclean, "")
	second.nodes[2].apply()
	first.deliver()
	first.nodes[3].gateway.reading.wait()
	says(t, "not clean", unclean, "revision 10: 2a=new@5 2b=old@4")
	c.unclean[2] = false
	c.issue(2, 1) // it is lost
	in := submit(g, get("2a"))
	first.tick(500 * time.Millisecond)
	says(t, "nobody will apply that", in, "")
	first.tick(600 * time.Millisecond)
	exchangeBoth(first, second)
	says(t, "the leader knows", in, "revision 11: 2a=new@5")
	if m := g.Metrics(); m.CallsInFlight != 0 {
		t.Errorf("%+v", m)
	}
}

// TestLeaderLostWhileReading: the leader that was to say what has to be applied is replaced; its successor says it. What the first one had in flight without
// a revision is void, what it had proposed is not.
func TestLeaderLostWhileReading(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	g := first.nodes[3].gateway
	submit(first.nodes[2].gateway, putValue("2a", "proposed"))
	c.hold = true
	lost := submit(first.nodes[2].gateway, putValue("2b", "lost"))
	second.nodes[2].issue()
	c.unclean[2] = true
	a, b := submit(g, get("2a")), submit(g, get("2b"))
	c.answerAll()
	first.deliver()
	c.answerAll()
	second.elect(1)
	for _, n := range first.nodes {
		n.gateway.LeaderChanged(2)
	}
	says(t, "the lost write", lost, "")
	for range 4 {
		exchangeBoth(first, second)
		first.tick(300 * time.Millisecond)
		c.answerAll()
	}
	says(t, "what was proposed", a, "revision 6: 2a=proposed@5")
	says(t, "what was not", b, "revision 6: 2b=old@4")
}

// TestLeaseOverWhileReading: without a lease the leader asks its quorum, wherever the revisions are issued.
func TestLeaseOverWhileReading(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 1, 1)
	g := first.nodes[1].gateway
	c.issue(1, 1)
	second.lease = false
	r := submit(g, get("2a"))
	says(t, "confirmed by a quorum", r, "revision 5: 2a=old@3")
	if m := g.Metrics(); m.BarrierCount != 1 {
		t.Errorf("%d barriers", m.BarrierCount)
	}
	second.lease = true
	// Another node takes over between the look at the count and the read: what it has answered by then is above, and not looked at.
	old := second.nodes[1]
	old.beforeReadAt = func() {
		old.beforeReadAt = nil
		second.elect(2)
		second.nodes[2].apply()
		says(t, "put", submit(first.nodes[2].gateway, putValue("2a", "new")), "")
		second.nodes[2].apply()
	}
	says(t, "deposed while it reads", submit(g, get("2a")), "revision 5: 2a=old@3")
}

// TestPresentUnknown: a question that nobody answers ends with the time of the calls; one that was in vain is asked again.
func TestPresentUnknown(t *testing.T) {
	first, _, c := storeWith(t, Options{RequestTimeout: 2 * time.Second}, 1, 2, 0)
	g := first.nodes[3].gateway
	c.hold = true
	a, b := submit(g, get("2a")), submit(g, get("2b"))
	failed := c.questions[0]
	c.questions = nil
	failed.got(kv.Present{}, kv.ErrNoLeader)
	if c.asked != 1 {
		t.Errorf("%d questions at once", c.asked)
	}
	first.tick(50 * time.Millisecond)
	if c.asked != 2 {
		t.Errorf("%d questions", c.asked)
	}
	first.tick(2 * time.Second)
	says(t, "the first", a, "error: request timed out")
	says(t, "the second", b, "error: request timed out")
	c.answerAll()
	if m := g.Metrics(); m.CallsInFlight != 0 || a.answers+b.answers != 2 {
		t.Errorf("%+v", m)
	}
	cancelled := &Call{Req: get("2a"), Done: func(*kv.Response, error) {}}
	g.Submit(cancelled)
	g.Cancel(cancelled)
	if err := g.Check(); err != nil || g.Metrics().CallsInFlight != 0 {
		t.Error(err)
	}
}

// TestLeaderlessShards: who waits in vain hears which shards have no leader, of those that the request needs; in a store of one shard as in etcd.
func TestLeaderlessShards(t *testing.T) {
	says := func(what string, r *result, want string) {
		t.Helper()
		if r.answers != 1 || r.err == nil || r.err.Error() != want {
			t.Errorf("%s: answered %v, %d times; want %q", what, r.err, r.answers, want)
		}
	}
	lose := func(c *cluster, of *cluster, shard kv.ShardID) {
		of.elect(0)
		for _, n := range c.nodes {
			n.gateway.LeaderChanged(shard)
		}
	}
	first, second, c := storeWith(t, Options{RequestTimeout: 2 * time.Second}, 1, 2, 1)
	writeKey(t, first, second, "1b", "before")
	c.unclean[2] = true // so a list needs the shard's leader
	lose(first, second, 2)
	g := first.nodes[3].gateway
	one, all := submit(g, putValue("2a", "x")), submit(g, getRange("0", "9"))
	needsLeader := &result{}
	g.Submit(&Call{Req: get("2a"), RequireLeader: true, Done: func(resp *kv.Response, err error) { *needsLeader = result{resp, err, needsLeader.answers + 1} }})
	says("at once", needsLeader, "no leader, without a leader: shard 2")
	writeKey(t, first, second, "1a", "goes on")
	first.tick(2 * time.Second)
	says("a put", one, "request timed out, without a leader: shard 2")
	if said := kv.LeaderlessOf(one.err); said != "without a leader: shard 2" || !errors.Is(one.err, kv.ErrTimeout) {
		t.Errorf("%v: %q", one.err, said)
	}
	says("a list", all, "request timed out, without a leader: shard 2")
	lose(first, first, 1)
	one = submit(g, putValue("2a", "x"))
	first.tick(2 * time.Second)
	says("nobody numbers", one, "request timed out, without a leader: shard 1, which numbers revisions, shard 2")

	only := newCluster(t, Options{RequestTimeout: 2 * time.Second})
	one = submit(only.nodes[1].gateway, putValue("a", "x"))
	only.tick(2 * time.Second)
	says("one shard", one, "request timed out")
}

// TestCompactedWhileReading: a read whose own revision is compacted before it reads takes a later one; one that asked for it is refused. The future is what
// is not issued, and not what this shard has not come to.
func TestCompactedWhileReading(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	g := first.nodes[2].gateway
	compact := func(at kv.Revision) {
		n := second.nodes[2]
		n.Propose(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at}}, anyone{}, func(_ *kv.Response, _ uint64, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		n.apply()
		c.compacted = at
	}
	second.nodes[2].beforeReadAt = func() {
		second.nodes[2].beforeReadAt = nil
		c.issue(2, 6)
		compact(9)
	}
	says(t, "the newest", submit(g, get("2a")), "revision 10: 2a=old@3")
	if c.asked != 2 {
		t.Errorf("%d questions", c.asked)
	}
	at := func(key string, rev kv.Revision) *kv.Request {
		req := get(key)
		req.Range.Revision = rev
		return req
	}
	says(t, "below", submit(g, at("2a", 8)), "error: required revision has been compacted")
	says(t, "at the compaction", submit(g, at("2a", 9)), "revision 10: 2a=old@3")
	says(t, "the last one", submit(g, at("2a", 10)), "revision 10: 2a=old@3")
	says(t, "the future", submit(g, at("2a", 11)), "error: required revision is a future revision")
	// The other shard has heard of no compaction, and has come to revision 2 only.
	g = first.nodes[1].gateway
	says(t, "the other shard below", submit(g, at("1a", 8)), "error: required revision has been compacted")
	says(t, "the other shard at the last one", submit(g, at("1a", 10)), "revision 10: 1a=old@2")
	says(t, "the other shard in the future", submit(g, at("1a", 11)), "error: required revision is a future revision")
	txn := func(rev kv.Revision) *kv.Request {
		return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{{Range: at("1a", rev).Range}}}}
	}
	for rev, want := range map[kv.Revision]error{8: kv.ErrCompacted, 10: nil, 11: kv.ErrFutureRevision} {
		l := g.links.byShard[1]
		r := &result{}
		call := &Call{gateway: g, link: l, Req: txn(rev), Done: func(resp *kv.Response, err error) { r.resp, r.err, r.answers = resp, err, r.answers+1 }}
		g.calls.Add(1)
		l.readAtPresent(call)
		if r.answers != 1 || !errors.Is(r.err, want) || want == nil && (r.resp.Revision != 10 || r.resp.Txn.Responses[0].Revision != 10) {
			t.Errorf("transaction at %d: %d answers, %v, %+v", rev, r.answers, r.err, r.resp)
		}
	}
}

// anyone is a kv.Asker who waits.
type anyone struct{}

func (anyone) Waits() bool         { return true }
func (anyone) Alone() bool         { return false }
func (anyone) Left() time.Duration { return time.Hour }
func (anyone) Elsewhere() bool     { return false }

// TestStaleReadsOfShards: a serializable read has the revision of its shard here, and asks nobody, unless it is for a revision that was issued.
func TestStaleReadsOfShards(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 0)
	g := first.nodes[3].gateway
	stale := func(rev kv.Revision) *kv.Request {
		req := get("1a")
		req.Range.Serializable, req.Range.Revision = true, rev
		return req
	}
	asked := c.asked
	submit(first.nodes[2].gateway, putValue("2a", "new"))
	says(t, "the newest here", submit(g, stale(0)), "revision 2: 1a=old@2")
	says(t, "of a revision that is here", submit(g, stale(2)), "revision 2: 1a=old@2")
	says(t, "of one that nobody has heard of", submit(g, stale(5)), "error: required revision is a future revision")
	if c.asked != asked {
		t.Errorf("%d questions", c.asked)
	}
	g.options.Revisions.(*hearing).known = 5
	says(t, "of one that was issued", submit(g, stale(5)), "revision 5: 1a=old@2")
	list, err := g.OpenRange(context.Background(), stale(0))
	if err != nil || list.Revision() != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	list.Close()
	exchangeBoth(first, second)
}

// TestListsOfShards: what is read from a frozen state, portion by portion, is as of the revision of the header, too, whatever the state has beyond it.
func TestListsOfShards(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	g, leader := first.nodes[2].gateway, second.nodes[2]
	c.onAsk = func() { // as of revision 4, and the state has 5
		submit(g, putValue("2a", "new"))
		leader.apply()
	}
	list, err := g.OpenRange(context.Background(), getRange("2", "3"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	kvs, err := list.Next(1<<20, nil)
	if err != nil || list.Revision() != 4 || len(kvs) != 2 || string(kvs[0].Value) != "old" {
		t.Errorf("at %d: %+v, %v", list.Revision(), kvs, err)
	}
	last := 0
	err = g.RangeStream(context.Background(), getRange("2", "3"), func(r *kv.Response, end bool) error {
		if r.Revision != 5 {
			t.Errorf("a part at %d", r.Revision)
		}
		last += len(r.Range.KVs)
		return nil
	})
	if err != nil || last != 2 {
		t.Errorf("%d keys, %v", last, err)
	}
	future := getRange("2", "3")
	future.Range.Revision = 6
	if err := g.RangeStream(context.Background(), future, nil); !errors.Is(err, kv.ErrFutureRevision) {
		t.Errorf("a future revision: %v", err)
	}
	if _, err := g.OpenRange(context.Background(), future); !errors.Is(err, kv.ErrFutureRevision) {
		t.Errorf("a future revision: %v", err)
	}
	past := getRange("2", "3")
	past.Range.Revision, c.compacted = 4, 5
	if _, err := g.OpenRange(context.Background(), past); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("a revision that is compacted, which this shard has not heard of: %v", err)
	}
	if n := g.Metrics().CallsInFlight; n != 1 {
		t.Errorf("%d calls", n)
	}
}

// TestReadsAndOlderNodes: a leader that does not know revisions in barriers is not asked.
func TestReadsAndOlderNodes(t *testing.T) {
	first, _, c := storeWith(t, Options{RequestTimeout: time.Second}, 1, 2, 1)
	c.unclean[2] = true
	c.issue(1, 1)
	g := first.nodes[3].gateway
	g.PeerUp(2, Dialect{Deadlines: true, Shards: true})
	r := submit(g, get("2a"))
	if len(first.frames) != 0 {
		t.Errorf("frames %+v", first.frames)
	}
	g.PeerUp(2, Dialect{Deadlines: true, Shards: true, Revisions: true})
	first.tick(20 * time.Millisecond)
	if len(first.frames) != 1 {
		t.Fatalf("%d frames", len(first.frames))
	}
	if q, err := link.DecodeQuestions(first.frames[0].payload); err != nil || q.Settles != 5 || q.Shard != 2 {
		t.Errorf("%+v, %v", q, err)
	}
	first.deliver()
	says(t, "answered", r, "revision 5: 2a=old@3")
}

// TestReachOfAShardWithoutWrites: serializable reads over shards look after the one that writes nothing, beside them, one at a time. What was learnt before
// something was issued says nothing of that.
func TestReachOfAShardWithoutWrites(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	stale := getRange("1", "3")
	stale.Range.Serializable = true
	g := first.nodes[3].gateway
	put := func(value string) (at kv.Revision) {
		submit(first.nodes[2].gateway, putValue("2a", value))
		exchangeBoth(first, second)
		return c.last
	}
	text := func(value string, at kv.Revision) string {
		return fmt.Sprintf("revision %d: 1a=old@2 2a=%s@%d 2b=old@4", at, value, at)
	}
	base := put("base")
	says(t, "as old as what the first shard has", submit(g, stale), "revision 2: 1a=old@2")
	exchangeBoth(first, second)
	says(t, "as new as the question", submit(g, stale), text("base", base))
	next := put("next")
	c.hold = true
	says(t, "until the next question is answered", submit(g, stale), text("base", base))
	inFlight := c.issue(1, 1) // a write to the first shard, which is nowhere yet
	g.options.Revisions.Hear(inFlight)
	says(t, "one question at a time", submit(g, stale), text("base", base))
	if len(c.questions) != 1 {
		t.Fatalf("%d questions, want one for both", len(c.questions))
	}
	c.questions[0].got(c.questions[0].at, nil)
	c.questions, c.hold = nil, false
	put("newest")
	says(t, "as of the question, not of its answer", submit(g, stale), text("next", next))
}

// TestReadsOverShards: a read over several shards is as of one revision in all of them, whoever leads what. A serializable one is as of the revision that all
// of the replicas here are known to have come to. A shard without writes does not hold that back for ever: the next one is newer.
func TestReadsOverShards(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	stale := getRange("1", "3")
	stale.Range.Serializable = true
	for id, n := range first.nodes {
		g := n.gateway
		submit(first.nodes[2].gateway, putValue("2a", fmt.Sprint(id)))
		r := submit(g, getRange("1", "3"))
		g.reading.wait()
		says(t, "in flight", r, "")
		exchangeBoth(first, second)
		g.reading.wait()
		says(t, "over both shards", r, fmt.Sprintf("revision %d: 1a=old@2 2a=%d@%d 2b=old@4", c.last, id, c.last))
		says(t, "serializable", submit(g, stale), "revision 2: 1a=old@2")
		exchangeBoth(first, second)
		says(t, "serializable, soon after", submit(g, stale), fmt.Sprintf("revision %d: 1a=old@2 2a=%d@%d 2b=old@4", c.last, id, c.last))
		if busy := g.Metrics().CallsInFlight; busy != 0 {
			t.Errorf("%d calls when there is nothing to look after", busy)
		}
	}
	g := first.nodes[3].gateway
	c.hold = true
	r := submit(g, getRange("1", "3"))
	if len(c.questions) != 1 || fmt.Sprint(c.questions[0].shards) != "[1 2]" {
		t.Fatalf("%d questions: %+v", len(c.questions), c.questions)
	}
	c.unclean[1], c.unclean[2] = true, true
	c.issue(2, 1)
	c.answerAll()
	if busy := g.Metrics().CallsInFlight; busy != 3 {
		t.Errorf("%d calls, want one and its parts", busy)
	}
	first.tick(8 * time.Second)
	says(t, "whose time is over", r, "error: request timed out")
	if m := g.Metrics(); m.CallsInFlight != 0 {
		t.Errorf("%+v", m)
	}
	write := writeTxn(putOp("1a"), putOp("2a"))
	if r := submit(g, write); r.answers != 1 || r.err == nil {
		t.Errorf("a write over both: %v", r.err)
	}
	g.options.Gather = nil
	says(t, "nobody gathers", submit(g, getRange("1", "3")), "error: requests that touch several shards are not served yet: send one for each key, or keep such keys in one shard by --hash-prefix or split keys")
}
