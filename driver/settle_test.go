package driver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// asOf is a read as of a revision, and what it found.
type asOf struct {
	group consensus.GroupID
	how   string
	span  kv.Span
	at    kv.Revision
	found []kv.KeyValue
}

// readers read a numbered cluster as of revisions that were the last ones issued.
type readers struct {
	*numbered
	reads    []asOf
	counts   map[string]int
	waiting  int
	inFlight int // how many reads a leader answered at once while something else was in flight
}

// readAt reads at a node, whose state is complete up to the revision by all that anybody knows.
func (w *readers) readAt(n *clusterNode, r asOf) {
	req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: r.span}}
	resp, err := n.driver.Replica(r.group).ReadAt(req, kv.Present{Revision: r.at})
	if err != nil || resp.Revision != r.at {
		w.tb.Errorf("read as of %d: %+v, %v", r.at, resp, err)
		return
	}
	r.found = resp.Range.KVs
	w.reads = append(w.reads, r)
	w.counts[r.how]++
}

// read reads as of the last revision, in one of the ways that there are.
func (w *readers) read(number int) {
	group := w.groups[w.random.IntN(len(w.groups))]
	key := fmt.Appendf(nil, "%d/%d", group, number-w.random.IntN(3))
	r := asOf{group: group, at: w.last, span: kv.Span{Start: key}}
	if w.random.IntN(3) == 0 {
		r.span.End = []byte{0}
	}
	n := w.nodes[w.random.IntN(len(w.nodes))]
	here := n.driver.Replica(group)
	if w.random.IntN(3) == 0 {
		w.waiting++
		at := max(1, r.at-kv.Revision(w.random.IntN(3)))
		here.WaitRevision(at, func(err error) {
			w.waiting--
			if have := here.Revision(); err != nil || have < at {
				w.tb.Errorf("waited for revision %d, at %d: %v", at, have, err)
				return
			}
			r.how, r.at = "arrived", at
			w.readAt(n, r)
		})
		return
	}
	for _, leader := range w.nodes {
		replica := leader.driver.Replica(group)
		if !replica.IsLeader() {
			continue
		}
		if w.random.IntN(2) == 0 && replica.LeaseValid() {
			if replica.Unsettled(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: r.span}}, r.at) {
				w.counts["unsettled"]++
				return
			}
			if replica.machine.Metrics().InFlightEffects > 0 {
				w.inFlight++
			}
			r.how = "at the leader"
			w.readAt(leader, r)
			return
		}
		w.waiting++
		replica.SettleAt(r.at, func(index uint64, err error) {
			if err != nil {
				w.waiting--
				w.counts["not settled"]++
				if !errors.Is(err, kv.ErrLeaderChanged) && !errors.Is(err, kv.ErrNotLeader) {
					w.tb.Errorf("settle: %v", err)
				}
				return
			}
			here.WaitApplied(index, func(err error) {
				w.waiting--
				if err != nil {
					w.tb.Errorf("wait for index %d: %v", index, err)
					return
				}
				r.how = "settled"
				w.readAt(n, r)
			})
		})
		return
	}
}

// compareReads holds what was read against the history that all ended with.
func (w *readers) compareReads() {
	for _, r := range w.reads {
		replica := w.nodes[0].driver.Replica(r.group)
		req := &kv.RangeRequest{Span: r.span, Revision: min(r.at, replica.Revision())}
		want, err := replica.Read(&kv.Request{Kind: kv.KindRange, Range: req})
		if err != nil {
			w.tb.Fatal(err)
		}
		if got, want := fmt.Sprint(r.found), fmt.Sprint(want.Range.KVs); got != want {
			w.tb.Errorf("group %d, %s, span %q as of %d: %s, want %s", r.group, r.how, r.span, r.at, got, want)
			return
		}
	}
}

// TestReadsAsOf: reads as of the last revision that was issued to any of three groups find all that there will ever be at or below it, while the counter and
// the leaders move.
func TestReadsAsOf(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(map[bool]string{false: "raft", true: "paxos"}[paxos], func(t *testing.T) {
			counts, inFlight := map[string]int{}, 0
			for seed := range uint64(4) {
				w := &readers{numbered: newNumbered(t, seed, paxos), counts: counts}
				w.awaitLeases()
				for number := range 700 {
					w.moveAbout()
					for range w.random.IntN(4) {
						w.ask(number)
						w.read(number)
					}
					w.run(time.Duration(w.random.IntN(3))*time.Millisecond, nil)
				}
				w.await("all answers", func() bool { return w.open == 0 })
				w.alarms, w.flips = 0, w.flips+1
				for _, group := range w.groups { // so that all come to what was waited for
					w.askPut(group)
				}
				w.await("all reads", func() bool { return w.waiting == 0 })
				w.run(time.Second, nil)
				w.compareReads()
				inFlight += w.inFlight
			}
			t.Logf("%v; %d at a leader with something else in flight", counts, inFlight)
			for _, how := range []string{"arrived", "at the leader", "unsettled", "settled", "not settled"} {
				if counts[how] == 0 {
					t.Errorf("none was %s", how)
				}
			}
			if inFlight == 0 {
				t.Error("leaders answered nothing at once while something was in flight")
			}
		})
	}
}

