package world

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/statespace"
)

// The kinds of a Birth's actions.
const (
	bornWrite kind = iota
	bornAsk
	bornHear
	bornGet
	bornCommit
	bornPropose
	bornRead
	bornTransfer
	bornGoOn
	bornRetarget
	bornFail // a: set of tail entries that are kept
	bornHandOver
	bornRefuse
)

func (k kind) isBirthFault() bool { return k >= bornFail }

func (b *Birth) actions(w birthWorld) (all []action) {
	add := func(ok bool, k kind, a int) {
		if ok {
			all = append(all, action{kind: k, a: uint8(a)})
		}
	}
	seen := b.sequencers.View(w.sequencer)
	room := w.length < maxTail
	add(w.wrote < b.Writes && room && (seen.room > 0 || b.mutation == HandOverGoesOn && w.handing != 0 || b.mutation == UnboundedWhilePending && w.limit == 0), bornWrite, 0)
	add(w.asked < b.Remotes, bornAsk, 0)
	add(w.node.up.length > 0, bornHear, 0)
	add(w.node.down.length > 0, bornGet, 0)
	add(w.length > 0, bornCommit, 0)
	add(w.want != 0 && room, bornPropose, 0)
	add(b.present(&w) > w.reported, bornRead, 0)
	add(w.handing == 2 && w.length == 0, bornTransfer, 0)
	add(w.handing != 0, bornGoOn, 0)
	add(w.node.epoch < w.epoch, bornRetarget, 0)
	if w.failed < b.Fails {
		for keep := range 1 << w.length {
			add(b.Paxos || keep&(keep+1) == 0, bornFail, keep)
		}
	}
	add(w.handing == 0 && w.handed < b.HandOvers, bornHandOver, 0)
	add(w.want != 0 && w.refused < b.Refusals, bornRefuse, 0)
	return all
}

// present is what a reader beside the sequencer takes for now.
func (b *Birth) present(w *birthWorld) uint8 {
	seen := b.sequencers.View(w.sequencer)
	if b.mutation == ReadRevLastIssued {
		return uint8(seen.next - 1)
	}
	return uint8(seen.now)
}

func (b *Birth) step(w birthWorld, a action) (birthWorld, bool, *statespace.Violation) {
	b.do(&w, a)
	b.judge(&w)
	if w.violated != "" {
		return w, true, &statespace.Violation{Invariant: w.violated, What: w.what}
	}
	return w, true, nil
}

func (b *Birth) do(w *birthWorld, a action) {
	switch a.kind {
	case bornWrite:
		w.wrote++
		e := b.sequence(w, input{verb: verbTake, shard: kv.SystemShard, number: 1})
		if !e.refused {
			b.push(w, entry{rev: uint8(e.first)})
		}
	case bornAsk:
		w.asked++
		b.ask(w, input{verb: verbAlloc, shard: shardID(0), number: 1})
	case bornHear:
		b.sequence(w, input{verb: verbHear, node: nodeID(1), frame: w.node.up.pop()})
	case bornGet:
		b.get(w)
	case bornCommit:
		e := w.tail[0]
		copy(w.tail[:], w.tail[1:])
		w.length--
		w.tail[w.length] = entry{}
		b.commit(w, e)
	case bornPropose:
		limit := w.want
		w.want = 0
		if b.mutation == HandOverLastApplied && w.handing != 0 {
			limit = max(w.last, 1)
		}
		b.push(w, entry{limit: limit})
	case bornRead:
		w.reported = b.present(w)
	case bornTransfer:
		before := b.sequencers.View(w.sequencer).next
		b.newSequencer(w, w.limit)
		if after := b.sequencers.View(w.sequencer).next; after != before {
			b.violate(w, Dense, "a planned hand-over changed the next revision from %d to %d", before, after)
		}
	case bornGoOn:
		w.handing = 0
		b.sequence(w, input{verb: verbHandOverFailed})
	case bornRetarget:
		w.node.up, w.node.down = queue{}, queue{}
		w.node.epoch = w.epoch
		b.ask(w, input{verb: verbTarget})
	case bornFail:
		b.fail(w, a.a)
	case bornHandOver:
		w.handed++
		w.handing = 1
		b.sequence(w, input{verb: verbHandOver})
	case bornRefuse:
		w.refused++
		w.want = 0
		b.sequence(w, input{verb: verbRefused})
	}
}

func (b *Birth) push(w *birthWorld, e entry) {
	w.tail[w.length] = e
	w.length++
}
