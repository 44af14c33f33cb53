package shard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// participant is a shard of several, whose batches are the test's.
type participant struct {
	t *testing.T
	group
	last kv.Revision
}

func newParticipant(t *testing.T, change func(*Options)) *participant {
	options := testOptions(1)
	options.Sequenced, options.Shard = true, 2
	if change != nil {
		change(&options)
	}
	p := &participant{t: t, last: 1}
	if err := p.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	return p
}

// batch evaluates requests in one batch, and proposes it.
func (p *participant) batch(requests ...*kv.Request) (outcomes []Outcome) {
	p.t.Helper()
	if err := p.leader.Begin(kv.Present{Revision: p.last}, false); err != nil {
		p.t.Fatal(err)
	}
	for _, r := range requests {
		outcomes = append(outcomes, p.leader.Evaluate(r))
	}
	n := p.leader.Unnumbered()
	if err := p.leader.Number(p.last+1, 0); err != nil {
		p.t.Fatal(err)
	}
	p.last += kv.Revision(n)
	p.propose()
	if err := p.leader.Check(); err != nil {
		p.t.Fatal(err)
	}
	return outcomes
}

func (p *participant) apply() {
	p.t.Helper()
	if err := p.catchUp(p.leader, consensus.Index(len(p.log))); err != nil {
		p.t.Fatal(err)
	}
}

func putOf(key, value string) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}
}

func aboutTxn(kind kv.Kind, number uint64, ops ...kv.Op) *kv.Request {
	c := &kv.CommitRequest{ID: kv.TransactionID{Anchor: 1, Term: 1, Number: number}, Shard: 2, Participants: []kv.ShardID{1, 2}}
	if kind == kv.KindTxnPrepare {
		c.Share = &kv.Share{}
		for i := range ops {
			c.Share.Ops = append(c.Share.Ops, kv.PlacedOp{Place: uint32(i), Op: ops[i]})
		}
	}
	return &kv.Request{Kind: kind, Commit: c}
}

func prepareOf(number uint64, keys ...string) *kv.Request {
	var ops []kv.Op
	for _, key := range keys {
		ops = append(ops, kv.Op{Put: putOf(key, "prepared").Put})
	}
	return aboutTxn(kv.KindTxnPrepare, number, ops...)
}

func resolveAt(number uint64, at kv.Revision) *kv.Request {
	r := aboutTxn(kv.KindTxnResolve, number)
	r.Commit.Decision = kv.Decision{Verdict: kv.Abort}
	if at != 0 {
		r.Commit.Decision = kv.Decision{Verdict: kv.Commit, Revision: at}
	}
	return r
}

// TestStamp: the stamp counts what comes in the same entry.
func TestStamp(t *testing.T) {
	p := newParticipant(t, nil)
	p.batch(putOf("a", "1"), prepareOf(1, "b"), putOf("c", "1"))
	p.apply()
	if got := p.leader.transactions.records[kv.TransactionID{Anchor: 1, Term: 1, Number: 1}].stamp; got != 3 || p.leader.Closed() != 3 {
		t.Errorf("stamp %d, closed at %d, want 3", got, p.leader.Closed())
	}
}

// TestResolveInFlight: who asks what may come at or below a revision hears of a transaction that is resolved in flight, wherever it stands in the queue.
func TestResolveInFlight(t *testing.T) {
	p := newParticipant(t, nil)
	p.batch(prepareOf(1, "b"))
	p.apply()
	p.last = 2 // the transaction's
	p.batch(putOf("a", "1"))
	p.batch(putOf("c", "1"))
	p.batch(resolveAt(1, 2))
	m := p.leader
	read := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("b")}}}
	if !m.Unsettled(read, 2) || m.Unsettled(read, 1) || m.Settles(2) != m.lead.seq || m.Settles(1) != 0 {
		t.Errorf("unsettled at 2 %v, at 1 %v; settled with %d at 2, %d at 1, of %d", m.Unsettled(read, 2), m.Unsettled(read, 1), m.Settles(2), m.Settles(1), m.lead.seq)
	}
	if !m.Held(read, 2) {
		t.Error("a record is not held while its resolve is in flight")
	}
	p.apply()
	if m.Unsettled(read, 9) || m.Held(read, 9) || m.Closed() != 4 {
		t.Errorf("unsettled %v, held %v, closed at %d after all is applied", m.Unsettled(read, 9), m.Held(read, 9), m.Closed())
	}
}