// askPut has a leader of the group put something.
func (w *readers) askPut(group consensus.GroupID) {
	asked, done := false, false
	w.await("a put", func() bool {
		for _, n := range w.nodes {
			if replica := n.driver.Replica(group); !asked && replica.LeaseValid() {
				asked = true
				replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("z")}}, nil, func(_ *kv.Response, _ uint64, err error) {
					asked, done = err == nil, err == nil
				})
			}
		}
		return done
	})
}

// TestReadAtRefused: what is no read of keys is refused, and so is one as of a revision that is compacted.
func TestReadAtRefused(t *testing.T) {
	w := newNumbered(t, 1, false)
	w.holder = 1
	w.awaitLeases()
	r := w.nodes[0].driver.Replica(1)
	for _, req := range []*kv.Request{{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("a")}}, {Kind: kv.KindLeaseLeases}, {Kind: kv.KindRange}} {
		if _, err := r.ReadAt(req, kv.Present{Revision: 5}); !errors.Is(err, kv.ErrInvalidRequest) {
			t.Errorf("kind %d: %v", req.Kind, err)
		}
	}
	rd := &readers{numbered: w, counts: map[string]int{}}
	rd.askPut(1)
	w.last = 50
	var leader *Replica
	w.await("a leader", func() bool {
		for _, n := range w.nodes {
			if n.driver.Replica(1).LeaseValid() {
				leader = n.driver.Replica(1)
			}
		}
		return leader != nil && leader.Revision() > 1
	})
	done := false
	leader.Propose(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: 40}}, nil, func(_ *kv.Response, _ uint64, err error) {
		done = err == nil
	})
	w.await("the compaction", func() bool { return done })
	get := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("z")}}}
	if _, err := leader.ReadAt(get, kv.Present{Revision: 39}); !errors.Is(err, shard.ErrReadCompacted) {
		t.Errorf("as of a compacted revision: %v", err)
	}
	if resp, err := leader.ReadAt(get, kv.Present{Revision: 40}); err != nil || resp.Range.Count != 1 {
		t.Errorf("as of the compacted revision: %+v, %v; the newest is %d", resp.Range, err, leader.Revision())
	}
}

// leaderOf waits for a leader of the group, and returns it with its node.
func (w *numbered) leaderOf(group consensus.GroupID) (node *clusterNode, replica *driven) {
	w.awaitLeases()
	for _, n := range w.nodes {
		if r := n.driver.driven(group); r.LeaseValid() {
			return n, r
		}
	}
	w.tb.Fatal("nobody leads")
	return nil, nil
}

// TestSettleWithoutQuorum: a leader that is cut off, and has nothing in flight, does not say that all is applied: another one may lead.
func TestSettleWithoutQuorum(t *testing.T) {
	w := newNumbered(t, 1, false)
	n, r := w.leaderOf(1)
	n.cut = true
	w.await("the end of the lease", func() bool { return !r.LeaseValid() })
	if !r.IsLeader() {
		t.Fatal("it does not take itself for the leader any more")
	}
	answers, said := 0, error(nil)
	r.SettleAt(1, func(_ uint64, err error) { answers, said = answers+1, err })
	w.run(5*time.Second, nil)
	if answers != 1 || !errors.Is(said, kv.ErrLeaderChanged) && !errors.Is(said, kv.ErrNotLeader) {
		t.Errorf("%d answers, %v", answers, said)
	}
}

// TestSettleBegunAnew: who waits for a batch that is forgotten waits no longer.
func TestSettleBegunAnew(t *testing.T) {
	w := newNumbered(t, 1, false)
	_, r := w.leaderOf(1)
	answers, said := 0, error(nil)
	r.waits.proposals.add(r.appliedSeq+100, func(err error) { answers, said = answers+1, err })
	r.numbering.anew = true
	r.driver.markWorking(r)
	r.driver.kick()
	w.run(time.Second, nil)
	if answers != 1 || said != nil || r.numbering.anew {
		t.Errorf("%d answers, %v", answers, said)
	}
}
