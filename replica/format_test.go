package replica

import (
	"errors"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// What a newer version sends is refused with a sentence, counted, and changes nothing.
func TestUnknownFrames(t *testing.T) {
	w := newWorld(t, worldOptions{seed: 1, nodes: 3})
	n := w.nodes[0]
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	var refused []error
	n.store.opts.Listener.MessageRefused = func(_ consensus.GroupID, from kv.NodeID, err error) {
		if from != 2 {
			t.Errorf("from node %v", from)
		}
		refused = append(refused, err)
	}
	before := n.store.Metrics().MessagesRefused
	m := mark{disk: 9, position: 3, processes: []process{{2, 7}}}
	identity := appendIdentity(nil, &identityMessage{kind: identityQuestion, standing: standingMember, group: 1, disk: 9})
	frames := []struct {
		channel byte
		payload []byte
	}{
		{8, []byte("of a later version")},
		{255, nil},
		{ChannelIdentity, append(identity, 1)},
		{ChannelMarks, append(appendMark(nil, 2, &m), 1)},
		{ChannelMarked, []byte{1, 2, 3}},
		{ChannelConsensus, []byte{1, 2}},
	}
	for _, f := range frames {
		n.store.Receive(2, f.channel, f.payload)
	}
	n.guard(func() { n.store.Round() })
	if len(refused) != len(frames) || n.store.Metrics().MessagesRefused != before+uint64(len(frames)) || n.store.Err() != nil {
		t.Fatalf("%d of %d refused: %v; %v", len(refused), len(frames), errors.Join(refused...), n.store.Err())
	}
	if !strings.Contains(refused[0].Error(), "channel 8") || !strings.Contains(refused[0].Error(), "versions 2 to 5") {
		t.Errorf("told: %v", refused[0])
	}
	if len(n.store.marks.seen) != 0 {
		t.Errorf("marks of a frame that makes no sense were taken: %v", n.store.marks.seen)
	}
}
