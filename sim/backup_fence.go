package sim

import (
	"time"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

// Some backups are made behind a fence: from when it is raised until somebody begins to release it, nothing takes effect above the revision of the backup,
// whatever happens to nodes meanwhile. Whoever raised it may be gone; then the next one releases it.

// fenceShare: of so many backups one is made behind a fence.
const fenceShare = 4

// fence is what is known of it.
type fence struct {
	maybe bool        // it may be raised
	at    kv.Revision // of the backup behind it; 0: it is not known to be raised
}

// raise raises the fence, and tells whether it is.
func (b *backups) raise(n *node) bool {
	b.fence = fence{maybe: true}
	b.w.mark("fence")
	return b.setFence(n, kv.AlarmActivate)
}

// behind says that the fence was raised before the revision was asked for.
func (b *backups) behind(revision kv.Revision) {
	if b.fence.maybe {
		b.fence.at = revision
	}
}

// drop releases the fence, if it may be there, once it was looked at whether it held.
func (b *backups) drop(n *node) {
	if !b.fence.maybe || n.current == nil { // or the process has ended
		return
	}
	n.dawdle(fenceStays) // those who were late come
	b.checkFence()
	b.fence.at = 0
	if b.setFence(n, kv.AlarmDeactivate) {
		b.fence = fence{}
	}
}

// fenceStays is how long a fence is there after its backup, at most.
const fenceStays = 300 * time.Millisecond

// checkFence: nothing took effect behind it.
func (b *backups) checkFence() {
	if b.fence.at == 0 {
		return
	}
	for _, g := range b.w.groups {
		for i := len(g.truth.events) - 1; i >= 0; i-- {
			if at := g.truth.events[i].KV.ModRevision; at > b.fence.at {
				b.w.fail(Correctness, "a write at revision %d took effect behind a fence at revision %d", at, b.fence.at)
				return
			}
		}
	}
	b.w.mark("fence held")
}

// setFence asks the store through a node, and tells whether it was done.
func (b *backups) setFence(n *node, action kv.AlarmAction) bool {
	return b.ask(n, &kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: action, Alarm: kv.Alarm{Type: kv.AlarmFence}}})
}

// ask asks the store through a node, and tells whether it did what was asked. What becomes of compactions is in the history.
func (b *backups) ask(n *node, req *kv.Request) (done bool) {
	p := n.backupGateway()
	if p == nil {
		return false
	}
	o := history.Operation{Client: backupClient, Node: int(n.id), Request: req, Err: kv.ErrTimeout, Outcome: history.Unknown, Invoke: b.w.now}
	if req.Kind == kv.KindCompact {
		defer func() { b.w.groups[0].history.Operations = append(b.w.groups[0].history.Operations, o) }() // also if the process ends meanwhile
	}
	answered := false
	p.gateway.Submit(&gateway.Call{Req: req, Done: func(resp *kv.Response, err error) {
		answered, done = true, err == nil
		o.Response, o.Err, o.Outcome, o.Return = resp, err, history.OutcomeOf(err), b.w.now
	}})
	for until := n.w.now + backupPatience; !answered && n.w.now < until && n.current != nil; {
		n.sleep(time.Millisecond)
	}
	return done
}

// backupClient is the number of who makes backups, among the clients.
const backupClient = 2000
