package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/transport/tcpproxy"
)

// Channels as they are used between nodes.
const (
	ChannelConsensus Channel = 1
	ChannelLiveness  Channel = 2
	ChannelRequest   Channel = 3
	ChannelResponse  Channel = 4
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testCluster = kv.ClusterID(0xc1)

// recorder is a Handler that remembers, and whose memory can be waited on.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change

	frames  map[kv.NodeID][]string // "channel:payload", "done"
	ups     map[kv.NodeID][]PeerInfo
	downs   map[kv.NodeID][]bool
	returns map[kv.NodeID]int
	events  []string // from the Listener
	refused []*RefusedError

	gate   chan struct{}                                        // if set, Receive waits for it
	stream func(from kv.NodeID, name string, r io.Reader) error // if set, ReceiveStream
	active map[kv.NodeID]int
}

func newRecorder() *recorder {
	return &recorder{
		changed: make(chan struct{}), frames: map[kv.NodeID][]string{}, ups: map[kv.NodeID][]PeerInfo{},
		downs: map[kv.NodeID][]bool{}, returns: map[kv.NodeID]int{}, active: map[kv.NodeID]int{},
	}
}

func (r *recorder) note(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Receive(from kv.NodeID, channel Channel, payload []byte) {
	r.note(func() {
		if r.active[from]++; r.active[from] > 1 {
			panic("frames of one node are handled at the same time")
		}
	})
	if r.gate != nil {
		<-r.gate
	}
	r.note(func() {
		r.active[from]--
		r.frames[from] = append(r.frames[from], fmt.Sprintf("%d:%s", channel, payload))
	})
}

func (r *recorder) ReceiveDone(from kv.NodeID) {
	r.note(func() { r.frames[from] = append(r.frames[from], "done") })
}

func (r *recorder) PeerUp(node kv.NodeID, info PeerInfo) {
	r.note(func() { r.ups[node] = append(r.ups[node], info) })
}

func (r *recorder) PeerDown(node kv.NodeID, refused bool) {
	r.note(func() { r.downs[node] = append(r.downs[node], refused) })
}

func (r *recorder) PeerReturned(node kv.NodeID) {
	r.note(func() { r.returns[node]++ })
}

func (r *recorder) ReceiveStream(from kv.NodeID, name string, stream io.Reader) error {
	return r.stream(from, name, stream)
}

func (r *recorder) listener() Listener {
	event := func(format string, args ...any) {
		r.note(func() { r.events = append(r.events, fmt.Sprintf(format, args...)) })
	}
	return Listener{
		Connected: func(n kv.NodeID, _ string, info PeerInfo) { event("connected %s %s", n, info.Name) },
		Disconnected: func(n kv.NodeID, _ string, reason error, dropped int) {
			event("disconnected %s dropped=%v: %v", n, dropped > 0, reason)
		},
		DialFailed: func(n kv.NodeID, reason error) { event("dial failed %s: %v", n, reason) },
		RefusedBy: func(e *RefusedError) {
			r.note(func() { r.refused = append(r.refused, e) })
			event("refused by %s (%d): %s", e.Node, e.Refusal, e.Text)
		},
		Refused:       func(e *RefusedError) { event("refused %s (%d): %s", e.Node, e.Refusal, e.Text) },
		Accepted:      func(n kv.NodeID, _ string, info PeerInfo) { event("accepted %s %s", n, info.Name) },
		ReceiveFailed: func(n kv.NodeID, _ string, reason error) { event("receive failed %s: %v", n, reason) },
		FrameTooLarge: func(n kv.NodeID, c Channel, size int) { event("frame too large %s %d %d", n, c, size) },
	}
}

// await waits until the condition holds, looking at each change.
func (r *recorder) await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		ok, changed := condition(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("waited in vain for %s; events:\n%s\nups %v downs %v", what, strings.Join(r.events, "\n"), r.ups, r.downs)
		}
	}
}

