package driver

import (
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/storage"
)

// frameRecorder is a Transport that notes the indexes of the messages of each frame.
type frameRecorder struct {
	Transport
	t      *testing.T
	frames [][]consensus.Index
}

func (r *frameRecorder) Append(_ kv.NodeID, _ byte, encode func([]byte) []byte) bool {
	messages, err := decodeFrame(encode(nil), false)
	if err != nil {
		r.t.Fatal(err)
	}
	var frame []consensus.Index
	for _, m := range messages {
		frame = append(frame, m.message.Index)
	}
	r.frames = append(r.frames, frame)
	return true
}

// TestNoticesWait: the news of what is committed leaves with the next message, in order, after a moment, or when somebody waits for it. It does not
// leave at all if that message tells the same.
func TestNoticesWait(t *testing.T) {
	now := time.Second
	live, err := liveness.New(liveness.Options{Self: 1, Peers: []kv.NodeID{2}, Instance: 1, HeartbeatInterval: time.Hour,
		PromiseDuration: 3 * time.Hour, SuspectAfter: 10 * time.Hour}, now)
	if err != nil {
		t.Fatal(err)
	}
	live.Advance(now)
	live.Ready() // the first heartbeat is not what this is about
	sent := &frameRecorder{t: t}
	node, err := membership.NewNode(now, membershipOptions(&Options{Self: 1, Nodes: []kv.NodeID{1, 2}, HeartbeatInterval: time.Hour, ElectionTimeout: 10 * time.Hour}), live, storage.NodeRecord{})
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{front: front{opts: Options{Transport: sent}, clock: func() time.Duration { return now }, wake: make(chan struct{}, 1)}, live: live, node: node,
		outgoing: outgoing{out: []peerOut{{node: 2}}}, clocks: clocks{nextTick: time.Hour}}
	message := func(index consensus.Index, notice bool) outMessage {
		return outMessage{group: 1, message: consensus.Message{From: 1, To: 2, Kind: 1, Term: 1, Index: index, Notice: notice, News: notice}}
	}
	put := func(index consensus.Index, notice bool) { d.put(2, message(index, notice)) }
	news := func(index, commit consensus.Index, change func(*outMessage)) {
		m := message(index, false)
		m.message.News, m.message.Commit = true, commit
		if change != nil {
			change(&m)
		}
		d.put(2, m)
	}
	expect := func(when string, want ...[]consensus.Index) {
		t.Helper()
		d.sendFrames()
		if !slices.EqualFunc(sent.frames, want, slices.Equal) {
			t.Fatalf("%s: sent %v, want %v", when, sent.frames, want)
		}
		sent.frames = nil
	}
	put(1, true)
	expect("a notice alone")
	if next := d.NextRound(); next != now+noticeDelay {
		t.Fatalf("the next round is due at %v, not when the notice must leave", next)
	}
	put(2, false)
	expect("with company", []consensus.Index{1, 2})
	put(3, true)
	expect("another notice")
	now += noticeDelay / 2
	put(4, true)
	expect("two of them")
	now += noticeDelay / 2
	expect("after the delay of the first: the second tells what both do", []consensus.Index{4})
	put(5, true)
	expect("one more")
	d.tellCommitted()
	if len(d.wake) != 1 {
		t.Fatal("somebody waits for the notice, and no round is asked for")
	}
	expect("when somebody waits", []consensus.Index{5})
	d.tellCommitted()
	put(6, true)
	expect("when somebody waited before", []consensus.Index{6})
	put(7, true)
	expect("nobody waits any more")
	put(8, false)
	news(9, 0, nil)
	news(10, 0, nil)
	expect("in the place of the notice, once", []consensus.Index{9, 8, 10})
	for what, change := range map[string]func(*outMessage){
		"of another group":   func(m *outMessage) { m.group = 2 },
		"of another term":    func(m *outMessage) { m.message.Term = 2 },
		"to another replica": func(m *outMessage) { m.message.To = 3 },
		"of other things":    func(m *outMessage) { m.message.News = false },
	} {
		put(11, true)
		news(12, 9, change)
		expect("news "+what, []consensus.Index{11, 12})
	}
	notice := message(13, true)
	notice.message.Commit = 7
	d.put(2, notice)
	news(14, 6, nil)
	expect("news of less", []consensus.Index{13, 14})
}

// elsewhere is somebody on another node.
type elsewhere struct{ asker }

func (elsewhere) Left() time.Duration { return time.Hour }
func (elsewhere) Elsewhere() bool     { return true }

// TestNoticesForWhoWaitsElsewhere: an answer that goes to another node, where somebody waits until it is applied, takes the notices along.
func TestNoticesForWhoWaitsElsewhere(t *testing.T) {
	for what, test := range map[string]struct {
		by      kv.Asker
		err     error
		applied consensus.Index
		hurries bool
	}{
		"elsewhere":         {by: elsewhere{}, applied: 3, hurries: true},
		"elsewhere, failed": {by: elsewhere{}, applied: 3, err: kv.ErrNoSpace},
		"here":              {by: asker(true), applied: 3},
		"nobody":            {applied: 3},
	} {
		d, answers := &Driver{front: front{wake: make(chan struct{}, 1)}}, 0
		d.holding.Store(true)
		q := request{replica: &driven{driver: d}, by: test.by, err: test.err, done: func(*kv.Response, uint64, error) { answers++ }}
		q.finish(test.applied)
		if d.hurry.Load() != test.hurries || (len(d.wake) == 1) != test.hurries || answers != 1 {
			t.Errorf("%s: hurries %v, %d answers", what, d.hurry.Load(), answers)
		}
	}
}
