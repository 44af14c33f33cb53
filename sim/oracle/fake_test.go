package oracle

import (
	"cmp"
	"container/heap"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/sim/workload"
)

// fake is a cluster of one store that does everything right, in virtual time: requests take effect one after the other on the
// sequential model. Connections break before and after, clients give up, streams of watches end. With lies it does something wrong.
type fake struct {
	random  *rand.Rand
	now     time.Duration
	queue   fakeQueue
	number  int
	store   *model.Store
	expires map[kv.LeaseID]time.Duration
	streams []*fakeStream
	history history.History
	calm    bool // nothing is lost
	ended   bool
	failed  string
	marks   map[string]int
	told    int // lies so far
	lies    lies
}

// lies are what the fake does wrong; nil: nothing.
type lies struct {
	// instead answers a request in place of the store.
	instead func(f *fake, r *kv.Request) (answer *kv.Response, err error, lied bool)
	// answer changes an answer, which is not shared.
	answer func(f *fake, r *kv.Request, answer *kv.Response) (lied bool)
	// refusal changes an error.
	refusal func(f *fake, r *kv.Request, err error) (*kv.Response, error)
	// message changes what a stream sends, or replaces it by several messages.
	message func(s *fakeStream, m *fakeMessage) []*fakeMessage
	// lasts says how long a lease lasts.
	lasts func(f *fake, d time.Duration) time.Duration
	// expire ends a lease.
	expire func(f *fake, id kv.LeaseID) (lied bool)
}

type fakeEvent struct {
	at     time.Duration
	number int
	run    func()
}

type fakeQueue []fakeEvent

func (q fakeQueue) Len() int { return len(q) }
func (q fakeQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].number, q[j].number)) < 0
}
func (q fakeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *fakeQueue) Push(x any)   { *q = append(*q, x.(fakeEvent)) }
func (q *fakeQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

func newFake(seed uint64) *fake {
	f := &fake{random: rand.New(rand.NewPCG(seed, 1)), store: model.New(), expires: map[kv.LeaseID]time.Duration{}, marks: map[string]int{}}
	f.store.ChooseLeaseID = func() kv.LeaseID { return kv.LeaseID(f.random.Int64()) }
	f.history.Commits = []history.Commit{}
	f.tick()
	return f
}

func (f *fake) after(d time.Duration, run func()) {
	f.number++
	heap.Push(&f.queue, fakeEvent{f.now + d, f.number, run})
}

func (f *fake) one(in int) bool { return f.random.IntN(in) == 0 }

// lie tells whether to lie now.
func (f *fake) lie(in int) bool {
	if f.calm || !f.one(in) {
		return false
	}
	f.told++
	return true
}

func (f *fake) delay() time.Duration {
	d := 100*time.Microsecond + time.Duration(f.random.Int64N(int64(5*time.Millisecond)))
	if !f.calm && f.one(30) {
		d += time.Duration(f.random.Int64N(int64(700 * time.Millisecond)))
	}
	return d
}

// runUntil lets time pass until done or the limit.
func (f *fake) runUntil(limit time.Duration, done func() bool) bool {
	for len(f.queue) > 0 && f.queue[0].at <= limit && f.failed == "" {
		if done() {
			return true
		}
		e := heap.Pop(&f.queue).(fakeEvent)
		f.now = e.at
		e.run()
	}
	if done() {
		return true
	}
	f.now = max(f.now, limit)
	return false
}

// tick ends leases and sends periodic progress.
func (f *fake) tick() {
	for _, l := range f.store.Leases() {
		if f.expires[l.ID] <= f.now {
			f.expire(l.ID)
		}
	}
	for _, s := range f.streams {
		s.tick()
	}
	f.after(100*time.Millisecond, f.tick)
}

func (f *fake) expire(id kv.LeaseID) {
	if f.lies.expire != nil && f.lies.expire(f, id) {
		return
	}
	_, _ = f.apply(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}})
}