func (r *recorder) awaitEvent(t *testing.T, part ...string) string {
	t.Helper()
	var found string
	r.await(t, fmt.Sprintf("an event with %q", part), func() bool {
		for _, e := range r.events {
			all := true
			for _, p := range part {
				all = all && strings.Contains(e, p)
			}
			if all {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

func (r *recorder) awaitUp(t testing.TB, node kv.NodeID, times int) PeerInfo {
	t.Helper()
	var info PeerInfo
	r.await(t, fmt.Sprintf("connection %d to node %s", times, node), func() bool {
		if len(r.ups[node]) >= times {
			info = r.ups[node][times-1]
		}
		return len(r.ups[node]) >= times
	})
	return info
}

// payloads are the frames from a node without the marks of bursts. Call under await.
func (r *recorder) payloads(from kv.NodeID) []string {
	return slices.DeleteFunc(slices.Clone(r.frames[from]), func(s string) bool { return s == "done" })
}

// last is the last of payloads; like it, for use inside of await.
func (r *recorder) last(from kv.NodeID) string {
	for _, frame := range slices.Backward(r.frames[from]) {
		if frame != "done" {
			return frame
		}
	}
	return ""
}

// received is payloads for use outside of await.
func (r *recorder) received(from kv.NodeID) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.payloads(from)
}

// node is a transport with its recorder, reached through a proxy whose address never changes.
type node struct {
	*Transport
	*recorder
	proxy *tcpproxy.Proxy
}

// cluster makes proxies for nodes 1..n, so that addresses are known before anybody listens.
type cluster struct {
	proxies map[kv.NodeID]*tcpproxy.Proxy
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{proxies: map[kv.NodeID]*tcpproxy.Proxy{}}
	for i := range n {
		proxy, err := tcpproxy.New("127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		proxy.Refuse() // nobody is there yet
		c.proxies[kv.NodeID(i+1)] = proxy
		t.Cleanup(proxy.Close)
	}
	return c
}

func (c *cluster) options(id kv.NodeID, instance uint64, r *recorder) Options {
	o := Options{
		Cluster: testCluster, Self: id, Name: fmt.Sprintf("n%d", id), Instance: instance,
		Metadata: fmt.Appendf(nil, "metadata of %d", id), ListenAddrs: []string{"127.0.0.1:0"},
		Peers: map[kv.NodeID][]string{}, Handler: r, Listener: r.listener(), Seed: 1,
		BackoffMin: 2 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
	}
	for other, proxy := range c.proxies {
		if other != id {
			o.Peers[other] = []string{proxy.Addr()}
		}
	}
	return o
}

func (c *cluster) open(t *testing.T, id kv.NodeID, instance uint64, change ...func(*Options)) *node {
	t.Helper()
	r := newRecorder()
	options := c.options(id, instance, r)
	for _, f := range change {
		f(&options)
	}
	tr, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	n := &node{Transport: tr, recorder: r, proxy: c.proxies[id]}
	return n
}

// expose lets the proxy of the node lead to it.
func (c *cluster) expose(t *testing.T, n *node) {
	t.Helper()
	n.proxy.SetTarget(n.Addrs()[0].String())
	n.proxy.Refuse()
	if err := n.proxy.Resume(); err != nil {
		t.Fatal(err)
	}
}

// pair is two nodes that are connected both ways.
func pair(t *testing.T, change ...func(*Options)) (*cluster, *node, *node) {
	t.Helper()
	c := newCluster(t, 2)
	a, b := c.open(t, 1, 11, change...), c.open(t, 2, 12, change...)
	c.expose(t, a)
	c.expose(t, b)
	a.awaitUp(t, 2, 1)
	b.awaitUp(t, 1, 1)
	for _, n := range []*node{a, b} {
		n.note(func() { clear(n.downs) }) // attempts before the other one listened
	}
	return c, a, b
}

func text(s string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, s...) }
}

func TestFramesBothWays(t *testing.T) {
	_, a, b := pair(t)
	info := a.awaitUp(t, 2, 1)
	if info.Name != "n2" || info.Instance != 12 || string(info.Metadata) != "metadata of 2" || info.FormatVersion != 1 {
		t.Fatalf("node 2 says of itself %+v", info)
	}
	for i := range 3 {
		if !a.Append(2, ChannelConsensus, text(fmt.Sprint("a", i))) {
			t.Fatal("no room")
		}
	}
	a.Append(2, ChannelLiveness, text(""))
	a.Flush()
	b.await(t, "4 frames", func() bool { return slices.Equal(b.payloads(1), []string{"1:a0", "1:a1", "1:a2", "2:"}) })
	b.await(t, "the end of the burst", func() bool { return b.frames[1][len(b.frames[1])-1] == "done" })

	b.Append(1, ChannelResponse, text("back"))
	b.Kick(1)
	a.await(t, "an answer", func() bool { return slices.Equal(a.payloads(2), []string{"4:back"}) })

	m := a.Metrics()
	if m.FramesSent != 4 || m.Flushes != 1 || m.FlushesPartial != 0 || !m.Peers[0].Connected || m.Peers[0].BufferBytes != 0 {
		t.Fatalf("metrics of node 1: %+v", m)
	}
	if a.Append(9, ChannelConsensus, text("x")) {
		t.Fatal("a frame for an unknown node was taken")
	}
}

// One burst of frames means one ReceiveDone, as one Flush means one write.
func TestBurstIsOneRound(t *testing.T) {
	_, a, b := pair(t)
	for i := range 100 {
		a.Append(2, ChannelRequest, text(fmt.Sprint(i)))
	}
	a.Flush()
	b.await(t, "100 frames", func() bool { return len(b.payloads(1)) == 100 && b.frames[1][len(b.frames[1])-1] == "done" })
	b.recorder.mu.Lock()
	defer b.recorder.mu.Unlock()
	// The proxy and TCP may split a write, but not into many.
	if bursts := len(b.frames[1]) - 100; bursts > 3 {
		t.Fatalf("%d bursts for one write", bursts)
	}
}

// A reader that stops fills socket and buffer; what was accepted arrives whole and in order, from
// the non-blocking writes and from the goroutine's.
func TestSlowReader(t *testing.T) {
	c := newCluster(t, 2)
	limit := func(o *Options) { o.MaxFrameBytes, o.MaxBufferBytes = 1<<20, 2<<20 }
	a, b := c.open(t, 1, 11, limit), c.open(t, 2, 12, limit)
	b.gate = make(chan struct{})
	c.expose(t, b)
	a.awaitUp(t, 2, 1)
	random := rand.New(rand.NewSource(1))
	var want []string
	refusals := 0
	for n := 0; refusals < 50; n++ {
		payload := fmt.Sprintf("%d %s", n, strings.Repeat("x", random.Intn(100_000)))
		if a.Append(2, ChannelConsensus, text(payload)) {
			want = append(want, "1:"+payload)
		} else {
			refusals++
		}
		if random.Intn(3) == 0 {
			a.Flush()
		}
	}
	m := a.Metrics()
	if m.FramesRefused != 50 || m.Peers[0].BufferBytes > 2<<20 || m.FlushesPartial == 0 {
		t.Fatalf("metrics %+v", m)
	}
	close(b.gate)
	for n := range 1000 {
		payload := fmt.Sprint("after ", n)
		if a.Append(2, ChannelConsensus, text(payload)) {
			want = append(want, "1:"+payload)
		}
		a.Flush()
	}
	b.await(t, "all frames", func() bool { return len(b.payloads(1)) >= len(want) })
	if got := b.received(1); !slices.Equal(got, want) {
		t.Fatalf("%d frames arrived, %d were sent, and they differ", len(got), len(want))
	}
}

// Many goroutines append, flush and kick at once; each one's frames stay in order.
func TestConcurrentAppends(t *testing.T) {
	_, a, b := pair(t)
	const goroutines, each = 8, 2000
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				frame := fmt.Sprintf("%d %d %s", g, i, strings.Repeat("y", i%3000))
				if !a.Append(2, ChannelRequest, text(frame)) {
					t.Error("no room")
				}
				if i%7 == g%7 {
					a.Flush()
				} else {
					a.Kick(2)
				}
			}
		})
	}
	all.Wait()
	b.await(t, "all frames", func() bool { return len(b.frames[1]) >= goroutines*each && len(b.payloads(1)) == goroutines*each })
	next := map[int]int{}
	for _, frame := range b.received(1) {
		var g, i int
		if _, err := fmt.Sscanf(frame, "3:%d %d", &g, &i); err != nil || next[g] != i || len(frame) != len(fmt.Sprintf("3:%d %d ", g, i))+i%3000 {
			t.Fatalf("frame %.40q came where %d of goroutine %d was due (%v)", frame, next[g], g, err)
		}
		next[g]++
	}
}

