package workload

import (
	"time"

	"github.com/quoratedb/quorate/kv"
)

// hopWorkload: impatient clients that go from node to node. What one of them learns at a node, from a write or a read of whatever that node
// has applied, it holds against the next node at once: a leader that has been deposed, or lags behind its followers, has no time to notice.
var hopWorkload = Workload{Name: "hop", Special: true, Client: func(c Client) {
	h := &hopper{user: newUser(c, "hop")}
	rarely := [...]int{1, 1, 8}[h.Rand().IntN(3)] // so that a deposed leader may have no write under way, for which reads would wait
	h.ask(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: h.lease(), TTLSeconds: 8}}, time.Second)
	h.loop(2*time.Millisecond, func() {
		if h.Number()%2 == 0 && h.one(rarely) {
			h.write()
		} else {
			h.observe()
		}
		for range min(3, h.Nodes()) {
			h.move()
			h.ask(h.read(), 10*time.Millisecond)
		}
	})
}}

var hopKeys = [...][]byte{[]byte("hop/0"), []byte("hop/1")}

type hopper struct {
	*user
	writesAt   int // where the last write succeeded; 0: nowhere
	avoids     int // where the last that failed was sent
	avoidUntil time.Duration
}

// lease is the hopper's own.
func (h *hopper) lease() kv.LeaseID { return kv.LeaseID(900_000_000 + h.Number()) }

func (h *hopper) key() []byte { return hopKeys[h.Rand().IntN(len(hopKeys))] }

// ask does not wait for long: elsewhere there may be more to learn.
func (h *hopper) ask(r *kv.Request, patience time.Duration) bool {
	answer, err := h.Do(h.node, r, patience)
	if err == nil {
		h.newest = max(h.newest, answer.Revision)
	}
	return err == nil
}

// write puts something where that succeeded last, or else anywhere.
func (h *hopper) write() {
	if h.node = h.writesAt; h.node == 0 || h.one(10) {
		h.node = 1 + h.Rand().IntN(h.Nodes())
		if h.node == h.avoids && h.Now() < h.avoidUntil {
			h.move()
		}
	}
	h.writesAt = 0
	if h.ask(put(h.key(), h.value()), h.between(20*time.Millisecond, 60*time.Millisecond)) {
		h.writesAt = h.node
	} else {
		h.avoids, h.avoidUntil = h.node, h.Now()+time.Second
	}
}

// observe reads what a node has applied, which is committed and so binds all others.
func (h *hopper) observe() {
	r := get(single(h.key()))
	r.Range.Serializable = true
	h.ask(r, 10*time.Millisecond)
}

// read is a linearizable read: a plain one, or what comes to the same, a comparison that fails and changes nothing, or a renewal that a leader
// answers by itself.
func (h *hopper) read() *kv.Request {
	key := h.key()
	switch h.Rand().IntN(6) {
	case 0: // nobody has granted that lease
		return &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: kv.LeaseID(h.Number())}}
	case 1, 2:
		return txn([]kv.Compare{{Span: single(key), Target: kv.CompareVersion, Integer: -1}}, []kv.Op{opPut(key, h.value())}, []kv.Op{opGet(single(key))})
	case 3:
		return &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: h.lease()}}
	}
	return get(single(key))
}
