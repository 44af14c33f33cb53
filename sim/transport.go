package sim

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// transport is a node's end of the network: driver.Transport and gateway.Sender.
type transport struct {
	node    *node
	frames  []frame
	spare   []frame // the array of the last flush
	scratch []byte
}

var _ gateway.Sender = (*transport)(nil)

func (t *transport) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	t.node.effect()
	n := t.node.w.net
	other := t.node.w.named(to, uint(t.node.index))
	if other == nil || !n.accepts(t.node, other) || n.loses(t.node, other, channel) || n.losesSession(t.node, other, channel) {
		return false
	}
	t.scratch = encode(t.scratch[:0])
	if channel == issuer.Channel {
		t.noteSession()
	}
	t.frames = append(t.frames, frame{from: t.node, to: other, sender: t.node.id, receiver: to, channel: channel, payload: bytes.Clone(t.scratch)})
	return true
}

// noteSession looks whether the frame in scratch begins a session with a sequencer.
func (t *transport) noteSession() {
	if !sequencer.IsRequest(t.scratch) {
		return
	}
	if q, err := sequencer.DecodeRequest(t.scratch); err == nil && q.Counter == 1 {
		t.node.w.ledger.sessions[t.node] = t.node.w.now
	}
}

func (t *transport) Flush() {
	if len(t.frames) == 0 {
		return
	}
	frames := t.frames
	t.frames, t.spare = t.spare[:0], nil
	w := t.node.w
	for i := range frames {
		f := &frames[i]
		w.happened(traceFrame, t.node.number(), uint64(f.receiver)<<8|uint64(f.channel), sum(f.payload))
		t.node.effect()
		w.net.send(*f)
	}
	clear(frames)
	t.spare = frames
	t.node.effect()
}

// Kick has the frames of all peers sent: nobody can tell.
func (t *transport) Kick(kv.NodeID) { t.Flush() }

var errBroken = errors.New("sim: the connection between the nodes broke")

func (t *transport) OpenStream(_ context.Context, to kv.NodeID, name string) (driver.Stream, error) {
	t.node.effect()
	s := &stream{transport: t, to: t.node.w.named(to, uint(t.node.index)), name: name}
	if s.to == nil || !s.reaches() {
		return nil, errBroken
	}
	return s, nil
}

// stream carries a snapshot on a connection of its own.
type stream struct {
	bytes.Buffer
	transport *transport
	to        *node
	name      string
}

func (s *stream) reaches() bool {
	from, n := s.transport.node, s.transport.node.w.net
	return s.to.up && n.w.connected(from, s.to) && n.link(from, s.to).blocked == 0 && n.link(s.to, from).blocked == 0
}

// Close hands the stream over. While the network loses things it may be cut short, or only the answer be lost.
func (s *stream) Close() error {
	from := s.transport.node
	n := from.w.net
	l := n.link(from, s.to)
	from.effect()
	from.sleep(time.Duration(l.random.Int64N(int64(20 * time.Millisecond))))
	for i := 0; s.reaches() && from.w.now < s.to.frozenUntil; i++ {
		from.sleep(s.to.frozenUntil - from.w.now)
	}
	if !s.reaches() {
		return errBroken
	}
	content := s.Bytes()
	if n.loss > 0 && len(content) > 0 && l.random.IntN(6) == 0 {
		content = content[:l.random.IntN(len(content))]
		from.w.mark("snapshot cut short")
	}
	err := errBroken
	s.to.enter(func() { err = s.to.store.ReceiveStream(from.id, s.name, bytes.NewReader(slices.Clone(content))) })
	if !s.reaches() || n.loss > 0 && l.random.IntN(6) == 0 {
		return errBroken
	}
	return err
}