func TestTooLargeFrame(t *testing.T) {
	_, a, b := pair(t, func(o *Options) { o.MaxFrameBytes = 100 })
	if a.Append(2, ChannelRequest, text(strings.Repeat("z", 101))) {
		t.Fatal("taken")
	}
	a.awaitEvent(t, "frame too large 2 3 101")
	a.Append(2, ChannelRequest, text(strings.Repeat("z", 100)))
	a.Flush()
	b.await(t, "the other frame", func() bool { return len(b.payloads(1)) == 1 })
}

// Connections break at any moment: frames get lost, but never doubled, reordered or cut.
func TestCutsLoseButNeverCorrupt(t *testing.T) {
	_, a, b := pair(t)
	random := rand.New(rand.NewSource(2))
	const frames = 20_000
	sent := 0
	latest := ""
	for n := 0; n < frames; n++ {
		frame := fmt.Sprintf("%d %s.", n, strings.Repeat("w", random.Intn(5000)))
		if a.Append(2, ChannelRequest, text(frame)) {
			sent++
			latest = "3:" + frame
		}
		if random.Intn(10) == 0 {
			a.Flush()
		}
		if n%2000 == 999 { // what comes before the middle between two cuts arrives, however slow the receiver is
			a.Flush()
			b.await(t, "the frames of this connection", func() bool { return b.last(1) == latest })
		}
		if n%2000 == 1999 {
			b.proxy.Cut()
			a.awaitUp(t, 2, 1+(n+1)/2000)
		}
	}
	a.Append(2, ChannelRequest, text("last ."))
	a.Flush()
	b.await(t, "the last frame", func() bool { p := b.payloads(1); return len(p) > 0 && p[len(p)-1] == "3:last ." })
	got := b.received(1)
	before := -1
	for _, frame := range got[:len(got)-1] {
		var n int
		if _, err := fmt.Sscanf(frame, "3:%d ", &n); err != nil || n <= before || !strings.HasSuffix(frame, ".") {
			t.Fatalf("frame %.40q after number %d", frame, before)
		}
		before = n
	}
	if len(got) < sent/10 {
		t.Fatalf("%d of %d frames arrived: too few for ten cuts", len(got), sent)
	}
	// Each cut was reported, once, as not refused.
	a.recorder.mu.Lock()
	defer a.recorder.mu.Unlock()
	if want := make([]bool, 10); !slices.Equal(a.downs[2], want) {
		t.Fatalf("PeerDown was called with %v", a.downs[2])
	}
}

