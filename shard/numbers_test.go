package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/storage"
)

// numbering runs random requests on several shards whose revisions come from one counter. Each shard has a sequential model, which applies a batch when it
// gets its numbers; every answer must be the same, revisions included.
type numbering struct {
	random *rand.Rand
	last   kv.Revision // that was issued
	// compacted is up to where history is compacted, because an entry of the system shard was applied somewhere.
	compacted kv.Revision
	shards    []*numberedShard
	seen      struct {
		exact, moved, anew, guessed, unnumbered, informed, effectless, besides, bulks, lost, followed, outdated int
	}
}

type numberedShard struct {
	group     group
	follower  *replica
	generator model.Generator
	model     *model.Store
	saved     map[consensus.Index]*model.Store
	term      consensus.Term

	open     bool
	exact    bool
	base     kv.Revision
	heard    kv.Revision       // of compaction, when the batch began
	answered []answeredRequest // in the open batch, in order
	later    []*kv.Request     // that could not be decided in the last batch
	jobs     []*Beside         // decided
	requests map[*Beside]*kv.Request
	views    map[*Beside]*model.Store // as of the views that the jobs were decided on
}

type answeredRequest struct {
	request *kv.Request
	outcome Outcome
	view    *model.Store // that it was decided on, if that was beside the rounds
}

func newNumbering(seed uint64) (*numbering, error) {
	random := rand.New(rand.NewPCG(seed, 0))
	w := &numbering{random: random, last: 1}
	for i := range 2 + random.IntN(2) {
		options := testOptions(seed)
		options.Shard, options.Sequenced = kv.ShardID(i+1), true
		if random.IntN(2) == 0 {
			options.RoundLooks, options.PartBytes = 1+random.Int64N(6), 1+random.IntN(60)
		}
		s := &numberedShard{
			generator: model.Generator{Rand: random, Keys: 2 + random.IntN(6), Leases: 1 + random.IntN(3)},
			follower:  mustOpen(options), model: model.New(), saved: map[consensus.Index]*model.Store{}, term: 1,
			requests: map[*Beside]*kv.Request{}, views: map[*Beside]*model.Store{},
		}
		s.saved[0] = s.model.Clone()
		if err := s.group.elect(mustOpen(options), s.term); err != nil {
			return nil, err
		}
		s.saved[1] = s.model.Clone()
		w.shards = append(w.shards, s)
	}
	return w, nil
}

func (w *numbering) step() error {
	s := w.shards[w.random.IntN(len(w.shards))]
	switch n := w.random.IntN(100); {
	case n < 45:
		return w.evaluate(s)
	case n < 65:
		return w.number(s)
	case n < 70:
		return w.runBeside(s)
	case n < 74:
		return w.stepBulk(s)
	case n < 88:
		return w.applyOne(s, s.group.leader)
	case n < 95:
		return w.applyOne(s, s.follower)
	case n < 96:
		_, err := s.follower.flushSome(1 + w.random.IntN(4))
		return err
	case n < 97:
		return s.follower.compactSome(1 + w.random.IntN(4))
	case n < 98:
		return s.crash(w.random)
	}
	return w.changeLeader(s)
}

func (w *numbering) begin(s *numberedShard) error {
	if s.open {
		return nil
	}
	s.open, s.exact, s.base = true, w.random.IntN(2) == 0, w.last
	if known := s.group.leader.Evaluated(); !s.exact && w.random.IntN(2) == 0 {
		s.base = known + kv.Revision(w.random.Int64N(int64(w.last-known)+1)) // what was heard last
	}
	if s.exact || w.random.IntN(2) == 0 {
		s.heard = w.compacted
	}
	return s.group.leader.Begin(kv.Present{Revision: s.base, Compacted: s.heard}, s.exact)
}

func (w *numbering) evaluate(s *numberedShard) error {
	if err := w.begin(s); err != nil {
		return err
	}
	m := s.group.leader
	if m.Sealed() {
		return nil
	}
	if len(s.jobs) > 0 && w.random.IntN(2) == 0 {
		job := s.jobs[0]
		s.jobs = s.jobs[1:]
		w.seen.besides++
		return w.noteBeside(s, job, m.FinishBeside(job))
	}
	if len(s.later) > 0 && m.Unnumbered() == 0 && len(s.answered) == 0 {
		return w.evaluateLater(s)
	}
	s.generator.Revision = w.last
	r := s.generator.Request()
	if Validate(r, Limits{MaxTxnOps: 16}) != nil || s != w.shards[0] && ofSystemShard(r) {
		return nil
	}
	out := m.Evaluate(r)
	if out.Unnumbered && s.exact {
		return fmt.Errorf("%s waits for a number in a batch whose numbers are known", describe(r))
	}
	if out.Unnumbered {
		s.later = append(s.later[:min(len(s.later), 3)], r)
	}
	return w.note(s, r, nil, out)
}

