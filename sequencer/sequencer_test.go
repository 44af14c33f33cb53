package sequencer

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

func newSequencer(t testing.TB, options Options, applied, limit kv.Revision) *Sequencer {
	s, err := New(options, 1, applied, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Window: 1}, {Window: 1<<32 + 1}, {MaxShards: -1}, {Doubts: -1}} {
		if _, err := New(o, 1, 1, 0); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := New(Options{}, 0, 1, 0); err == nil {
		t.Error("epoch 0 is taken")
	}
	good := AskerOptions{Instance: 1, Patience: 1, ElectionTimeout: 2}
	for _, o := range []AskerOptions{{Patience: 1, ElectionTimeout: 2}, {Instance: 1, ElectionTimeout: 2}, {Instance: 1, Patience: 2, ElectionTimeout: 3}} {
		if _, err := NewAsker(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := NewAsker(good); err != nil {
		t.Error(err)
	}
}

// TestClaims: a frame that claims what cannot be has no effect, and ends the session.
func TestClaims(t *testing.T) {
	for name, q := range map[string]Request{
		"clean above now":     {Cleans: []Clean{{Epoch: 1, Shard: 2, AsOf: 11}}},
		"too many batches":    {Allocs: make([]Alloc, MaxWaiting+1)},
		"too many shards":     {Allocs: []Alloc{{Shard: 2}, {Shard: 3}, {Shard: 4}}},
		"too many writers":    {Multis: []AllocMulti{{Ticket: 1, Writers: []ShardGeneration{{Shard: 2}, {Shard: 3}, {Shard: 4}}}}},
		"too many are named":  {Multis: []AllocMulti{{1, make([]ShardGeneration, MaxNamed)}, {2, make([]ShardGeneration, 1)}}},
		"too many are asked":  {Frontier: make([]ShardGeneration, maxFrontier+1)},
		"too many clean ones": {Cleans: []Clean{{Shard: 2}, {Shard: 3}, {Shard: 4}}},
	} {
		s := newSequencer(t, Options{MaxShards: 2}, 1, 10)
		q.Session, q.Counter = testSession, 1
		if err := s.Step(2, &q); !errors.Is(err, errClaims) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r := s.Ready(Notice{}); len(r.Frames) != 1 || !r.Frames[0].Reply.Over {
			t.Errorf("%s: %+v", name, r.Frames)
		}
	}
}

// TestOtherEpochs: what was meant for another sequencer does not count, even in a session with this one.
func TestOtherEpochs(t *testing.T) {
	s := newSequencer(t, Options{}, 1, 10)
	step := func(q Request) Reply {
		q.Session = testSession
		if err := s.Step(2, &q); err != nil {
			t.Fatal(err)
		}
		return *s.Ready(Notice{}).Frames[0].Reply
	}
	step(Request{Counter: 1})
	r := step(Request{Counter: 2, Epoch: 1, Cleans: []Clean{{Epoch: 2, Shard: 2, AsOf: 10, Top: 1}}, Frontier: []ShardGeneration{{Shard: 2}}})
	if r.Over || r.Frontier[0].Clean {
		t.Errorf("%+v", r)
	}
	if r = step(Request{Counter: 3, Epoch: 2}); !r.Over {
		t.Errorf("%+v", r)
	}
}

// TestDeposedSequencer: a shard's leader whose newest revision came from a later sequencer may still ask the one before, which has yet to hear of its own end. The
// frame is in order, and the word does not count.
func TestDeposedSequencer(t *testing.T) {
	s := newSequencer(t, Options{}, 1, 10)
	q := Request{Session: testSession, Counter: 1, Cleans: []Clean{{Epoch: 1, Shard: 2, Leadership: 8, AsOf: 10, Top: 502}}, Frontier: []ShardGeneration{{Shard: 2}}}
	if err := s.Step(2, &q); err != nil {
		t.Fatal(err)
	}
	if r := s.Ready(Notice{}).Frames[0].Reply; r.Over || len(r.Frontier) != 1 || r.Frontier[0].Clean {
		t.Errorf("%+v", r)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// TestAskerJudges: so does one from the sequencer.
func TestAskerJudges(t *testing.T) {
	for name, r := range map[string]Reply{
		"a frame that was not sent":     {Heard: 2, Now: 10},
		"a batch that was not asked":    {Heard: 1, Now: 10, Numbers: []Numbers{{Shard: 2, Leadership: 1, Batch: 2, First: 5, N: 3}}},
		"another count":                 {Heard: 1, Now: 10, Numbers: []Numbers{{Shard: 2, Leadership: 1, Batch: 1, First: 5, N: 2}}},
		"numbers above now":             {Heard: 1, Now: 10, Numbers: []Numbers{{Shard: 2, Leadership: 1, Batch: 1, First: 9, N: 3}}},
		"shards that were not asked":    {Heard: 1, Now: 10, Frontier: []ShardFrontier{{Shard: 2}}},
		"a transaction out of turn":     {Heard: 1, Now: 10, Revisions: []MultiRevision{{Ticket: 2, Revision: 5}}},
		"transactions that descend":     {Heard: 1, Now: 10, Revisions: []MultiRevision{{1, 5}, {2, 5}}},
		"a transaction above now":       {Heard: 1, Now: 10, Revisions: []MultiRevision{{1, 11}}},
		"a transaction too many":        {Heard: 1, Now: 10, Revisions: []MultiRevision{{1, 5}, {2, 6}, {3, 7}}},
		"a doubt above now":             {Heard: 1, Now: 10, Doubts: []Doubt{{2, 11}}},
		"the same batch once and again": {Heard: 1, Now: 10, Numbers: []Numbers{{Shard: 2, Leadership: 1, Batch: 1, First: 2, N: 3}, {Shard: 2, Leadership: 1, Batch: 1, First: 5, N: 3}}},
	} {
		a, err := NewAsker(AskerOptions{Instance: 1, Patience: 1, ElectionTimeout: 2})
		if err != nil {
			t.Fatal(err)
		}
		a.Target(1)
		a.Lead(2, 1, 0)
		a.Alloc(2, 3, kv.Bounds{})
		a.AllocMulti([]ShardGeneration{{Shard: 2}})
		a.AllocMulti([]ShardGeneration{{Shard: 3}})
		r.Session, r.Counter, r.Epoch = a.Ready().Frame.Session, 1, 1
		if err := a.Step(1, &r); !errors.Is(err, errClaims) {
			t.Errorf("%s: %v", name, err)
		}
		again := a.Ready()
		if len(again.Numbers) != 0 || again.Frame == nil || again.Frame.Session.Number != r.Session.Number+1 || len(again.Frame.Allocs) != 1 ||
			len(again.Revisions) != 0 || len(again.Frame.Multis) != 2 {
			t.Errorf("%s: then %+v", name, again)
		}
	}
}

// TestAskerIsBounded: a leadership may have so many batches unanswered, and a node so many in all.
func TestAskerIsBounded(t *testing.T) {
	a, _ := NewAsker(AskerOptions{Instance: 1, Patience: 1, ElectionTimeout: 2})
	if _, ok := a.Alloc(2, 1, kv.Bounds{}); ok {
		t.Error("a shard that is not led here")
	}
	taken := 0
	for shard := range kv.ShardID(MaxWaiting/MaxBatches + 1) {
		a.Lead(shard+1, 1, 0)
		for range MaxBatches + 1 {
			if _, ok := a.Alloc(shard+1, 1, kv.Bounds{}); ok {
				taken++
			}
		}
	}
	if taken != MaxWaiting {
		t.Errorf("%d batches are taken", taken)
	}
	if _, ok := a.Alloc(1, MaxBatchNumbers+1, kv.Bounds{}); ok {
		t.Error("too many numbers in a batch")
	}
	if _, ok := a.Frontier(make([]ShardGeneration, maxFrontier+1)); ok {
		t.Error("too many shards in a frontier")
	}
	if _, ok := a.AllocMulti(nil); ok {
		t.Error("a transaction that writes nowhere")
	}
	var last MultiTicket
	for named := 0; ; named += 3 {
		ticket, ok := a.AllocMulti([]ShardGeneration{{Shard: 1}, {Shard: 2}, {Shard: 3}})
		if last = max(last, ticket); !ok {
			if named+3 <= MaxNamed {
				t.Errorf("transactions may name %d shards", named)
			}
			break
		}
	}
	a.ForgetMulti(last)
	if _, ok := a.AllocMulti([]ShardGeneration{{Shard: 1}, {Shard: 2}, {Shard: 3}}); !ok {
		t.Error("no room after one that is forgotten")
	}
	a.Target(1)
	if n := len(AppendRequest(nil, a.Ready().Frame)); n > MaxFrameBytes {
		t.Errorf("a frame of %d bytes", n)
	}
	if err := a.Check(); err != nil {
		t.Error(err)
	}
}

// TestSessionOfAnotherProcess: a process that has restarted takes the place of the one before; what that one waited for is forgotten.
func TestSessionOfAnotherProcess(t *testing.T) {
	s := newSequencer(t, Options{Window: 8}, 1, 1)
	hello := func(id Session) {
		if err := s.Step(2, &Request{Session: id, Counter: 1, Allocs: []Alloc{{Shard: 2, Leadership: 1, Batch: 1, N: 1}}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	}
	hello(Session{9, 5})
	hello(Session{8, 1})
	hello(Session{8, 2})
	if err := s.Step(2, &Request{Session: Session{8, 1}, Counter: 2}); err != nil {
		t.Fatal(err)
	}
	r := s.Ready(Notice{})
	if len(r.Frames) != 1 || r.Frames[0].Reply.Session != (Session{8, 2}) {
		t.Errorf("%+v", r.Frames)
	}
	if err := s.LimitCommitted(r.Limit); err != nil {
		t.Fatal(err)
	}
	if numbers := s.Ready(Notice{}).Frames[0].Reply.Numbers; len(numbers) != 1 || numbers[0].First != 2 {
		t.Errorf("%+v", numbers)
	}
}

// TestNumbersInOrder: many nodes and leaders under broken sessions, limits that come late and leaders that change. Every number is given out
// once, those of a leadership ascend in the order of its batches, and in the end everybody has all.
func TestNumbersInOrder(t *testing.T) {
	var refused [2]int
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		run := newRandomRun(t, rng)
		for range 300 {
			run.step()
		}
		run.finish()
		refused[0], refused[1] = refused[0]+run.refused[0], refused[1]+run.refused[1]
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if refused[0] == 0 || refused[1] == 0 {
		t.Error("nothing was too high")
	}
}

// randomRun is a sequencer with nodes that each lead two shards.
type randomRun struct {
	t         *testing.T
	rng       *rand.Rand
	sequencer *Sequencer
	askers    []*Asker
	up, down  [][]string
	limit     kv.Revision // proposed
	given     map[kv.Revision]bool
	tickets   []map[MultiTicket]bool // that wait, of each node
	newest    map[kv.ShardID]Numbers
	asked     map[kv.ShardID]Batch
	wanted    map[kv.ShardID][]Alloc // unanswered
	refused   [2]int                 // too high, and for what is compacted
	compacted kv.Revision
	at        map[kv.Revision]kv.Revision // up to where history was compacted when revisions were issued from one on
	time      time.Duration
}

func newRandomRun(t *testing.T, rng *rand.Rand) *randomRun {
	r := &randomRun{
		t: t, rng: rng, at: map[kv.Revision]kv.Revision{}, up: make([][]string, 3), down: make([][]string, 3),
		given: map[kv.Revision]bool{}, newest: map[kv.ShardID]Numbers{}, asked: map[kv.ShardID]Batch{}, wanted: map[kv.ShardID][]Alloc{},
	}
	r.sequencer = newSequencer(t, Options{Window: 8, Issued: func(n Numbers) { r.at[n.First] = r.compacted }}, 1, 1)
	for i := range 3 {
		a, err := NewAsker(AskerOptions{Instance: uint64(i + 1), Patience: 10, ElectionTimeout: 30})
		if err != nil {
			t.Fatal(err)
		}
		a.Target(9)
		r.askers = append(r.askers, a)
		r.tickets = append(r.tickets, map[MultiTicket]bool{})
		for _, shard := range []kv.ShardID{kv.ShardID(2*i + 1), kv.ShardID(2*i + 2)} {
			a.Lead(shard, 1, 0)
			r.newest[shard] = Numbers{Leadership: 1}
		}
	}
	return r
}

func (r *randomRun) step() {
	i := r.rng.IntN(len(r.askers))
	shard := kv.ShardID(2*i + 1 + r.rng.IntN(2))
	switch r.rng.IntN(15) {
	case 0, 1, 2, 3:
		n, bounds := r.rng.Uint64N(4), kv.Bounds{}
		if r.rng.IntN(3) == 0 {
			bounds.Most = r.newest[shard].First + 1 + kv.Revision(r.rng.IntN(6))
		}
		if r.rng.IntN(3) == 0 {
			bounds.Compacted = r.compacted + kv.Revision(r.rng.IntN(2))
		}
		if batch, ok := r.askers[i].Alloc(shard, n, bounds); ok {
			r.asked[shard] = batch
			r.wanted[shard] = append(r.wanted[shard], Alloc{N: n, Bounds: bounds})
		}
	case 14:
		r.compacted++
		r.sequencer.Compacted(r.compacted)
	case 4:
		if r.rng.IntN(4) == 0 {
			next := Numbers{Leadership: r.newest[shard].Leadership + 1}
			r.askers[i].Lead(shard, next.Leadership, 0)
			r.newest[shard], r.asked[shard], r.wanted[shard] = next, 0, nil
		}
	case 13:
		if ticket, ok := r.askers[i].AllocMulti([]ShardGeneration{{Shard: shard}, {Shard: shard%6 + 1}}); ok {
			r.tickets[i][ticket] = true
		}
		if waits := slices.Sorted(maps.Keys(r.tickets[i])); len(waits) > 0 && r.rng.IntN(3) == 0 {
			ticket := waits[r.rng.IntN(len(waits))]
			r.askers[i].ForgetMulti(ticket)
			delete(r.tickets[i], ticket)
		}
	case 5:
		if r.limit != 0 {
			if err := r.sequencer.LimitCommitted(r.limit); err != nil {
				r.t.Error(err)
			}
			r.limit = 0
		}
	case 6:
		if q := r.up[i]; len(q) > 0 && r.rng.IntN(3) == 0 {
			r.up[i] = q[1:]
		}
	case 7:
		if q := r.down[i]; len(q) > 0 && r.rng.IntN(3) == 0 {
			r.down[i] = q[1:]
		}
	default:
		r.move(i)
	}
	r.check()
}

// move lets node i and the sequencer do something.
func (r *randomRun) move(i int) {
	r.time++
	r.askers[i].Tick(r.time)
	ready := r.askers[i].Ready()
	for _, n := range ready.Numbers {
		r.take(n)
	}
	for _, m := range ready.Revisions {
		if !r.tickets[i][m.Ticket] || r.given[m.Revision] {
			r.t.Errorf("%d for transaction %d: nobody waits, or it was given", m.Revision, m.Ticket)
		}
		delete(r.tickets[i], m.Ticket)
		r.given[m.Revision] = true
	}
	if ready.Frame != nil {
		r.up[i] = append(r.up[i], string(AppendRequest(nil, ready.Frame)))
	}
	if q := r.up[i]; len(q) > 0 {
		request, err := DecodeRequest([]byte(q[0]))
		if err == nil {
			err = r.sequencer.Step(kv.NodeID(i+1), request)
		}
		if r.up[i] = q[1:]; err != nil {
			r.t.Error(err)
		}
	}
	work := r.sequencer.Ready(Notice{})
	if work.Limit != 0 {
		r.limit = work.Limit
	}
	for _, f := range work.Frames {
		r.down[f.To-1] = append(r.down[f.To-1], string(AppendReply(nil, f.Reply)))
	}
	if q := r.down[i]; len(q) > 0 {
		reply, err := DecodeReply([]byte(q[0]))
		if err == nil {
			err = r.askers[i].Step(9, reply)
		}
		if r.down[i] = q[1:]; err != nil {
			r.t.Error(err)
		}
	}
}

// take judges numbers that have arrived.
func (r *randomRun) take(n Numbers) {
	before := r.newest[n.Shard]
	if n.Leadership != before.Leadership || n.Batch != before.Batch+1 || n.First < before.First+kv.Revision(before.N) {
		r.t.Errorf("%+v after %+v", n, before)
	}
	wanted := r.wanted[n.Shard][0]
	r.wanted[n.Shard] = r.wanted[n.Shard][1:]
	r.judge(&wanted.Bounds, wanted.N, &n)
	for k := range kv.Revision(n.N) {
		if r.given[n.First+k] {
			r.t.Errorf("%d is given twice", n.First+k)
		}
		r.given[n.First+k] = true
	}
	r.newest[n.Shard] = n
}

// judge: what was issued keeps to the bounds, and nothing else is held back.
func (r *randomRun) judge(bounds *kv.Bounds, wanted uint64, n *Numbers) {
	tooHigh := bounds.Most != 0 && n.First > bounds.Most
	tooLate := bounds.Compacted != 0 && r.compacted > bounds.Compacted // by now
	switch {
	case wanted == 0 && n.N == 0:
	case n.N != 0 && (n.N != wanted || tooHigh || n.Compacted != bounds.Compacted || n.Compacted != 0 && r.at[n.First] > n.Compacted):
		r.t.Errorf("%d within %+v were asked for, and %+v came, when history was compacted up to %d", wanted, *bounds, *n, r.at[n.First])
	case n.N == 0 && !tooHigh && !tooLate:
		r.t.Errorf("%d within %+v were asked for, and %+v came, though history is compacted up to %d only", wanted, *bounds, *n, r.compacted)
	case n.N == 0 && tooHigh:
		r.refused[0]++
	case n.N == 0:
		r.refused[1]++
	}
}

func (r *randomRun) check() {
	if err := r.sequencer.Check(); err != nil {
		r.t.Error(err)
	}
	for _, a := range r.askers {
		if err := a.Check(); err != nil {
			r.t.Error(err)
		}
	}
}

// finish loses nothing any more.
func (r *randomRun) finish() {
	for round := range 300 {
		r.move(round % 3)
		if r.limit != 0 {
			if err := r.sequencer.LimitCommitted(r.limit); err != nil {
				r.t.Error(err)
			}
			r.limit = 0
		}
	}
	for i, waits := range r.tickets {
		if len(waits) > 0 {
			r.t.Errorf("node %d waits for %v", i+1, waits)
		}
	}
	for shard, batch := range r.asked {
		if got := r.newest[shard].Batch; got != batch {
			r.t.Errorf("shard %d has batch %d of %d", shard, got, batch)
		}
	}
}

// BenchmarkAlloc: what a frame of one node costs that asks for one batch of each of 16 shards, with codec, at both ends. A sequencer must be
// able to give out millions of numbers a second.
func BenchmarkAlloc(b *testing.B) {
	for _, n := range []uint64{1, 16, 256} {
		b.Run(map[uint64]string{1: "batches of 1", 16: "batches of 16", 256: "batches of 256"}[n], func(b *testing.B) {
			benchmarkAlloc(b, n)
		})
	}
}

func benchmarkAlloc(b *testing.B, n uint64) {
	const shards = 16
	s := newSequencer(b, Options{}, 1, 1)
	for node := range kv.NodeID(50) { // they cost nothing
		for shard := range kv.ShardID(100) {
			_ = s.Step(node+10, &Request{Session: Session{1, uint64(shard + 1)}, Counter: 1, Allocs: []Alloc{{Shard: 100*kv.ShardID(node) + shard + 100}}})
		}
	}
	_ = s.LimitCommitted(s.Ready(Notice{}).Limit)
	s.Ready(Notice{})
	a, _ := NewAsker(AskerOptions{Instance: 1, Patience: time.Second, ElectionTimeout: 2 * time.Second})
	a.Target(1)
	for shard := range kv.ShardID(shards) {
		a.Lead(shard+1, 1, 0)
	}
	var up, down []byte
	numbers := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		for shard := range kv.ShardID(shards) {
			a.Alloc(shard+1, n, kv.Bounds{})
		}
		up = AppendRequest(up[:0], a.Ready().Frame)
		q, err := DecodeRequest(up)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Step(2, q); err != nil {
			b.Fatal(err)
		}
		work := s.Ready(Notice{})
		if work.Limit != 0 {
			_ = s.LimitCommitted(work.Limit)
		}
		for _, f := range work.Frames {
			down = AppendReply(down[:0], f.Reply)
			r, err := DecodeReply(down)
			if err != nil {
				b.Fatal(err)
			}
			if err := a.Step(1, r); err != nil {
				b.Fatal(err)
			}
		}
		numbers += shards * n
	}
	b.ReportMetric(float64(numbers)/b.Elapsed().Seconds(), "revisions/s")
}

// BenchmarkTake: a leader beside the sequencer.
func BenchmarkTake(b *testing.B) {
	s := newSequencer(b, Options{}, 1, 1)
	_ = s.LimitCommitted(s.Ready(Notice{}).Limit)
	for b.Loop() {
		if _, room := s.Peek(); room < 2 {
			_ = s.LimitCommitted(s.Ready(Notice{}).Limit)
		}
		if err := s.Take(2, 0, 1, 1); err != nil {
			b.Fatal(err)
		}
	}
}
