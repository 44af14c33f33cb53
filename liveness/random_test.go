package liveness

import (
	"container/heap"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// observer runs a cluster whose clocks run at different rates, whose network delays, loses,
// duplicates and reorders, and whose processes sleep, die and come back; and it sees everything.
// After each event it compares what the holder of a promise believes with what the supporter
// is bound by, at the same real time.
type observer struct {
	random    *rand.Rand
	options   Options
	real      time.Duration // real time
	nodes     []*observed
	messages  inTransit
	sequence  int
	instances uint64

	violation string
	counted   int // how often a promise was counted on
	lapses    int
}

type observed struct {
	id     kv.NodeID
	core   *Core
	rate   float64
	offset time.Duration // of its clock, differs between processes
	asleep time.Duration // until then in real time
	// By index of another node: the real time at which this one was last seen free of promises to it,
	// and when each epoch of them began.
	lastFree   []time.Duration
	epochBegan []map[Epoch]time.Duration
	// Real time at which withdrawn epochs end.
	withdrawn []map[Epoch]time.Duration
}

func (n *observed) clock(real time.Duration) time.Duration {
	return n.offset + time.Duration(float64(real)*n.rate)
}

// real is the inverse of clock.
func (n *observed) real(clock time.Duration) time.Duration {
	return time.Duration(float64(clock-n.offset) / n.rate)
}

type transit struct {
	at       time.Duration
	order    int
	from, to int
	message  Message
}

type inTransit []transit

func (h inTransit) Len() int { return len(h) }
func (h inTransit) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h inTransit) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *inTransit) Push(x any)   { *h = append(*h, x.(transit)) }
func (h *inTransit) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

func newObserver(t *testing.T, seed int64, drift float64, options Options) *observer {
	o := &observer{random: rand.New(rand.NewSource(seed)), options: options.WithDefaults()}
	count := 2 + o.random.Intn(3)
	for i := range count {
		n := &observed{id: kv.NodeID(i + 1), rate: 1 - drift + 2*drift*float64(o.random.Intn(3))/2}
		for range count {
			n.lastFree = append(n.lastFree, 0)
			n.epochBegan = append(n.epochBegan, map[Epoch]time.Duration{})
			n.withdrawn = append(n.withdrawn, map[Epoch]time.Duration{})
		}
		o.nodes = append(o.nodes, n)
	}
	for i := range o.nodes {
		o.start(t, i)
	}
	return o
}

func (o *observer) start(t *testing.T, i int) {
	n := o.nodes[i]
	n.offset = time.Duration(o.random.Int63n(int64(time.Hour)))
	o.instances++
	options := o.options
	options.Self, options.Instance, options.Peers = n.id, o.instances, nil
	for _, other := range o.nodes {
		if other != n {
			options.Peers = append(options.Peers, other.id)
		}
	}
	core, err := New(options, n.clock(o.real))
	if err != nil {
		t.Fatal(err)
	}
	n.core = core
}

// step lets up to 10 ms pass; then one thing happens.
func (o *observer) step(t *testing.T) {
	o.real += time.Duration(o.random.Int63n(int64(10 * time.Millisecond)))
	for len(o.messages) > 0 && o.messages[0].at <= o.real {
		o.deliver(t, heap.Pop(&o.messages).(transit))
	}
	i := o.random.Intn(len(o.nodes))
	n := o.nodes[i]
	j := o.random.Intn(len(o.nodes))
	other := o.nodes[j].id
	now := n.clock(o.real)
	switch k := o.random.Intn(1000); {
	case k < 2:
		o.start(t, i)
	case k < 6:
		n.asleep = o.real + time.Duration(o.random.Int63n(int64(time.Second)))
	case n.asleep > o.real:
	case k < 20:
		n.core.PeerDown(now, other)
	case k < 30:
		n.core.PeerUp(now, other)
	case k < 40:
		if epoch, ok := n.core.PromiseEpoch(now, other); ok {
			n.withdrawn[j][epoch] = n.real(n.core.Withdraw(now, other))
		}
	default:
		n.core.Advance(now)
		o.send(i)
	}
	o.observe()
}

func (o *observer) deliver(t *testing.T, m transit) {
	n := o.nodes[m.to]
	if n.asleep > o.real {
		m.at = n.asleep // it waits in the socket
		heap.Push(&o.messages, m)
		return
	}
	if err := n.core.Receive(n.clock(o.real), o.nodes[m.from].id, m.message); err != nil {
		t.Fatal(err)
	}
	o.send(m.to)
	o.observe()
}

func (o *observer) send(from int) {
	ready := o.nodes[from].core.Ready()
	o.lapses += len(ready.Lapsed)
	for _, m := range ready.Messages {
		copies := 1
		switch k := o.random.Intn(20); {
		case k < 2:
			copies = 0
		case k < 4:
			copies = 2
		}
		for range copies {
			delay := time.Duration(o.random.Int63n(int64(5 * time.Millisecond)))
			if o.random.Intn(10) == 0 {
				delay *= 200
			}
			o.sequence++
			heap.Push(&o.messages, transit{at: o.real + delay, order: o.sequence, from: from, to: int(m.To) - 1, message: m.Message})
		}
	}
}

