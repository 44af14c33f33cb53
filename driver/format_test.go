package driver

import (
	"errors"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
)

// What a newer version sends is refused with a sentence, counted, and changes nothing.
func TestUnknownFrames(t *testing.T) {
	n := newCluster(t, 3, false).nodes[0]
	n.start(nil)
	var refused []error
	n.driver.opts.Listener.MessageRefused = func(_ consensus.GroupID, from kv.NodeID, err error) {
		if from != 2 {
			t.Errorf("from node %v", from)
		}
		refused = append(refused, err)
	}
	before := n.driver.Metrics().MessagesRefused
	mark := membership.Mark{Disk: 9, Position: 3, Processes: []membership.Process{{Began: 2, Instance: 7}}}
	marks := membership.AppendMarks(nil, []membership.NodeMark{{Node: 2, Mark: mark}})
	frames := []struct {
		channel byte
		payload []byte
	}{
		{8, []byte("of a later version")},
		{255, nil},
		{ChannelIdentity, append(lostQuestion(2, 9), 1)},
		{ChannelMarks, append(marks, 1)},
		{ChannelMarked, []byte{1, 2, 3}},
		{ChannelConsensus, []byte{1, 2}},
	}
	for _, f := range frames {
		n.driver.Receive(2, f.channel, f.payload)
	}
	n.driver.Round()
	if len(refused) != len(frames) || n.driver.Metrics().MessagesRefused != before+uint64(len(frames)) || n.driver.Err() != nil {
		t.Fatalf("%d of %d refused: %v; %v", len(refused), len(frames), errors.Join(refused...), n.driver.Err())
	}
	if !strings.Contains(refused[0].Error(), "channel 8") || !strings.Contains(refused[0].Error(), "versions 2 to 7") {
		t.Errorf("told: %v", refused[0])
	}
	if at := n.driver.node.Witnessed(2, mark.Disk); at != 0 {
		t.Errorf("marks of a frame that makes no sense were taken, up to %d", at)
	}
}
