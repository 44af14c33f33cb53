package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// twin runs random requests on a leader with random delays between evaluation, proposal and application, and on the
// sequential model at once; every answer must be the same. A follower only applies, flushes, crashes and replays.
type twin struct {
	random    *rand.Rand
	generator model.Generator
	group     group
	follower  *replica
	model     *model.Store
	// saved[i] is the model after the first i entries of the log; commands only.
	saved map[consensus.Index]*model.Store
	term  consensus.Term
	voids int
	// refused counts requests that had no room at first.
	refused int
	besides besideTwin
}

func newTwin(seed uint64) (*twin, error) {
	random := rand.New(rand.NewPCG(seed, 0))
	options := testOptions(seed)
	if random.IntN(2) == 0 {
		options.RoundLooks = 1 + random.Int64N(6)
		options.PartBytes = 1 + random.IntN(60)
	}
	t := &twin{
		random:    random,
		generator: model.Generator{Rand: random, Keys: 2 + random.IntN(12), Leases: 1 + random.IntN(4)},
		follower:  mustOpen(options),
		model:     model.New(),
		saved:     map[consensus.Index]*model.Store{},
		term:      1,
	}
	t.saved[0] = t.model.Clone()
	leader := mustOpen(options)
	if err := t.group.elect(leader, t.term); err != nil {
		return nil, err
	}
	t.saved[1] = t.model.Clone()
	return t, nil
}

func (t *twin) step() error {
	n := t.random.IntN(100)
	if len(t.besides.staged) > 0 && t.random.IntN(2) == 0 {
		n = 48 + t.random.IntN(42) // what moves it on
	}
	switch {
	case n < 48:
		return t.evaluate()
	case n < 60:
		return t.stepBeside()
	case n < 70:
		t.propose()
		return nil
	case n < 82:
		return t.applyOne(t.group.leader)
	case n < 88:
		return t.applyOne(t.follower)
	case n < 91:
		return t.tick()
	case n < 92:
		return errors.Join(t.applyBulk(t.group.leader), t.applyBulk(t.follower))
	case n < 93:
		_, err := t.group.leader.flushSome(1 + t.random.IntN(4))
		return err
	case n < 95:
		_, err := t.follower.flushSome(1 + t.random.IntN(4))
		return err
	case n < 97:
		return errors.Join(t.follower.compactSome(1+t.random.IntN(4)), t.group.leader.compactSome(1+t.random.IntN(20)))
	case n < 98:
		return t.crash(&t.follower)
	case n < 99:
		return t.changeLeader()
	}
	return t.read()
}

func (t *twin) evaluate() error {
	t.generator.Revision = t.model.Revision()
	r := t.generator.Request()
	if Validate(r, Limits{MaxTxnOps: 16}) != nil {
		return nil
	}
	m := t.group.leader
	expired := false
	if r.Kind == kv.KindLeaseKeepAlive {
		l := m.leases.byID[r.LeaseKeepAlive.ID]
		expired = l != nil && m.expired(l) && !m.alarmed(kv.AlarmCorrupt) && !m.alarmed(kv.AlarmFence)
	}
	out, err := t.evaluateCounted(r)
	if err != nil {
		return err
	}
	if out.Beside != nil || out.Blocked {
		return t.takeBeside(r, out)
	}
	if errors.Is(out.Err, kv.ErrCorrupt) && r.Kind == kv.KindLeaseKeepAlive {
		return t.sameRevision() // expired, but nothing may be deleted
	}
	if out.Fatal != nil {
		return out.Fatal
	}
	if expired { // the answer is that it is gone, and it is
		rev := t.model.Revision()
		if _, err := t.model.Apply(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: r.LeaseKeepAlive.ID}}); err != nil {
			return err
		}
		if out.Err != nil || out.Response.LeaseKeepAlive.TTLSeconds != 0 || out.Response.Revision != rev || !out.Effects {
			return fmt.Errorf("keep-alive of an expired lease: %+v", out)
		}
		return t.sameRevision()
	}
	want, wantErr := t.model.Apply(r)
	if !errors.Is(out.Err, wantErr) || (wantErr == nil) != (out.Err == nil) {
		return fmt.Errorf("%s: error %v, want %v", describe(r), out.Err, wantErr)
	}
	if wantErr == nil {
		if ttl := out.Response.LeaseTimeToLive; ttl != nil && ttl.TTLSeconds >= 0 && ttl.TTLSeconds <= want.LeaseTimeToLive.TTLSeconds {
			want.LeaseTimeToLive.TTLSeconds = ttl.TTLSeconds
		}
		forgetLeaseOrder(out.Response)
		if got, want := describe(out.Response), describe(want); got != want {
			return fmt.Errorf("%s:\n got %s\nwant %s", describe(r), got, want)
		}
	}
	if !m.lead.overlay.empty() != (out.WaitFor != 0) {
		return fmt.Errorf("%s: wait for %d", describe(r), out.WaitFor)
	}
	return t.sameRevision()
}

