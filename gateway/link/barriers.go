package link

import (
	"time"

	"github.com/quoratedb/quorate/kv"
)

// barriers shares read barriers among linearizable reads. At most one is in flight; a read that comes
// while one is may be newer than what it will confirm, so it waits for the next.
//
// Invariant: a call in one of the lists knows in which and where, so that one that ends is taken out whatever their length.
type barriers struct {
	waiting []*Item // in no order
	asked   []*Item // wait for the barrier in flight
	id      uint64  // of the last barrier; never used again
	flying  bool
	to      kv.NodeID
	askedAt time.Duration
	held    bool // nothing is asked until the next tick or another leader
}

func (b *barriers) add(i *Item) {
	i.state = barrier
	place(&b.waiting, i, false)
}

func place(list *[]*Item, i *Item, asked bool) {
	i.at, i.asked = int32(len(*list)), asked
	*list = append(*list, i)
}

// start puts the next barrier into flight. settles is the highest revision that any of its reads is as of.
func (b *barriers) start(leader kv.NodeID, now time.Duration) (id uint64, settles kv.Revision, ok bool) {
	if b.flying || b.held || leader == 0 || len(b.waiting) == 0 {
		return 0, 0, false
	}
	b.asked, b.waiting = b.waiting, nil
	for _, i := range b.asked {
		i.asked = true
		settles = max(settles, i.Revision)
	}
	b.id++
	b.flying, b.to, b.askedAt = true, leader, now
	return b.id, settles, true
}

// done ends the barrier in flight and returns the reads it serves. An answer to an earlier one serves nobody.
func (b *barriers) done(id uint64, from kv.NodeID) []*Item {
	if !b.flying || id != b.id || from != b.to {
		return nil
	}
	calls := b.asked
	b.asked, b.flying = nil, false
	for _, i := range calls {
		i.state = idle
	}
	return calls
}

// failed: the barrier will not be answered, or was refused. Its reads share the next one.
func (b *barriers) failed(id uint64, from kv.NodeID, hold bool) {
	if !b.flying || id != b.id || from != b.to {
		return
	}
	for _, i := range b.asked {
		place(&b.waiting, i, false)
	}
	b.asked, b.flying, b.held = nil, false, hold
}

// lost: the connection to the node broke.
func (b *barriers) lost(node kv.NodeID) {
	if b.flying && b.to == node {
		b.failed(b.id, b.to, false)
	}
}

// tick lets held reads try again, and gives up on a barrier that is not answered or was sent to a former leader.
func (b *barriers) tick(leader kv.NodeID, now, timeout time.Duration) {
	b.held = false
	if b.flying && (now-b.askedAt >= timeout || leader != 0 && leader != b.to) {
		b.failed(b.id, b.to, false)
	}
}

func (b *barriers) remove(i *Item) {
	list := &b.waiting
	if i.asked {
		list = &b.asked
	}
	last := len(*list) - 1
	(*list)[i.at] = (*list)[last]
	(*list)[i.at].at = i.at
	(*list)[last] = nil
	*list = (*list)[:last]
	i.state = idle
}

// busy tells whether there is something to wait for: a barrier, a leader, the next tick.
func (b *barriers) busy() bool { return len(b.waiting) > 0 || b.flying || b.held }