// apply lets a request take effect, and notes what it did.
func (f *fake) apply(r *kv.Request) (*kv.Response, error) {
	from, compacted := len(f.store.History()), f.store.Compacted()
	answer, err := f.store.Apply(r)
	if err != nil {
		return nil, err
	}
	f.leases(answer)
	written := f.store.History()[from:]
	for i := range written {
		f.history.Full = append(f.history.Full, written[i].Event())
	}
	if c := f.store.Compacted(); len(written) > 0 || c != compacted {
		commit := history.Commit{At: f.now, Revision: f.store.Revision()}
		if c != compacted {
			commit.Compacted = c
		}
		f.history.Commits = append(f.history.Commits, commit)
		for _, s := range f.streams {
			s.pumpSoon()
		}
	}
	return answer, nil
}

// leases keeps the clocks of leases, which the model does not.
func (f *fake) leases(answer *kv.Response) {
	set := func(id kv.LeaseID, ttlSeconds int64) {
		lasts := time.Duration(ttlSeconds) * time.Second
		if f.lies.lasts != nil {
			lasts = f.lies.lasts(f, lasts)
		}
		f.expires[id] = f.now + lasts
	}
	switch {
	case answer.LeaseGrant != nil:
		set(answer.LeaseGrant.ID, answer.LeaseGrant.TTLSeconds)
	case answer.LeaseKeepAlive != nil && answer.LeaseKeepAlive.TTLSeconds > 0:
		set(answer.LeaseKeepAlive.ID, answer.LeaseKeepAlive.TTLSeconds)
	case answer.LeaseTimeToLive != nil && answer.LeaseTimeToLive.TTLSeconds >= 0:
		left := f.expires[answer.LeaseTimeToLive.ID] - f.now
		answer.LeaseTimeToLive.TTLSeconds = int64(max(0, left) / time.Second)
	}
}

// answer is what the node says to a request.
func (f *fake) answer(r *kv.Request) (*kv.Response, error) {
	if f.lies.instead != nil {
		if answer, err, lied := f.lies.instead(f, r); lied {
			return answer, err
		}
	}
	err := shard.Validate(r, shard.Limits{})
	var answer *kv.Response
	if err == nil {
		answer, err = f.apply(r)
	}
	if err != nil {
		if f.lies.refusal != nil {
			return f.lies.refusal(f, r, err)
		}
		return nil, err
	}
	if f.lies.answer != nil {
		mine := copyOfResponse(answer)
		if f.lies.answer(f, r, mine) {
			return mine, nil
		}
	}
	return answer, nil
}

// copyOf returns an answer whose parts that lies change are not shared.
func copyOfResponse(r *kv.Response) *kv.Response {
	mine := *r
	if r.Range != nil {
		body := *r.Range
		body.KVs = slices.Clone(body.KVs)
		mine.Range = &body
	}
	if r.Put != nil {
		body := *r.Put
		mine.Put = &body
	}
	if r.Txn != nil {
		body := *r.Txn
		body.Responses = slices.Clone(body.Responses)
		mine.Txn = &body
	}
	return &mine
}

// fakeClient is a workload.Client as a coroutine.
type fakeClient struct {
	f      *fake
	number int
	random *rand.Rand
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	done   bool
	over   bool
	waitID int
}

func (f *fake) start(number int, life func(workload.Client)) *fakeClient {
	c := &fakeClient{f: f, number: number, random: rand.New(rand.NewPCG(f.random.Uint64(), uint64(number)))}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		life(Recorded(c, &f.history))
		c.done = true
	})
	f.after(0, func() { c.next() })
	return c
}

// wait gives way until wake is called, or the timeout.
func (c *fakeClient) wait(timeout time.Duration, begin func(wake func(set func()))) {
	c.waitID++
	id := c.waitID
	wake := func(set func()) {
		if c.waitID == id && !c.over {
			c.waitID++
			set()
			c.next()
		}
	}
	begin(wake)
	c.f.after(timeout, func() { wake(func() {}) })
	if !c.yield(struct{}{}) {
		c.over = true
	}
}