// A process that dies is refused at the next attempt: evidence of death.
func TestPeerDownRefused(t *testing.T) {
	c, a, b := pair(t)
	b.proxy.Refuse()
	a.await(t, "both reports", func() bool { return slices.Equal(a.downs[2], []bool{false, true}) })
	if a.Append(2, ChannelRequest, text("x")) {
		t.Fatal("a frame for a dead node was taken")
	}
	a.awaitEvent(t, "dial failed 2", "connection refused")
	// It comes back as another process.
	_ = b.Close()
	again := c.open(t, 2, 99)
	c.expose(t, again)
	if info := a.awaitUp(t, 2, 2); info.Instance != 99 {
		t.Fatalf("the new process says it is %d", info.Instance)
	}
	a.await(t, "nothing more", func() bool { return len(a.downs[2]) == 2 })
	again.awaitUp(t, 1, 1)
	again.Append(1, ChannelRequest, text("hello"))
	again.Flush()
	a.await(t, "a frame of the new process", func() bool { return slices.Equal(a.payloads(2), []string{"3:hello"}) })
}

// Who was connected before is told apart from another process under its name: only of the first something may have been lost.
func TestPeerReturned(t *testing.T) {
	c, a, b := pair(t)
	hello := func(from *node, words string, returns int) {
		t.Helper()
		from.Append(2, ChannelRequest, text(words))
		from.Flush()
		b.await(t, "a frame", func() bool { return b.last(1) == "3:"+words })
		b.recorder.mu.Lock()
		defer b.recorder.mu.Unlock()
		if b.returns[1] != returns {
			t.Fatalf("before %q the node has returned %d times, want %d", words, b.returns[1], returns)
		}
	}
	hello(a, "first", 0)
	b.proxy.Cut()
	a.awaitUp(t, 2, 2)
	hello(a, "again", 1)
	_ = a.Close()
	next := c.open(t, 1, 99)
	next.awaitUp(t, 2, 1)
	hello(next, "another", 1)
}

// A peer that never was there is reported as refused, once.
func TestPeerDownBeforeFirstConnection(t *testing.T) {
	c := newCluster(t, 2)
	a := c.open(t, 1, 11)
	a.await(t, "the report", func() bool { return slices.Equal(a.downs[2], []bool{true}) })
	b := c.open(t, 2, 12)
	c.expose(t, b)
	a.awaitUp(t, 2, 1)
	a.recorder.mu.Lock()
	defer a.recorder.mu.Unlock()
	if !slices.Equal(a.downs[2], []bool{true}) {
		t.Fatalf("PeerDown was called with %v", a.downs[2])
	}
}

// The other side closes only its half: that is an end, too.
func TestHalfClose(t *testing.T) {
	_, a, b := pair(t)
	b.proxy.HalfClose(tcpproxy.FromTarget)
	a.awaitUp(t, 2, 2)
	b.proxy.HalfClose(tcpproxy.ToTarget)
	a.awaitUp(t, 2, 3)
	a.Append(2, ChannelRequest, text("still here"))
	a.Flush()
	b.await(t, "a frame", func() bool { return slices.Contains(b.payloads(1), "3:still here") })
}