// evaluateCounted has half of the requests counted. One that is refused for want of room has done nothing; it comes again with more.
func (t *twin) evaluateCounted(r *kv.Request) (Outcome, error) {
	m := t.group.leader
	if t.random.IntN(2) == 0 {
		return m.Evaluate(r), nil
	}
	defer func() { r.Memory = nil }()
	before := *m.lead.overlay
	changes, ops, leases := before.changes.end(), before.ops.end(), len(before.leases)
	memory := &room{limit: 1 << 30, refuseAt: 1 + t.random.IntN(3)}
	r.Memory = memory
	out := m.Evaluate(r)
	if !errors.Is(out.Err, kv.ErrTooManyRequests) {
		return out, nil
	}
	t.refused++
	after := m.lead.overlay
	if memory.used != 0 || after.changes.end() != changes || after.ops.end() != ops || len(after.leases) != leases || after.untakenBytes != before.untakenBytes {
		return out, fmt.Errorf("%s: refused, and %d bytes are reserved, %d changes and %d ops in flight", describe(r), memory.used,
			after.changes.end()-changes, after.ops.end()-ops)
	}
	if err := t.sameRevision(); err != nil {
		return out, fmt.Errorf("%s was refused: %w", describe(r), err)
	}
	memory.refuseAt = 0
	return m.Evaluate(r), nil
}

func (t *twin) sameRevision() error {
	if got, want := t.group.leader.Evaluated(), t.model.Revision(); got != want {
		return fmt.Errorf("evaluated up to revision %d, the model is at %d", got, want)
	}
	return t.group.leader.Check()
}

func (t *twin) propose() {
	if t.group.propose() != 0 {
		t.saved[consensus.Index(len(t.group.log))] = t.model.Clone()
	}
}

func (t *twin) applyOne(r *replica) error {
	if int(r.AppliedIndex()) == len(t.group.log) {
		return nil
	}
	done, err := r.apply(t.group.log[r.AppliedIndex()])
	if err != nil {
		return err
	}
	if done.Void {
		t.voids++
	}
	if want := t.saved[done.Index].Revision(); done.Revision != want {
		return fmt.Errorf("entry %d: revision %d, want %d", done.Index, done.Revision, want)
	}
	return r.Check()
}

func (t *twin) tick() error {
	t.group.now += time.Duration(t.random.IntN(1500)) * time.Millisecond
	o := t.group.leader.lead.overlay
	before := o.ops.end()
	if err := t.group.leader.Tick(t.group.now); err != nil {
		return err
	}
	for at := before; at < o.ops.end(); at++ {
		if p := o.ops.at(at); p.kind == opRevoke {
			if _, err := t.model.Apply(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: p.lease}}); err != nil {
				return fmt.Errorf("expiry of lease %d: %w", p.lease, err)
			}
		}
	}
	return t.sameRevision()
}

