package gateway

import (
	"testing"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// FuzzHandleMessage: whatever a peer sends is an error or an answer, never a panic, and no call is answered twice or never.
func FuzzHandleMessage(f *testing.F) {
	for _, shard := range []kv.ShardID{0, 1, 2, 3} {
		for _, frame := range [][]byte{requestFrame(shard, 1, put("2a", 3)), timedFrame(shard, 1, 1000, put("1a", 3)), barrierFrame(shard, 1)} {
			f.Add(ChannelRequest, frame)
		}
		head := link.Head{Instance: 5, Shard: max(1, shard), Numbered: shard != 0}
		for _, frame := range [][]byte{
			link.AppendAnswer(nil, head, 1, link.Outcome{Response: &kv.Response{Kind: kv.KindPut, Put: &kv.PutResponse{}}, Applied: 3}),
			link.AppendAnswer(nil, head, 1, link.Outcome{Err: kv.ErrNotLeader, Leader: 2}),
			link.AppendBarrierAnswer(nil, head, 1, 1, nil, 0),
			link.AppendBarrierAnswer(nil, head, 1, 0, kv.ErrNotLeader, 2),
		} {
			f.Add(ChannelResponse, frame)
		}
	}
	f.Fuzz(func(t *testing.T, channel byte, payload []byte) {
		first, second := twoShards(t, Options{Instance: 5})
		speakNewest(first)
		first.elect(1)
		second.elect(1)
		first.nodes[1].apply()
		second.nodes[1].apply()
		var calls []*result
		for _, req := range []*kv.Request{put("1a", 1), get("1a"), put("2a", 1), get("2a")} {
			calls = append(calls, submit(first.nodes[2].gateway, req))
		}
		first.nodes[2].gateway.HandleMessage(1, channel, payload)
		first.nodes[1].gateway.HandleMessage(2, channel, payload)
		for id, n := range first.nodes {
			if err := n.gateway.Check(); err != nil {
				t.Fatalf("node %d: %v", id, err)
			}
		}
		first.nodes[2].gateway.Close()
		for i, r := range calls {
			if r.answers != 1 {
				t.Fatalf("call %d: %d answers", i, r.answers)
			}
		}
	})
}