// TestPreparedTwiceBeside: a share that is decided beside the rounds is asked for a second time meanwhile. It waits for the first, and is answered alike.
func TestPreparedTwiceBeside(t *testing.T) {
	p := newParticipant(t, func(o *Options) { o.RoundLooks = 1 })
	out := p.batch(prepareOf(1, "a", "b"), prepareOf(1, "a", "b"), putOf("a", "2"), prepareOf(2, "b"))
	job := out[0].Beside
	if job == nil || !out[1].Blocked || !out[2].Blocked || commitOf(out[3]) == nil || !commitOf(out[3]).Busy || !p.leader.Contended() {
		t.Fatalf("%+v", out)
	}
	p.apply()
	if p.leader.NextBeside() != job {
		t.Fatal("it does not have its turn")
	}
	job.Run(func() bool { return false })
	if err := p.leader.Begin(kv.Present{Revision: p.last}, false); err != nil {
		t.Fatal(err)
	}
	freed := p.leader.Released()
	if done := p.leader.FinishBeside(job); commitOf(done) == nil || !commitOf(done).Writes || p.leader.Released() == freed {
		t.Fatalf("%+v", done)
	}
	if again := p.leader.Evaluate(putOf("a", "2")); !again.Blocked {
		t.Errorf("a write between latches and locks: %+v", again)
	}
	if err := p.leader.Number(p.last+1, 0); err != nil {
		t.Fatal(err)
	}
	p.propose()
	p.apply()
	if r := p.leader.transactions.records[kv.TransactionID{Anchor: 1, Term: 1, Number: 1}]; r == nil || len(r.effects) != 2 {
		t.Errorf("%+v", r)
	}
}

// TestRefusedInTheQueue: a write that waits for a lock, and is refused meanwhile because users have changed, waits no more, so that nobody waits behind it for ever.
func TestRefusedInTheQueue(t *testing.T) {
	p := newParticipant(t, nil)
	p.batch(prepareOf(1, "a"))
	p.apply()
	first := putOf("a", "1")
	if out := p.batch(first)[0]; !out.Blocked || out.Place == 0 {
		t.Fatalf("behind a lock: %+v", out)
	}
	p.leader.TellAlarms(1 << AuthVersionBit)
	if out := p.batch(first)[0]; !errors.Is(out.Err, kv.ErrAuthOldRevision) {
		t.Fatalf("after users have changed: %+v", out)
	}
	p.batch(resolveAt(1, 0))
	p.apply()
	next := putOf("a", "2")
	next.AuthVersion = 1
	if out := p.batch(next)[0]; out.Blocked || out.Err != nil {
		t.Errorf("behind nobody: %+v", out)
	}
}

// TestTransactionLimits: what is prepared is bounded, and so is a share.
func TestTransactionLimits(t *testing.T) {
	p := newParticipant(t, func(o *Options) { o.MaxTransactions = 3 })
	out := p.batch(prepareOf(1, "a"), prepareOf(2, "b"), resolveAt(2, 0), prepareOf(3, "c"), prepareOf(4, "d"), resolveAt(5, 0))
	if commitOf(out[3]) == nil || !errors.Is(out[4].Err, kv.ErrTooManyRequests) || !errors.Is(out[5].Err, kv.ErrTooManyRequests) {
		t.Errorf("beyond the number: %+v", out)
	}
	p.apply()
	if got := p.leader.Metrics(); got.UndecidedTransactions != 2 || got.TransactionRecords != 3 || got.PreparedBytes == 0 {
		t.Errorf("%+v", got)
	}
	finished := resolveAt(1, 0)
	finished.Commit.Finished = kv.Finished{At: kv.TransactionID{Anchor: 1, Term: 1, Number: 3}}
	p.batch(finished)
	p.apply()
	if out := p.batch(prepareOf(4, "d")); commitOf(out[0]) == nil || commitOf(out[0]).Standing != kv.StandingPrepared {
		t.Errorf("there is room again: %+v", out[0])
	}

	p = newParticipant(t, func(o *Options) { o.MaxPreparedBytes, o.MaxShareBytes = 100, 200 })
	out = p.batch(prepareOf(1, "a"), prepareOf(2, "b"))
	if commitOf(out[0]) == nil || !errors.Is(out[1].Err, kv.ErrTooManyRequests) {
		t.Errorf("beyond the bytes of all: %+v", out)
	}
	if out = p.batch(resolveAt(1, 0)); commitOf(out[0]) == nil {
		t.Errorf("%+v", out[0])
	}
	p.apply()
	if out = p.batch(prepareOf(3, "a", "b", "c", "d")); !errors.Is(out[0].Err, kv.ErrRequestTooLarge) ||
		kv.LimitOf(out[0].Err) != "beyond the limit of effects of a transaction over several shards in one of them (200 bytes)" {
		t.Errorf("beyond the bytes of one: %+v", out[0])
	}
}

