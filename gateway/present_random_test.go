package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// applied is a write that took effect, in a list of those of all shards: what a store is if one does not care how it works.
type applied struct {
	rev        kv.Revision
	key, value string
}

// as returns what a span has as of a revision.
func as(writes []applied, span kv.Span, at kv.Revision) string {
	newest := map[string]applied{}
	for _, w := range writes {
		if w.rev <= at && covers(span, w.key) && w.rev > newest[w.key].rev {
			newest[w.key] = w
		}
	}
	var rows []applied
	for _, w := range newest { // sorted below
		rows = append(rows, w)
	}
	slices.SortFunc(rows, func(a, b applied) int { return cmp.Compare(a.key, b.key) })
	text := fmt.Sprintf("revision %d:", at)
	for _, w := range rows {
		text += fmt.Sprintf(" %s=%s@%d", w.key, w.value, w.rev)
	}
	return text
}

func covers(span kv.Span, key string) bool {
	if span.Single() {
		return key == string(span.Start)
	}
	return key >= string(span.Start) && key < string(span.End)
}

// read is one of them, and what had been answered by anybody when it began.
type read struct {
	span    kv.Span
	before  kv.Revision
	stale   bool
	resp    *kv.Response
	err     error
	answers int
}

// storeRun is a store in which whatever can happen happens in any order.
type storeRun struct {
	t             *testing.T
	random        *rand.Rand
	first, second *cluster
	counter       *counter
	writes        []applied
	seen          map[kv.ShardID]kv.Revision // applied somewhere
	answered      kv.Revision                // the highest one told to anybody
	reads         []*read
	open, number  int
}

func newStoreRun(t *testing.T, seed uint64) *storeRun {
	s := &storeRun{t: t, random: rand.New(rand.NewPCG(seed, 9)), seen: map[kv.ShardID]kv.Revision{}}
	s.first, s.second, s.counter = newStore(t, Options{RequestTimeout: time.Hour, Limits: Limits{MaxReaders: 8}, Spawn: func(work func()) { work() }})
	s.counter.hold = true
	for _, c := range []*cluster{s.first, s.second} {
		for _, n := range c.nodes {
			n.Subscribe(func(a *shard.Applied) {
				if a.Revision <= s.seen[c.shard] {
					return
				}
				s.seen[c.shard] = a.Revision
				for i := range a.Effects {
					e := &a.Effects[i]
					s.writes = append(s.writes, applied{e.At.Rev, string(e.Key), string(e.Value)})
				}
			})
		}
	}
	s.first.elect(1)
	s.second.elect(2)
	return s
}

func (s *storeRun) node(of *cluster) *node { return of.nodes[kv.NodeID(1+s.random.IntN(3))] }

func (s *storeRun) shard() *cluster {
	if s.random.IntN(2) == 0 {
		return s.first
	}
	return s.second
}

func (s *storeRun) key() string { return fmt.Sprintf("%d%c", 1+s.random.IntN(2), 'a'+s.random.IntN(3)) }

func (s *storeRun) write() {
	s.number++
	s.open++
	s.node(s.first).gateway.Submit(&Call{Req: putValue(s.key(), fmt.Sprint(s.number)), Done: func(resp *kv.Response, err error) {
		s.open--
		if err == nil {
			s.answered = max(s.answered, resp.Revision)
		} else if !errors.Is(err, kv.ErrLeaderChanged) && !errors.Is(err, kv.ErrOutcomeUnknown) {
			s.t.Errorf("put: %v", err)
		}
	}})
}

func (s *storeRun) read() {
	key := s.key()
	req := get(key)
	if s.random.IntN(3) == 0 {
		req = getRange(key[:1], key[:1]+"z")
	}
	stale := 8 // one in so many is serializable
	if s.random.IntN(4) == 0 {
		req, stale = getRange("1", "3"), 2
	}
	r := &read{span: req.Range.Span, before: s.answered, stale: s.random.IntN(stale) == 0}
	req.Range.Serializable = r.stale
	s.reads = append(s.reads, r)
	s.open++
	s.node(s.first).gateway.Submit(&Call{Req: req, Done: func(resp *kv.Response, err error) {
		s.open--
		r.resp, r.err, r.answers = resp, err, r.answers+1
		if err == nil && !r.stale {
			s.answered = max(s.answered, resp.Revision)
		}
	}})
}