// evaluateLater evaluates what comes first in a batch, since it had to wait for numbers. Whatever it is, it has not to wait once more: it would for ever.
func (w *numbering) evaluateLater(s *numberedShard) error {
	r := s.later[0]
	s.later = s.later[1:]
	w.seen.informed++
	out := s.group.leader.EvaluateInformed(r)
	if out.Unnumbered {
		return fmt.Errorf("%s waits for a number once more", describe(r))
	}
	if errors.Is(out.Err, kv.ErrFutureRevision) {
		return nil // it was when the batch before was numbered, which is after it came
	}
	return w.note(s, r, nil, out)
}

// ofSystemShard tells whether a request is one for the system shard, or would have to ask it about a lease (see TestLeasesOfOtherShards).
func ofSystemShard(r *kv.Request) (of bool) {
	eachLease(r, func(id kv.LeaseID) { of = of || id != 0 })
	return of || !aboutKeys(r.Kind)
}

// noteBeside notes what became of a request that was decided beside the rounds. It may wait for a number in a batch whose numbers are known, too: it was decided
// when they were lower.
func (w *numbering) noteBeside(s *numberedShard, job *Beside, out Outcome) error {
	return w.note(s, s.requests[job], s.views[job], out)
}

// note remembers an answer until the batch has its numbers. view is nil if it was decided in the batch.
func (w *numbering) note(s *numberedShard, r *kv.Request, view *model.Store, out Outcome) error {
	switch {
	case out.Fatal != nil:
		return out.Fatal
	case out.Unnumbered:
		w.seen.unnumbered++
	case out.Beside != nil:
		s.requests[out.Beside] = r
	case out.Blocked, out.Staged:
	default:
		s.answered = append(s.answered, answeredRequest{r, out, view})
	}
	return s.group.leader.Check()
}

func (w *numbering) runBeside(s *numberedShard) error {
	if job := s.group.leader.NextBeside(); job != nil {
		s.views[job] = s.saved[s.group.leader.AppliedIndex()]
		job.Run(func() bool { return false })
		s.jobs = append(s.jobs, job)
	}
	return nil
}

// stepBulk does the next step of a request with many effects, or makes room for it.
func (w *numbering) stepBulk(s *numberedShard) error {
	m := s.group.leader
	if err := m.batch(func(b storage.Batch) error { m.ApplyBulk(b, 2); return nil }); err != nil {
		return err
	}
	if _, err := m.flushSome(3); err != nil {
		return err
	}
	if err := w.begin(s); err != nil || m.Sealed() {
		return err
	}
	if job, out := m.StepBulk(); job != nil {
		w.seen.bulks++
		return w.noteBeside(s, job, out)
	}
	return nil
}

// number gives the batch its numbers, and compares its answers with the model's. While a batch is exact others get numbers all the same, now and then, as they do
// when another sequencer takes over.
func (w *numbering) number(s *numberedShard) error {
	if !s.open {
		return nil
	}
	for _, other := range w.shards {
		if other != s && other.open && other.exact && w.random.IntN(4) > 0 {
			return nil
		}
	}
	m := s.group.leader
	first, n := w.last+1, m.Unnumbered()
	w.last += kv.Revision(n)
	err := m.Number(first, w.compacted)
	if errors.Is(err, ErrBegunAnew) {
		if w.seen.anew++; w.compacted > s.heard {
			w.seen.outdated++
		} else if first == s.base+1 {
			return fmt.Errorf("a batch from %d, exact %v, that gets %d begins anew", s.base, s.exact, first)
		} else if !s.exact {
			w.seen.guessed++
		}
		return w.beginAnew(s)
	}
	if err != nil {
		return err
	}
	switch {
	case s.exact && first == s.base+1:
		w.seen.exact++
	case n > 0:
		w.seen.moved++
	case len(s.answered) > 0:
		w.seen.effectless++
	}
	s.model.Advance(first - 1)
	if s != w.shards[0] {
		s.model.CompactTo(w.compacted)
	}
	for _, a := range s.answered {
		if err := s.compare(a); err != nil {
			return fmt.Errorf("batch from %d, exact %v, first number %d: %w", s.base, s.exact, first, err)
		}
	}
	s.open, s.answered = false, nil
	if got, want := m.Evaluated(), s.model.Revision(); got != want {
		return fmt.Errorf("evaluated up to revision %d, the model is at %d", got, want)
	}
	if s.group.propose() != 0 {
		s.saved[consensus.Index(len(s.group.log))] = s.model.Clone()
	}
	return m.Check()
}

func (w *numbering) beginAnew(s *numberedShard) error {
	m := s.group.leader
	if err := s.group.catchUp(m, consensus.Index(len(s.group.log))); err != nil {
		return err
	}
	s.forget()
	return m.BeginAnew()
}