func (c *fakeClient) Number() int        { return c.number }
func (c *fakeClient) Nodes() int         { return 3 }
func (c *fakeClient) Now() time.Duration { return c.f.now }
func (c *fakeClient) Rand() *rand.Rand   { return c.random }
func (c *fakeClient) Ended() bool        { return c.over || c.f.ended }
func (c *fakeClient) Mark(name string)   { c.f.marks[name]++ }
func (c *fakeClient) Fail(format string, args ...any) {
	if c.f.failed == "" {
		c.f.failed = fmt.Sprintf(format, args...)
	}
}

func (c *fakeClient) Sleep(d time.Duration) error {
	if !c.over {
		c.wait(max(d, 1), func(func(func())) {})
	}
	if c.over {
		return workload.ErrEnded
	}
	return nil
}

// List is the same: the perfect store answers at a moment.
func (c *fakeClient) List(node int, r *kv.Request, _ int64, timeout time.Duration) (*kv.Response, error) {
	return c.Do(node, r, timeout)
}

func (c *fakeClient) Do(node int, r *kv.Request, timeout time.Duration) (*kv.Response, error) {
	if c.over {
		return nil, workload.ErrEnded
	}
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	f := c.f
	o := history.Operation{Client: c.number, Node: node, Process: 1, Request: r, Invoke: f.now, Err: workload.ErrClientTimeout}
	c.wait(timeout, func(wake func(func())) {
		fate := 100
		if !f.calm {
			fate = f.random.IntN(100)
		}
		f.after(f.delay(), func() {
			if fate < 4 { // lost on the way
				f.after(f.delay(), func() { wake(func() { o.Err = workload.ErrConnection }) })
				return
			}
			answer, err := f.answer(r)
			switch {
			case fate < 8:
				answer, err = nil, workload.ErrConnection
			case fate < 9:
				answer, err = nil, kv.ErrOutcomeUnknown
			case fate < 10:
				return
			}
			f.after(f.delay(), func() { wake(func() { o.Response, o.Err = answer, err }) })
		})
	})
	if c.over {
		o.Response, o.Err = nil, workload.ErrEnded
	}
	o.Return, o.Outcome = f.now, history.OutcomeOf(o.Err)
	f.history.Operations = append(f.history.Operations, o)
	return o.Response, o.Err
}

// fakeRun is a run of some workloads with some lies.
func fakeRun(seed uint64, workloads []string, clients int, told lies) (*fake, []string) {
	f := newFake(seed)
	f.lies = told
	var taking []workload.Workload
	for _, w := range workload.All() {
		if workloads == nil || slices.Contains(workloads, w.Name) {
			taking = append(taking, w)
		}
	}
	f.random.Shuffle(len(taking), func(i, j int) { taking[i], taking[j] = taking[j], taking[i] })
	taking = taking[:min(len(taking), clients)]
	f.aside(100, taking, func(w workload.Workload) func(workload.Client) { return w.Setup })
	var all []*fakeClient
	for i := range clients {
		all = append(all, f.start(i+1, taking[i%len(taking)].Client))
	}
	f.runUntil(f.now+4*time.Second, func() bool { return false })
	f.ended, f.calm = true, true
	if !f.runUntil(f.now+30*time.Second, func() bool {
		return !slices.ContainsFunc(all, func(c *fakeClient) bool { return !c.done })
	}) && f.failed == "" {
		f.failed = "the clients did not end"
	}
	f.history.HealthySince = f.now
	f.aside(200, taking, func(w workload.Workload) func(workload.Client) { return w.Check })
	for _, c := range all {
		c.stop()
	}
	f.history.Final = f.store.Revision()
	return f, Check(&f.history)
}

func (f *fake) aside(number int, workloads []workload.Workload, part func(workload.Workload) func(workload.Client)) {
	calm := f.calm
	f.calm = true
	for i, w := range workloads {
		run := part(w)
		if run == nil || f.failed != "" {
			continue
		}
		c := f.start(number+i, run)
		if !f.runUntil(f.now+30*time.Second, func() bool { return c.done }) && f.failed == "" {
			f.failed = "setup or check of " + w.Name + " did not end"
		}
		c.stop()
	}
	f.calm = calm
}