// crash loses some of what the engine of a follower had not made durable, and replays the log.
func (t *twin) crash(r **replica) error {
	applied := (*r).AppliedIndex()
	options := (*r).options
	options.LogEnd = (*r).reached
	again, err := openReplica((*r).engine.Crash(t.random), options)
	if err != nil {
		return err
	}
	if again.AppliedIndex() < (*r).DurableIndex() {
		return fmt.Errorf("applied index %d after a crash, %d was durable", again.AppliedIndex(), (*r).DurableIndex())
	}
	*r = again
	return t.group.catchUp(again, applied)
}

// changeLeader loses the end of the log, makes holes in it as Multi-Paxos may, and goes on with another leader.
func (t *twin) changeLeader() error {
	old := t.group.leader
	old.Follow()
	t.besides.drop()
	applied := max(old.AppliedIndex(), t.follower.AppliedIndex())
	keep := int(applied) + t.random.IntN(len(t.group.log)-int(applied)+1)
	t.group.log = t.group.log[:keep]
	t.term++
	for i := int(applied); i < keep; i++ {
		if t.random.IntN(4) == 0 { // a hole, filled by the next leader
			t.group.log[i] = consensus.Entry{Index: consensus.Index(i + 1), Term: t.term, Kind: consensus.EntryBarrier}
			for j := i; j < keep; j++ { // everything from here on is void
				t.saved[consensus.Index(j+1)] = t.saved[consensus.Index(i)]
			}
			break
		}
	}
	t.model = t.saved[consensus.Index(keep)].Clone()
	next := old
	if t.random.IntN(2) == 0 {
		next, t.follower = t.follower, old
	}
	// The clock of another process has another zero.
	t.group.now = time.Duration(t.random.Int64N(int64(time.Hour)))
	t.saved[consensus.Index(keep+1)] = t.model.Clone()
	if err := t.group.elect(next, t.term); err != nil {
		return err
	}
	return t.sameRevision()
}

// read compares the applied state of either replica with the model of that moment.
func (t *twin) read() error {
	r := t.follower
	if t.random.IntN(2) == 0 {
		r = t.group.leader
	}
	m := t.saved[r.AppliedIndex()].Clone()
	t.generator.Revision = m.Revision()
	q := t.generator.Request()
	if Validate(q, Limits{}) != nil || !IsReadOnly(q) || q.Kind == kv.KindLeaseTimeToLive {
		return nil
	}
	got, err := r.Read(nil, t.group.now, q)
	if t.random.IntN(2) == 0 {
		view := r.store.View()
		defer view.Close()
		got, err = r.Read(view, t.group.now, q)
	}
	want, wantErr := m.Apply(q)
	if !errors.Is(err, wantErr) {
		return fmt.Errorf("read %s: error %v, want %v", describe(q), err, wantErr)
	}
	forgetLeaseOrder(got)
	if err == nil && describe(got) != describe(want) {
		return fmt.Errorf("read %s:\n got %s\nwant %s", describe(q), describe(got), describe(want))
	}
	return nil
}

// finish brings everybody to the end and compares all revisions, hashes, leases and attachments.
func (t *twin) finish() error {
	t.propose()
	for _, r := range []*replica{t.group.leader, t.follower} {
		for int(r.AppliedIndex()) < len(t.group.log) {
			if err := t.applyOne(r); err != nil {
				return err
			}
		}
		if err := t.compareState(r); err != nil {
			return err
		}
	}
	for rev := max(1, t.model.Compacted()); rev <= t.model.Revision(); rev++ {
		a, errA := t.group.leader.HashKV(rev)
		b, errB := t.follower.HashKV(rev)
		if errA != nil || errB != nil || a != b {
			return fmt.Errorf("hash at %d: %x (%v) and %x (%v)", rev, a, errA, b, errB)
		}
	}
	if err := t.crash(&t.follower); err != nil {
		return err
	}
	return t.compareState(t.follower)
}