func (s *numberedShard) forget() {
	for _, job := range s.jobs {
		job.Drop()
	}
	s.open, s.answered, s.jobs = false, nil, nil
	clear(s.requests)
	clear(s.views)
}

// compare: that there is no such lease may be as of the view that it was decided on. Latches keep keys as they are, not leases.
func (s *numberedShard) compare(a answeredRequest) error {
	r, out := a.request, a.outcome
	if a.view != nil && errors.Is(out.Err, kv.ErrLeaseNotFound) {
		if _, err := a.view.Clone().Apply(r); errors.Is(err, kv.ErrLeaseNotFound) {
			return nil
		}
	}
	want, wantErr := s.model.Apply(r)
	if !errors.Is(out.Err, wantErr) || (wantErr == nil) != (out.Err == nil) {
		return fmt.Errorf("%s: error %v, want %v", describe(r), out.Err, wantErr)
	}
	if wantErr != nil {
		return nil
	}
	forgetLeaseOrder(out.Response)
	if r.Kind == kv.KindLeaseTimeToLive { // with several shards the keys are asked for elsewhere
		out.Response.LeaseTimeToLive.Binding, want.LeaseTimeToLive.Keys = nil, nil
	}
	if got, want := describe(out.Response), describe(want); got != want {
		return fmt.Errorf("%s:\n got %s\nwant %s", describe(r), got, want)
	}
	return nil
}

func (w *numbering) applyOne(s *numberedShard, r *replica) error {
	if int(r.AppliedIndex()) == len(s.group.log) {
		return nil
	}
	done, err := r.apply(s.group.log[r.AppliedIndex()])
	if err != nil {
		return err
	}
	if s == w.shards[0] {
		w.compacted = max(w.compacted, done.Compacted)
	} else if done.Compacted > w.compacted {
		return fmt.Errorf("entry %d compacts the shard at %d, and the store is at %d", done.Index, done.Compacted, w.compacted)
	} else if done.Compacted > 0 {
		w.seen.followed++
	}
	if len(done.Effects) > 0 && done.Revision != s.saved[done.Index].Revision() {
		return fmt.Errorf("entry %d: revision %d, want %d", done.Index, done.Revision, s.saved[done.Index].Revision())
	}
	return r.Check()
}

func (s *numberedShard) crash(random *rand.Rand) error {
	applied := s.follower.AppliedIndex()
	options := s.follower.options
	options.LogEnd = s.follower.reached
	again, err := openReplica(s.follower.engine.Crash(random), options)
	if err != nil {
		return err
	}
	s.follower = again
	return s.group.catchUp(again, applied)
}

// changeLeader loses the end of the log; what had numbers there is a gap.
func (w *numbering) changeLeader(s *numberedShard) error {
	old := s.group.leader
	old.Follow()
	s.forget()
	applied := max(old.AppliedIndex(), s.follower.AppliedIndex())
	keep := int(applied) + w.random.IntN(len(s.group.log)-int(applied)+1)
	w.seen.lost += len(s.group.log) - keep
	s.group.log = s.group.log[:keep]
	s.term++
	s.model = s.saved[consensus.Index(keep)].Clone()
	next := old
	if w.random.IntN(2) == 0 {
		next, s.follower = s.follower, old
	}
	s.saved[consensus.Index(keep+1)] = s.model.Clone()
	return s.group.elect(next, s.term)
}