// TestMalformedCommits: bad requests are refused, whoever sends them, and change nothing.
func TestMalformedCommits(t *testing.T) {
	p := newParticipant(t, nil)
	change := func(r *kv.Request, how func(*kv.CommitRequest)) *kv.Request {
		how(r.Commit)
		return r
	}
	bad := map[string]*kv.Request{
		"no body":            {Kind: kv.KindTxnState},
		"no share":           change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Share = nil }),
		"another shard":      change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Shard = 1 }),
		"no number":          change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.ID.Number = 0 }),
		"not a participant":  change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Participants = []kv.ShardID{1, 3} }),
		"disorder":           change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Participants = []kv.ShardID{2, 1} }),
		"the same place":     change(prepareOf(1, "a", "b"), func(c *kv.CommitRequest) { c.Share.Ops[1].Place = 0 }),
		"a far place":        change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Share.Ops[0].Place = 1024 }),
		"nested":             change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Share.Ops[0].Op = kv.Op{Txn: &kv.TxnRequest{}} }),
		"no operation":       change(prepareOf(1, "a"), func(c *kv.CommitRequest) { c.Share.Ops[0].Op = kv.Op{} }),
		"an empty key":       prepareOf(1, ""),
		"no decision":        change(resolveAt(1, 0), func(c *kv.CommitRequest) { c.Decision = kv.Decision{} }),
		"a strange decision": change(resolveAt(1, 0), func(c *kv.CommitRequest) { c.Decision.Verdict = 9 }),
		"a strange revision": resolveAt(1, kv.Unnumbered),
		"no ballot":          aboutTxn(kv.KindTxnPromise, 1),
		"nothing":            change(resolveAt(1, 0), func(c *kv.CommitRequest) { c.ID = kv.TransactionID{} }),
		"commit of nothing":  resolveAt(1, 7),
		"not the anchor":     aboutTxn(kv.KindTxnState, 1),
	}
	for what, r := range bad {
		if out := p.batch(r)[0]; out.Err == nil || out.Effects || kv.CodeOf(out.Err) == 0 {
			t.Errorf("%s: %+v", what, out)
		}
	}
	p.batch(prepareOf(2, "x"))
	if out := p.batch(resolveAt(2, 7))[0]; !errors.Is(out.Err, kv.ErrInvalidRequest) {
		t.Errorf("a commit before the prepare is in force: %+v", out)
	}
	p.apply()
	p.batch(putOf("y", "1"))
	p.apply()
	if out := p.batch(resolveAt(2, 1))[0]; !errors.Is(out.Err, kv.ErrInvalidRequest) {
		t.Errorf("a commit at a revision that is not above the stamp: %+v", out)
	}
	alone := group{}
	if err := alone.elect(mustOpen(testOptions(1)), 1); err != nil {
		t.Fatal(err)
	}
	r := prepareOf(1, "a")
	r.Commit.Shard = 1
	if out := alone.leader.Evaluate(r); !errors.Is(out.Err, kv.ErrInvalidRequest) {
		t.Errorf("a shard that is alone: %+v", out)
	}
}

// TestLaterCommits: what a later version has written about a transaction is refused by name, and nothing of it is touched: not in a row, and not in the log.
func TestLaterCommits(t *testing.T) {
	p := newParticipant(t, nil)
	p.batch(putOf("a", "1"), prepareOf(1, "b"))
	p.apply()
	if err := p.leader.flushAll(); err != nil {
		t.Fatal(err)
	}
	id := kv.TransactionID{Anchor: 1, Term: 1, Number: 1}
	row := appendRecord(nil, p.leader.transactions.records[id])
	for what, change := range map[string]func([]byte){
		"in a format that this version does not know": func(row []byte) { row[0] = recordFormat + 1 },
		"that makes no sense":                         func(row []byte) { row[1] = recordPrepared + 1 },
	} {
		later := slices.Clone(row)
		change(later)
		key := keys.AppendRecord(nil, p.leader.options.Shard, id)
		if err := p.leader.batch(func(b storage.Batch) error { b.Set(key, later); return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(p.leader.engine, p.leader.options); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "a record of a transaction "+what) {
			t.Errorf("a record %s: %v", what, err)
		}
		if kept, _, err := p.leader.engine.Get(key, nil); err != nil || !slices.Equal(kept, later) {
			t.Errorf("a record %s: it is %x afterwards, %v", what, kept, err)
		}
	}

	p = newParticipant(t, nil)
	p.batch(putOf("a", "1"), prepareOf(1, "b"))
	p.apply()
	before := p.known()
	data := encodeEntry(&entry{header: header{term: 1, seq: p.leader.lead.seq + 1, leaseClock: p.leader.applied.LeaseClock, base: p.leader.applied.Revision},
		ops: []op{{kind: opResolve, record: &record{id: id, decision: kv.Decision{Verdict: kv.Commit, Revision: 9}}}, {kind: opFinished, record: &record{id: id}}}})
	at := len(data) - len(appendCommitOp(nil, &op{kind: opFinished, record: &record{id: id}})) - 1
	if data[at] != byte(opFinished) {
		t.Fatalf("the second op is not at byte %d of %x", at, data)
	}
	data[at] = 200
	p.append(1, consensus.EntryCommand, data)
	if err := p.catchUp(p.leader, consensus.Index(len(p.log))); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "unknown op 200") {
		t.Errorf("an entry with an op of a later version: %v", err)
	}
	if after := p.known(); after != before {
		t.Errorf("it has changed\n%s\nto\n%s", before, after)
	}
}

// known is what the participant has, and knows of transactions.
func (p *participant) known() string {
	rows, err := p.leader.Read(nil, 0, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}})
	if err != nil {
		p.t.Fatal(err)
	}
	text := fmt.Sprint(p.leader.Closed(), answerText(rows, nil))
	p.leader.transactions.each(func(r *record) bool {
		text += fmt.Sprintf(" %+v", *r)
		return true
	})
	return text + fmt.Sprint(p.leader.transactions.finished)
}