func (t *twin) compareState(r *replica) error {
	everything := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}
	for rev := max(1, t.model.Compacted()); rev <= t.model.Revision(); rev++ {
		everything.Range.Revision = rev
		got, err := r.Read(nil, 0, everything)
		want, wantErr := t.model.Apply(everything)
		if err != nil || wantErr != nil || describe(got) != describe(want) {
			return fmt.Errorf("at revision %d:\n got %s %v\nwant %s %v", rev, describe(got), err, describe(want), wantErr)
		}
	}
	var leases []model.Lease
	for _, id := range sortedLeases(byTimeLeft(r.leases.ends(r.leaderSince()))) {
		leases = append(leases, model.Lease{ID: id, TTLSeconds: r.leases.byID[id].ttl})
		keys, err := r.attached(id, "", 0, nil)
		if err != nil {
			return err
		}
		ttl := &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id, Keys: true}}
		want, _ := t.model.Apply(ttl)
		if !slices.EqualFunc(keys, want.LeaseTimeToLive.Keys, func(a, b []byte) bool { return string(a) == string(b) }) {
			return fmt.Errorf("keys of lease %d: %q, want %q", id, keys, want.LeaseTimeToLive.Keys)
		}
	}
	if want := t.model.Leases(); len(want)+len(leases) > 0 && !reflect.DeepEqual(leases, want) {
		return fmt.Errorf("leases %v, want %v", leases, want)
	}
	return r.Check()
}

// forgetLeaseOrder: the model has no clock, so its leases come by ID.
func forgetLeaseOrder(r *kv.Response) {
	if r != nil && r.LeaseLeases != nil {
		sortedLeases(r.LeaseLeases.IDs)
	}
}

func sortedLeases(ids []kv.LeaseID) []kv.LeaseID {
	slices.Sort(ids)
	return ids
}

// describe prints without telling nil from empty.
func describe(v any) string { return fmt.Sprint(plain(reflect.ValueOf(v))) }

func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "-"
		}
		return plain(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return string(v.Bytes())
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.Struct:
		text := ""
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() && !(f.Kind() == reflect.Slice && f.Len() == 0) {
				text += fmt.Sprintf("%s:%v ", v.Type().Field(i).Name, plain(f))
			}
		}
		return "{" + text + "}"
	}
	return v.Interface()
}

func runTwin(seed uint64, steps int) (*twin, error) {
	t, err := newTwin(seed)
	if err != nil {
		return nil, err
	}
	for i := range steps {
		if err := t.step(); err != nil {
			return t, fmt.Errorf("seed %d, step %d: %w", seed, i, err)
		}
	}
	if err := t.finish(); err != nil {
		return t, fmt.Errorf("seed %d, at the end: %w", seed, err)
	}
	return t, nil
}

func TestTwin(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 20
	}
	revisions, terms, refused := kv.Revision(0), consensus.Term(0), 0
	var besides besideTwin
	for seed := range seeds {
		w, err := runTwin(seed, 600)
		if err != nil {
			t.Fatal(err)
		}
		revisions += w.model.Revision()
		terms += w.term
		refused += w.refused
		besides.add(&w.besides)
	}
	t.Logf("beside the rounds: %+v", besides)
	if besides.effects == 0 || besides.answers == 0 || besides.blocked == 0 || besides.failed == 0 || besides.dropped == 0 || besides.bulks == 0 || besides.abandoned == 0 {
		t.Error("something never happened to requests beside the rounds")
	}
	if t.Logf("%d revisions in %d terms, %d requests were refused at first", revisions, terms, refused); refused == 0 {
		t.Error("no request was refused for want of room")
	}
}

func FuzzTwin(f *testing.F) {
	f.Add(uint64(1), uint16(300))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		if _, err := runTwin(seed, int(steps%2000)); err != nil {
			t.Fatal(err)
		}
	})
}