// finish compares the states of all revisions.
func (w *numbering) finish() error {
	for _, s := range w.shards {
		if s.open {
			if err := w.number(s); err != nil {
				return err
			}
		}
		if s.open {
			s.group.leader.Follow()
			s.model = s.saved[consensus.Index(len(s.group.log))].Clone()
		}
		if s != w.shards[0] {
			if err := w.follow(s); err != nil {
				return err
			}
		}
		for _, r := range []*replica{s.group.leader, s.follower} {
			if err := s.group.catchUp(r, consensus.Index(len(s.group.log))); err != nil {
				return err
			}
			if err := s.compareStates(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow has a new leader of the shard, whose clients are silent, compact it like the store.
func (w *numbering) follow(s *numberedShard) error {
	m := s.group.leader
	s.term++
	if err := s.group.elect(m, s.term); err != nil {
		return err
	}
	if err := m.Begin(kv.Present{Revision: w.last, Compacted: w.compacted}, false); err != nil {
		return err
	}
	if err := m.Number(0, 0); err != nil {
		return err
	}
	s.model.Advance(w.last)
	s.model.CompactTo(w.compacted)
	if s.group.propose() != 0 {
		s.saved[consensus.Index(len(s.group.log))] = s.model.Clone()
	}
	if err := s.group.catchUp(m, consensus.Index(len(s.group.log))); err != nil || m.Compacted() == w.compacted {
		return err
	}
	return fmt.Errorf("shard %d is compacted at %d, the store at %d", m.Shard(), m.Compacted(), w.compacted)
}

func (s *numberedShard) compareStates(r *replica) error {
	everything := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}
	for rev := max(1, s.model.Compacted()); rev <= r.Closed(); rev++ {
		everything.Range.Revision = rev
		got, err := r.Read(nil, 0, everything)
		want, wantErr := s.model.Apply(everything)
		if err != nil || wantErr != nil || describe(got.Range) != describe(want.Range) {
			return fmt.Errorf("at revision %d:\n got %s %v\nwant %s %v", rev, describe(got), err, describe(want), wantErr)
		}
	}
	return errors.Join(r.Check(), r.CheckVersions())
}

func TestNumbering(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 50
	}
	total := map[string]int{}
	// The others: beside the rounds, a read of a revision that is issued meanwhile, a put with a lease that is granted meanwhile, and a read of a revision that
	// is issued between Begin and Number.
	for i := range seeds + 3 {
		seed := i
		if i >= seeds {
			seed = []uint64{2774, 3482, 4377}[i-seeds]
		}
		w, err := newNumbering(seed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 400 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
		if err := w.finish(); err != nil {
			t.Fatalf("seed %d, at the end: %v", seed, err)
		}
		for name, n := range map[string]int{"exact": w.seen.exact, "moved": w.seen.moved, "anew": w.seen.anew, "guessed": w.seen.guessed, "unnumbered": w.seen.unnumbered, "informed": w.seen.informed,
			"effectless": w.seen.effectless, "beside": w.seen.besides, "bulks": w.seen.bulks, "lost": w.seen.lost, "followed": w.seen.followed, "outdated": w.seen.outdated} {
			total[name] += n
		}
	}
	t.Log(total)
	for name, n := range total {
		if n == 0 {
			t.Errorf("it never happened: %s", name)
		}
	}
}

// TestBeginAnewUnstages: a deletion of many keys is half staged when the leadership begins anew. What was staged does not come with the next one.
func TestBeginAnewUnstages(t *testing.T) {
	options := testOptions(1)
	options.Sequenced, options.RoundLooks, options.PartBytes = true, 1, 1
	g := group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	m, last := g.leader, kv.Revision(1)
	begin := func() {
		t.Helper()
		if err := m.Begin(kv.Present{Revision: last}, true); err != nil {
			t.Fatal(err)
		}
	}
	finish := func() {
		t.Helper()
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
	put := func(key string) *kv.Request {
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}}
	}
	for _, key := range []string{"a", "b", "c", "x", "y", "z"} {
		begin()
		m.Evaluate(put(key))
		finish()
	}
	deletion := func(from, to string) *Beside {
		t.Helper()
		begin()
		job := m.Evaluate(&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte(from), End: []byte(to)}}}).Beside
		finish()
		if job == nil || m.NextBeside() != job {
			t.Fatal("the deletion is not decided beside the rounds")
		}
		job.Run(func() bool { return false })
		begin()
		if out := m.FinishBeside(job); !out.Staged {
			t.Fatalf("the deletion is not staged: %+v", out)
		}
		finish()
		return job
	}
	deletion("a", "d")
	if err := m.flushAll(); err != nil {
		t.Fatal(err)
	}
	begin()
	m.StepBulk()
	finish()
	if staged, _ := m.Bulk(); staged != 1 {
		t.Fatalf("%d effects are staged, want 1", staged)
	}
	begin()
	m.Evaluate(put("k"))
	own := kv.Compare{Span: kv.Span{Start: []byte("k")}, Target: kv.CompareMod, Result: kv.CompareEqual, Integer: int64(last + 1)}
	m.Evaluate(&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{own}, Success: []kv.Op{{Put: &kv.PutRequest{Key: []byte("l")}}}}})
	if last += 10; !errors.Is(m.Number(last+1, 0), ErrBegunAnew) { // others have got numbers
		t.Fatal("a decision by another revision stands")
	}
	if err := m.BeginAnew(); err != nil {
		t.Fatal(err)
	}
	job := deletion("x", "zz")
	for of := (*Beside)(nil); of == nil; {
		if err := m.batch(func(b storage.Batch) error { m.ApplyBulk(b, 1<<30); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := m.flushAll(); err != nil {
			t.Fatal(err)
		}
		begin()
		if of, _ = m.StepBulk(); of != nil && of != job {
			t.Fatal("another request takes effect")
		}
		finish()
	}
	all, err := m.Read(nil, 0, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}})
	if err != nil || all.Range.Count != 3 {
		t.Fatalf("%d keys are left (%v), want a, b and c", all.Range.Count, err)
	}
}
