package shard

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// claim is all that a shard will ever have, of a span, at or below a revision, by what its leader said.
type claim struct {
	shard *numberedShard
	how   string
	span  kv.Span
	at    kv.Revision
	found string
}

// settling is a claim that can be made when a proposal is applied.
type settling struct {
	claim
	lead *leadership
	seq  uint64
}

// claims makes claims about shards that get their numbers from one counter.
type claims struct {
	*numbering
	made     []claim
	settling []settling
	seen     struct{ idle, inFlight, unsettled, spans, compacted int }
}

func (c *claims) make(of claim) error {
	req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: of.span}}
	got, err := of.shard.group.leader.ReadAt(nil, req, kv.Present{Revision: of.at})
	if errors.Is(err, ErrReadCompacted) {
		c.seen.compacted++
		return nil
	}
	if err != nil || got.Revision != of.at {
		return fmt.Errorf("%s, %q as of %d: %s, %w", of.how, of.span, of.at, describe(got), err)
	}
	of.found = describe(got.Range)
	c.made = append(c.made, of)
	return nil
}

// look asks a leader about a random span, as of the last revision issued to anybody.
func (c *claims) look() error {
	s := c.shards[c.random.IntN(len(c.shards))]
	m := s.group.leader
	of := claim{shard: s, at: c.last}
	s.generator.Request().EachSpan(func(span kv.Span, _ bool) bool {
		of.span = span
		return c.random.IntN(3) == 0
	})
	if len(of.span.Start) == 0 {
		return nil
	}
	if c.random.IntN(2) == 0 {
		of.how = "settled"
		c.settling = append(c.settling, settling{of, m.lead, m.Settles(of.at)})
		return nil
	}
	of.how = "not unsettled"
	inFlight := m.lead.overlay.changes.size() > 0
	switch m.Unsettled(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: of.span}}, of.at) {
	case true:
		c.seen.unsettled++
		if !inFlight && !m.lead.bulkInFlight() {
			return fmt.Errorf("%q is unsettled as of %d, and nothing is in flight", of.span, of.at)
		}
		return nil
	case !inFlight:
		c.seen.idle++
	case of.span.Single():
		c.seen.inFlight++
	default:
		c.seen.spans++
	}
	return c.make(of)
}

// settle makes the claims whose proposals are applied.
func (c *claims) settle() error {
	kept := c.settling[:0]
	for _, w := range c.settling {
		switch m := w.shard.group.leader; {
		case m.lead != w.lead: // nobody knows
		case m.lead.appliedSeq() < w.seq:
			kept = append(kept, w)
		default:
			if err := c.make(w.claim); err != nil {
				return err
			}
		}
	}
	c.settling = kept
	return nil
}

// check holds the claims against the history.
func (c *claims) check() error {
	for _, of := range c.made {
		m := of.shard.follower
		req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: of.span, Revision: min(of.at, m.Closed())}}
		got, err := m.Read(nil, 0, req)
		switch {
		case errors.Is(err, kv.ErrCompacted):
			c.seen.compacted++
		case err != nil:
			return err
		case describe(got.Range) != of.found:
			return fmt.Errorf("%s, %q as of %d:\n said %s\n is %s", of.how, of.span, of.at, of.found, describe(got.Range))
		}
	}
	return nil
}

// TestUnsettled: what a leader says is settled is, whatever comes later: changes in flight with numbers and without, many effects, lost ends of logs.
func TestUnsettled(t *testing.T) {
	seeds, total := uint64(60), map[string]int{}
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		w, err := newNumbering(seed)
		if err != nil {
			t.Fatal(err)
		}
		c := &claims{numbering: w}
		for i := range 400 {
			if err := errors.Join(w.step(), c.look(), c.settle()); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
		if err := errors.Join(w.finish(), c.settle(), c.check()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		total["made"] += len(c.made)
		total["idle"] += c.seen.idle
		total["in flight"] += c.seen.inFlight
		total["unsettled"] += c.seen.unsettled
		total["spans"] += c.seen.spans
		total["compacted"] += c.seen.compacted
	}
	t.Log(total)
	for what, n := range total {
		if n == 0 && what != "spans" { // they are settled when nothing at or below is in flight
			t.Errorf("it never happened: %s", what)
		}
	}
}

// TestUnsettledElsewhere: who does not lead cannot tell.
func TestUnsettledElsewhere(t *testing.T) {
	m := mustOpen(testOptions(1))
	if !m.Unsettled(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("a")}}}, 5) {
		t.Error("a replica that does not lead says what is settled")
	}
}

// TestManyInFlight: of a key with very many changes in flight not all are looked at, and of other keys none.
func TestManyInFlight(t *testing.T) {
	g := group{}
	if err := g.elect(mustOpen(testOptions(1)), 1); err != nil {
		t.Fatal(err)
	}
	m := g.leader
	for range 5 * maxOlder {
		m.Evaluate(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("a")}})
	}
	get := func(key string) *kv.Request {
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
	}
	for at, want := range map[kv.Revision]bool{1: false, 2: true, 3: true, 5*maxOlder + 1: true} {
		if got := m.Unsettled(get("a"), at); got != want {
			t.Errorf("as of %d: %v", at, got)
		}
	}
	if m.Unsettled(get("b"), 100) {
		t.Error("another key is unsettled")
	}
	if allocations := testing.AllocsPerRun(100, func() { m.Unsettled(get("b"), 100) }); allocations > 3 { // the request
		t.Errorf("%v allocations", allocations)
	}
}

// TestBulkUnsettled: a deletion of many keys that takes effect, and is not applied, may be about any key.
func TestBulkUnsettled(t *testing.T) {
	options := testOptions(1)
	options.Sequenced, options.RoundLooks, options.PartBytes = true, 1, 1
	g := group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	m, last := g.leader, kv.Revision(1)
	in := func(batch func()) {
		t.Helper()
		if err := m.Begin(kv.Present{Revision: last}, true); err != nil {
			t.Fatal(err)
		}
		batch()
		n := m.Unnumbered()
		if err := m.Number(last+1, 0); err != nil {
			t.Fatal(err)
		}
		last += kv.Revision(n)
		g.propose()
		if err := g.catchUp(m, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a", "b", "c"} {
		in(func() { m.Evaluate(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}}) })
	}
	var job *Beside
	in(func() {
		span := kv.Span{Start: []byte("a"), End: []byte("d")}
		job = m.Evaluate(&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: span}}).Beside
	})
	if job == nil || m.NextBeside() != job {
		t.Fatal("the deletion is not decided beside the rounds")
	}
	job.Run(func() bool { return false })
	in(func() { m.FinishBeside(job) })
	get := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("b")}}}
	for done := false; !done; {
		in(func() {
			of, _ := m.StepBulk()
			done = of != nil
			if unsettled, seq := m.Unsettled(get, last+1), m.Settles(last+1); unsettled != done || (seq != 0) != done {
				t.Fatalf("it takes effect: %v; unsettled %v, to be settled with proposal %d", done, unsettled, seq)
			}
		})
	}
	if m.Unsettled(get, last) || m.Settles(last) != 0 {
		t.Error("it is applied, and not settled")
	}
}
