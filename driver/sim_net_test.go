package driver

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// network carries frames between nodes. A link keeps the order, but for frames of a connection that breaks.
type network struct {
	w       *world
	links   [][]link // from, to
	packets packetHeap
	seq     uint64
	jitter  time.Duration
	loss    float64 // share of frames that a full buffer refuses
	// Frames of consensus sent so far, and their payloads.
	counted, countedBytes int
	sent                  func(payload []byte) // if set, sees each of them
	reorder               float64              // share of frames that arrive late, after younger ones
}

type link struct {
	blocked bool
	delay   time.Duration // of every frame: what was said long ago still arrives
	last    time.Duration // when the youngest frame arrives
}

type packet struct {
	due     time.Duration
	seq     uint64
	from    int
	to      int
	channel byte
	payload []byte
	event   func() // instead of a frame
}

type packetHeap []packet

func (h packetHeap) Len() int { return len(h) }
func (h packetHeap) Less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].seq < h[j].seq
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)   { *h = append(*h, x.(packet)) }
func (h *packetHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newNetwork(w *world) *network {
	n := &network{w: w, jitter: 2 * time.Millisecond}
	for range w.options.nodes {
		n.links = append(n.links, make([]link, w.options.nodes))
	}
	return n
}

func (n *network) at(due time.Duration, event func()) {
	n.seq++
	heap.Push(&n.packets, packet{due: due, seq: n.seq, event: event})
}

func (n *network) send(from, to int, channel byte, payload []byte) {
	l := &n.links[from][to]
	if l.blocked {
		return
	}
	if channel == ChannelMarked {
		n.counted++
		n.countedBytes += len(payload)
		if n.sent != nil {
			n.sent(payload)
		}
	}
	due := n.w.now + n.w.nodes[from].stall + l.delay + time.Duration(n.w.random.Int64N(int64(n.jitter)))
	if n.w.random.Float64() < n.reorder {
		due += time.Duration(n.w.random.Int64N(int64(time.Second)))
	} else {
		due = max(due, l.last)
		l.last = due
	}
	n.seq++
	heap.Push(&n.packets, packet{due: due, seq: n.seq, from: from, to: to, channel: channel, payload: payload})
}

// deliver hands over what has arrived. A paused node's kernel takes it.
func (n *network) deliver() {
	for len(n.packets) > 0 && n.packets[0].due <= n.w.now {
		p := heap.Pop(&n.packets).(packet)
		if p.event != nil {
			p.event()
			continue
		}
		if to := n.w.nodes[p.to]; to.up && !n.links[p.from][p.to].blocked {
			to.driver.Receive(n.w.nodes[p.from].id, p.channel, p.payload)
			to.driver.ReceiveDone()
		}
	}
}

// stopped lets the others find out, sooner or later, that nobody listens any more.
func (n *network) stopped(node *simNode) {
	incarnation := node.incarnation
	for _, other := range n.w.nodes {
		if other == node {
			continue
		}
		n.links[node.index][other.index].last, n.links[other.index][node.index].last = 0, 0
		n.at(n.w.now+time.Duration(n.w.random.Int64N(int64(100*time.Millisecond))), func() {
			if other.up && node.incarnation == incarnation && !node.up {
				other.driver.PeerDown(node.id, !n.links[other.index][node.index].blocked)
			}
		})
	}
}

func (n *network) started(node *simNode) {
	for _, other := range n.w.nodes {
		if other != node && other.up {
			other.driver.PeerUp(node.id, FormatNewest)
			node.driver.PeerUp(other.id, FormatNewest)
		}
	}
}

func (n *network) block(from, to int, blocked bool) { n.links[from][to].blocked = blocked }

func (n *network) heal() {
	n.loss, n.reorder, n.jitter = 0, 0, 2*time.Millisecond
	for from := range n.links {
		for to := range n.links[from] {
			n.links[from][to] = link{last: n.links[from][to].last}
		}
	}
}

// simTransport is a node's end of the network.
type simTransport struct {
	node   *simNode
	frames []packet
}

func (t *simTransport) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	t.node.effect()
	net := t.node.w.net
	if net.w.random.Float64() < net.loss {
		return false
	}
	t.frames = append(t.frames, packet{to: int(to) - 1, channel: channel, payload: encode(nil)})
	return true
}

func (t *simTransport) Flush() {
	if len(t.frames) == 0 {
		return
	}
	t.node.effect()
	frames := t.frames
	t.frames = nil
	for _, p := range frames {
		t.node.w.net.send(t.node.index, p.to, p.channel, p.payload)
		t.node.effect()
	}
}

var errBroken = errors.New("the connection broke")

func (t *simTransport) OpenStream(_ context.Context, to kv.NodeID, name string) (Stream, error) {
	t.node.effect()
	if t.node.w.net.links[t.node.index][to-1].blocked || !t.node.w.nodes[to-1].up {
		return nil, errBroken
	}
	return &simStream{transport: t, to: t.node.w.nodes[to-1], name: name}, nil
}

type simStream struct {
	bytes.Buffer
	transport *simTransport
	to        *simNode
	name      string
}

// Close hands the stream over. Sometimes it is cut short, sometimes only the answer is lost.
func (s *simStream) Close() error {
	from := s.transport.node
	from.effect()
	net := from.w.net
	if !s.to.up || net.links[from.index][s.to.index].blocked {
		return errBroken
	}
	content := slices.Clone(s.Bytes())
	if net.loss > 0 && net.w.random.IntN(6) == 0 {
		content = content[:net.w.random.IntN(len(content))]
	}
	err := s.to.driver.ReceiveStream(from.id, s.name, bytes.NewReader(content))
	if net.links[s.to.index][from.index].blocked || net.loss > 0 && net.w.random.IntN(6) == 0 {
		return errBroken
	}
	return err
}
