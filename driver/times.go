package driver

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// RecordTime has the store keep that it had a revision at a time, by the clock of this node, if this is the system shard and led here, and no point says so yet.
// Whoever calls it does so about once a second; what is not done is done the next time. The revision was read before the clock was. Nothing is recorded until
// every other node has once said, to this process or to one that recorded something, that it understands such entries: one that does not would stop. Safe for concurrent use.
func (r *Replica) RecordTime(revision kv.Revision, now timeline.Time) {
	if !r.serving.Load() || revision <= r.Times().Last().Revision {
		return
	}
	r.call(func(r *driven) {
		if r.leading && r.system() && r.timesUnderstood() {
			record := &kv.RecordTimeRequest{Revision: revision, Millis: int64(now)}
			r.Propose(&kv.Request{Kind: kv.KindRecordTime, RecordTime: record}, nil, func(*kv.Response, uint64, error) {})
		}
	})
}

// timesUnderstood tells whether all nodes that apply the entries understand those about times. Once there is one, they do: somebody was sure before it was
// proposed. A node that is away need not be heard again then, by each process that comes to lead.
func (r *driven) timesUnderstood() bool {
	if r.machine.Times().Last() != (timeline.Point{}) {
		return true
	}
	d := r.driver
	return !slices.ContainsFunc(d.wantedNodes(), func(node kv.NodeID) bool { return node != d.opts.Self && d.node.Format(node) < FormatTimes })
}