func TestDelayedFramesArrive(t *testing.T) {
	_, a, b := pair(t)
	b.proxy.Delay(tcpproxy.ToTarget, 20*time.Millisecond)
	a.Append(2, ChannelRequest, text("late"))
	a.Flush()
	b.await(t, "a delayed frame", func() bool { return len(b.payloads(1)) == 1 })
}

// A peer that takes nothing for DeadAfter is given up, in the middle of a frame. The next connection
// begins with a whole one.
func TestBlockedWriterGivesUp(t *testing.T) {
	_, a, b := pair(t, func(o *Options) { o.DeadAfter = 100 * time.Millisecond })
	b.proxy.Stall(tcpproxy.ToTarget, true)
	for a.Append(2, ChannelRequest, text(strings.Repeat("v", 1<<20))) {
		a.Flush()
	}
	end := a.awaitEvent(t, "disconnected 2 dropped=true")
	// Whichever is first: the deadline of the write, or the kernel's (TCP_USER_TIMEOUT).
	if !strings.Contains(end, "i/o timeout") && !strings.Contains(end, "connection timed out") {
		t.Fatalf("the connection ended for another reason: %s", end)
	}
	b.proxy.Stall(tcpproxy.ToTarget, false)
	a.awaitUp(t, 2, 2)
	a.Append(2, ChannelRequest, text("fresh"))
	a.Flush()
	b.await(t, "a frame on the new connection", func() bool {
		return slices.Contains(b.payloads(1), "3:fresh") || strings.Contains(fmt.Sprint(b.events), ErrMalformed.Error())
	})
	for _, frame := range b.received(1) {
		if frame != "3:fresh" && len(frame) != 1<<20+2 {
			t.Fatalf("a frame of %d bytes came, which nobody sent", len(frame))
		}
	}
	b.recorder.mu.Lock()
	defer b.recorder.mu.Unlock()
	if events := fmt.Sprint(b.events); strings.Contains(events, ErrMalformed.Error()) {
		t.Fatalf("the new connection began inside a frame: %s", events)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := newCluster(t, 1).options(1, 1, newRecorder())
	o.ListenAddrs = append(o.ListenAddrs, l.Addr().String())
	_, err = Open(o)
	if err == nil || !strings.Contains(err.Error(), "--listen-peer-urls") || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatalf("got %v", err)
	}
}

func TestBadFrameClosesConnection(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"checksum": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"channel":  func(b []byte) []byte { b[4] ^= 7; return b },
		"above the limit": func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b, 1<<31)
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2)
			b := c.open(t, 2, 12)
			conn, answer := call(t, b, c.options(1, 11, newRecorder()), 2, purposeFrames)
			defer conn.Close()
			if answer.Refusal != RefusalNone {
				t.Fatalf("refused: %s", answer.Text)
			}
			good := appendFrame(nil, ChannelRequest, text("good"))
			if _, err := conn.Write(append(good, damage(appendFrame(nil, ChannelRequest, text("bad")))...)); err != nil {
				t.Fatal(err)
			}
			event := b.awaitEvent(t, "receive failed 1", ErrMalformed.Error())
			if part := strings.Split(name, " ")[0]; part != "channel" && !strings.Contains(event, part) {
				t.Fatalf("the event does not say what is wrong: %s", event)
			}
			if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("the connection was not closed: %v", err)
			}
			b.await(t, "the good frame", func() bool { return slices.Equal(b.payloads(1), []string{"3:good"}) })
		})
	}
}

// call makes the caller's half of a handshake by hand.
func call(t *testing.T, callee *node, as Options, to kv.NodeID, why purpose) (net.Conn, *reply) {
	t.Helper()
	as = as.WithDefaults()
	conn, err := net.Dial("tcp", callee.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(appendEnvelope(nil, as.hello(to, why, "by hand").encode())); err != nil {
		t.Fatal(err)
	}
	body, err := readEnvelope(conn)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := decodeReply(body)
	if err != nil {
		t.Fatal(err)
	}
	return conn, answer
}

func TestCloseWhileBusy(t *testing.T) {
	_, a, b := pair(t)
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	s, err := a.OpenStream(context.Background(), 2, "endless")
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			if _, err := s.Write(make([]byte, 1000)); err != nil {
				break
			}
		}
		s.end()
	})
	for range 1000 {
		a.Append(2, ChannelRequest, text("x"))
		a.Flush()
	}
	_ = b.Close()
	_ = a.Close()
	writing.Wait()
	if a.Append(2, ChannelRequest, text("x")) {
		t.Fatal("a closed transport took a frame")
	}
}

// Addrs are the addresses listened on, in the order of Options.ListenAddrs.
func (t *Transport) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, l := range t.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}