// deliverOne has one of the frames arrive that are on their way; those between two nodes keep their order.
func (s *storeRun) deliverOne() {
	if len(s.first.frames) == 0 {
		return
	}
	at := s.random.IntN(len(s.first.frames))
	for i, f := range s.first.frames[:at] {
		if f.from == s.first.frames[at].from && f.to == s.first.frames[at].to {
			at = i
			break
		}
	}
	f := s.first.frames[at]
	s.first.frames = slices.Delete(s.first.frames, at, at+1)
	s.first.nodes[f.to].gateway.HandleMessage(f.from, f.channel, f.payload)
}

// answerOne answers a question, with what was true at some moment since.
func (s *storeRun) answerOne() {
	c := s.counter
	if len(c.questions) == 0 {
		return
	}
	at := s.random.IntN(len(c.questions))
	q := c.questions[at]
	c.questions = slices.Delete(c.questions, at, at+1)
	switch s.random.IntN(4) {
	case 0:
		q.got(q.at, nil)
	case 1:
		q.got(kv.Present{}, kv.ErrNoLeader)
	default:
		q.answer()
	}
}

func (s *storeRun) compact() {
	of := s.shard()
	n := of.nodes[of.leader]
	if n == nil || n.serving == 0 {
		return
	}
	at := s.counter.issued[of.shard]
	if at <= n.Compacted() || at <= s.counter.compacted {
		return
	}
	s.open++
	n.Propose(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at}}, anyone{}, func(_ *kv.Response, _ uint64, err error) { s.open-- })
}

func (s *storeRun) step() {
	switch p := s.random.IntN(100); {
	case p < 12:
		s.write()
	case p < 26:
		s.read()
	case p < 50:
		s.node(s.shard()).applyOne()
	case p < 64:
		s.deliverOne()
	case p < 73:
		s.answerOne()
	case p < 80:
		s.node(s.shard()).issue()
	case p < 90:
		s.node(s.shard()).number()
	case p < 92:
		of := s.shard()
		of.elect(kv.NodeID(1 + s.random.IntN(3)))
		for _, n := range s.first.nodes {
			n.gateway.LeaderChanged(of.shard)
		}
	case p < 94:
		s.counter.issuer = kv.NodeID(s.random.IntN(4))
	case p < 95:
		s.shard().lease = s.random.IntN(3) > 0
	case p < 96:
		s.counter.unclean[s.shard().shard] = s.random.IntN(2) == 0
	case p < 97:
		s.compact()
	default:
		s.first.tick(time.Duration(s.random.IntN(200)) * time.Millisecond)
	}
}

// end lets everything come to rest.
func (s *storeRun) end() {
	s.counter.hold = false
	for range 20 {
		s.counter.answerAll()
		for _, c := range []*cluster{s.first, s.second} {
			for _, n := range c.nodes {
				for n.number() {
				}
			}
		}
		exchangeBoth(s.first, s.second)
		s.first.tick(600 * time.Millisecond)
	}
}

// TestReadsAgainstList compares reads of a store of two shards, in whatever order things happen, with a list of all writes: the header is at or above all
// that was answered before the read began, and the answer is the state as of it.
func TestReadsAgainstList(t *testing.T) {
	inPlace, questions, settled := 0, 0, int64(0)
	for seed := range uint64(60) {
		s := newStoreRun(t, seed)
		for range 600 {
			s.step()
			if s.random.IntN(20) == 0 {
				for _, n := range s.first.nodes {
					if err := n.gateway.Check(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s.end()
		if s.open != 0 {
			t.Errorf("seed %d: %d calls are not answered", seed, s.open)
		}
		for i, r := range s.reads {
			switch want := ""; {
			case r.answers != 1:
				t.Errorf("seed %d: read %d: %d answers", seed, i, r.answers)
			case r.err != nil:
				t.Errorf("seed %d: read %d: %v", seed, i, r.err)
			case !r.stale && r.resp.Revision < r.before:
				t.Errorf("seed %d: read %d at revision %d, and %d was answered before it began", seed, i, r.resp.Revision, r.before)
			default:
				if want = as(s.writes, r.span, r.resp.Revision); responseText(r.resp, nil) != want {
					t.Errorf("seed %d: read %d of %q (stale: %v): %s, want %s", seed, i, r.span, r.stale, responseText(r.resp, nil), want)
				}
			}
		}
		questions += s.counter.asked
		inPlace += len(s.reads)
		for _, n := range s.first.nodes {
			settled += n.gateway.Metrics().BarrierCount
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d reads, %d questions, %d barriers", inPlace, questions, settled)
	if questions == 0 || settled == 0 {
		t.Error("something never happened")
	}
}
