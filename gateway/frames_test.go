package gateway

import (
	"encoding/binary"
	"testing"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

// The frames between gateways once more, by hand, as whoever reaches the port could write them. Kinds are those of package link; shard 0: the frame
// does not say which one it is of.

const stranger = 77 // the instance of whoever asks in tests

func frameHead(kind byte, instance uint64, shard kv.ShardID) []byte {
	if shard == 0 {
		return binary.LittleEndian.AppendUint64([]byte{kind}, instance)
	}
	return binary.AppendUvarint(binary.LittleEndian.AppendUint64([]byte{kind + 16}, instance), uint64(shard))
}

func addItem(frame []byte, id uint64, body []byte) []byte {
	frame = binary.AppendUvarint(frame, id)
	return append(binary.AppendUvarint(frame, uint64(len(body))), body...)
}

// requestFrame asks for one request.
func requestFrame(shard kv.ShardID, id uint64, req *kv.Request) []byte {
	return addItem(frameHead(1, stranger, shard), id, etcdwire.AppendRequest(nil, req))
}

// timedFrame asks for one request, of whose time so many milliseconds are left.
func timedFrame(shard kv.ShardID, id, left uint64, req *kv.Request) []byte {
	return addItem(frameHead(6, stranger, shard), id, etcdwire.AppendRequest(binary.AppendUvarint(nil, left), req))
}

func barrierFrame(shard kv.ShardID, id uint64) []byte {
	return binary.AppendUvarint(frameHead(2, stranger, shard), id)
}

// outcomes reads the frames on the way to a node: answers to the stranger's calls, or to barriers.
func (c *cluster) outcomes(t *testing.T, to kv.NodeID) (all []told) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		a, err := link.DecodeAnswers(f.payload)
		if f.to != to || f.channel != ChannelResponse || err != nil || a.Instance != stranger {
			t.Fatalf("a frame for node %v on channel %d: %v", f.to, f.channel, err)
		}
		if a.Barrier {
			all = append(all, told{head: a.Head, id: a.ID, barrier: true, err: a.Err})
		}
		a.Each(func(id uint64, body []byte) {
			o, bad := link.DecodeOutcome(body)
			if bad != nil {
				t.Fatal(bad)
			}
			all = append(all, told{head: a.Head, id: id, err: o.Err})
		})
	}
	c.frames = nil
	return all
}

type told struct {
	head    link.Head
	id      uint64
	barrier bool
	err     error
}