// observe compares all pairs at this moment of real time.
func (o *observer) observe() {
	for s, supporter := range o.nodes {
		if err := supporter.core.Check(); err != nil {
			o.violation = err.Error()
		}
		for h, holder := range o.nodes {
			if s != h {
				o.compare(s, h, supporter, holder)
			}
		}
	}
}

func (o *observer) compare(s, h int, supporter, holder *observed) {
	// Read past the methods, which would tell the core the time.
	clock := supporter.clock(o.real)
	promise := supporter.core.peer(holder.id)
	bound := clock < promise.promised
	free := !bound && clock >= supporter.core.mayVoteFrom
	if free {
		supporter.lastFree[h] = o.real
	}
	if bound {
		epoch := Epoch{Instance: supporter.core.options.Instance, Number: promise.epoch}
		if _, known := supporter.epochBegan[h][epoch]; !known {
			supporter.epochBegan[h][epoch] = o.real
		}
	}
	epoch, until := holder.core.Support(supporter.id)
	if holder.clock(o.real) >= until {
		return
	}
	o.counted++
	began, known := supporter.epochBegan[h][epoch]
	switch {
	case free:
		o.violation = fmt.Sprintf("at %v node %s counts on node %s, which is free", o.real, holder.id, supporter.id)
	case !known:
		o.violation = fmt.Sprintf("at %v node %s counts on epoch %v of node %s, which never was", o.real, holder.id, epoch, supporter.id)
	case supporter.lastFree[h] > began:
		o.violation = fmt.Sprintf("at %v node %s counts on epoch %v of node %s, which began at %v, but that node was free at %v",
			o.real, holder.id, epoch, supporter.id, began, supporter.lastFree[h])
	}
	if freeAt, ok := supporter.withdrawn[h][epoch]; ok && o.real > freeAt {
		o.violation = fmt.Sprintf("at %v node %s counts on epoch %v of node %s, which was withdrawn and ended", o.real, holder.id, epoch, supporter.id)
	}
}

func TestNobodyIsFreeWhilePromiseCounts(t *testing.T) {
	lapses := 0
	for seed := range int64(30) {
		o := newObserver(t, seed, 0.02, Options{}) // default margin: good for 2.5 %
		for range 4000 {
			o.step(t)
			if o.violation != "" {
				t.Fatalf("seed %d: %s", seed, o.violation)
			}
		}
		if o.counted < 1000 {
			t.Fatalf("seed %d: nothing happened: promises were counted on %d times", seed, o.counted)
		}
		lapses += o.lapses
	}
	if lapses < 30 {
		t.Fatalf("nothing happened: %d lapses", lapses)
	}
}

// The observer would see a violation if there were one: clocks that drift more than the margin allows.
func TestObserverSeesTooMuchDrift(t *testing.T) {
	for seed := range int64(60) {
		o := newObserver(t, seed, 0.10, Options{DriftMargin: time.Microsecond})
		for range 4000 {
			if o.step(t); o.violation != "" {
				return
			}
		}
	}
	t.Fatal("clocks drift by 10 % without a margin, and no promise was broken: the observer is blind")
}

// While nothing fails, promises hold without a gap and nobody lapses.
func TestSteadyStateNeverLapses(t *testing.T) {
	options := Options{Self: 1, Instance: 1, Peers: []kv.NodeID{2}}
	a, err := New(options, 0)
	if err != nil {
		t.Fatal(err)
	}
	options.Self, options.Instance, options.Peers = 2, 2, []kv.NodeID{1}
	b, err := New(options, 0)
	if err != nil {
		t.Fatal(err)
	}
	pass := func(now time.Duration, from kv.NodeID, ready Ready, to *Core) {
		if len(ready.Lapsed) > 0 {
			t.Fatalf("at %v node %s takes %v for dead", now, from, ready.Lapsed)
		}
		for _, m := range ready.Messages {
			if err := to.Receive(now, from, m.Message); err != nil {
				t.Fatal(err)
			}
		}
	}
	var first Epoch
	for now := time.Duration(0); now < 20*time.Second; now = a.Next() {
		a.Advance(now)
		b.Advance(now)
		pass(now, 1, a.Ready(), b)
		pass(now, 2, b.Ready(), a)
		pass(now, 1, a.Ready(), b)
		epoch, until := a.Support(2)
		if first == (Epoch{}) {
			first = epoch
		}
		if until <= now || epoch != first {
			t.Fatalf("at %v the promise is until %v in epoch %v, it began in %v", now, until, epoch, first)
		}
	}
	// A heartbeat each 100 ms in 20 s, none more.
	if sent := a.Metrics().HeartbeatsSent; sent < 199 || sent > 201 {
		t.Fatalf("%d heartbeats were sent in 20 s", sent)
	}
}
