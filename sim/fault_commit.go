package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Faults aimed at transactions over several shards. Each waits for a transaction, and strikes between two of its steps: Amount says which. Below 1:
// something of it is prepared; below 2: it has got its revision; from 2 on: somebody has resolved it, others perhaps not.
const (
	// FaultCoordinatorLost cuts the power of the node that coordinates the transaction.
	FaultCoordinatorLost FaultKind = "coordinator-lost"
	// FaultCoordinatorPaused stops its process, while its clock goes on.
	FaultCoordinatorPaused FaultKind = "coordinator-paused"
	// FaultCoordinatorCut cuts it off from all other nodes.
	FaultCoordinatorCut FaultKind = "coordinator-cut"
	// FaultCoordinatorMoves has the leader of the transaction's anchor hand over.
	FaultCoordinatorMoves FaultKind = "coordinator-moves"
	// FaultParticipantLost cuts the power of the node that leads another participant, as Seed says.
	FaultParticipantLost FaultKind = "participant-lost"
	// FaultParticipantPaused stops its process.
	FaultParticipantPaused FaultKind = "participant-paused"
	// FaultParticipantMoves has the leader of another participant hand over.
	FaultParticipantMoves FaultKind = "participant-moves"
	// FaultCommitUnheard breaks the connections of clients with the coordinator's node, so that no client hears what was decided.
	FaultCommitUnheard FaultKind = "commit-unheard"
	// FaultAnchorSilent takes its quorum from the transaction's anchor, and from no other shard: what its replicas send each other is lost.
	FaultAnchorSilent FaultKind = "anchor-silent"
	// FaultParticipantSilent takes it from another participant for long enough that the others forget what they can, and then has the anchor's leader hand over,
	// so that the next one has to know from its log what is not finished.
	FaultParticipantSilent FaultKind = "participant-silent"
)

// commitFaults are those, but for the last two, which many runs that are aimed at transactions have beside them.
var commitFaults = []FaultKind{
	FaultCoordinatorLost, FaultCoordinatorPaused, FaultCoordinatorCut, FaultCoordinatorMoves, FaultParticipantLost, FaultParticipantPaused, FaultParticipantMoves,
	FaultCommitUnheard,
}

const (
	huntFor  = 2 * time.Second       // for a transaction
	stepFor  = 50 * time.Millisecond // for its step
	huntLook = 300 * time.Microsecond
)

// hunt is a fault that waits for its moment.
type hunt struct {
	w      *world
	f      *Fault
	random *rand.Rand
	until  time.Duration
	// of the transaction that it has found
	id           kv.TransactionID
	participants []kv.ShardID
	marks        int // that the step leaves, when it was found
}

func (w *world) injectCommit(f *Fault, _ *node, random *rand.Rand) bool {
	if !slices.Contains(commitFaults, f.Kind) && f.Kind != FaultAnchorSilent && f.Kind != FaultParticipantSilent {
		return false
	}
	h := &hunt{w: w, f: f, random: random, until: w.now + huntFor}
	h.look()
	return true
}

// look looks for a transaction, and then for its step.
func (h *hunt) look() {
	w := h.w
	if w.ended || w.now > h.until {
		return
	}
	if h.participants == nil && h.find() {
		h.marks, h.until = w.marks[h.step()], w.now+stepFor
	}
	if h.participants != nil && (h.f.Amount < 1 || w.marks[h.step()] > h.marks) {
		h.strike()
		return
	}
	w.after(time.Duration(h.random.Int64N(int64(huntLook))), h.look)
}

// step is the mark of the step that is waited for.
func (h *hunt) step() string {
	if h.f.Amount < 2 {
		return "transaction numbered"
	}
	return "transaction resolved"
}

func (h *hunt) find() bool {
	for _, g := range h.w.groups {
		leader := g.leader()
		if leader == nil {
			continue
		}
		for _, u := range leader.replica.Undecided() {
			if u.Decision.Verdict == kv.Undecided && len(u.Participants) > 1 {
				h.id, h.participants = u.ID, u.Participants
				return true
			}
		}
	}
	return false
}

func (h *hunt) strike() {
	w := h.w
	of := w.group(int(h.id.Anchor))
	switch h.f.Kind {
	case FaultParticipantLost, FaultParticipantPaused, FaultParticipantMoves, FaultParticipantSilent:
		others := slices.DeleteFunc(slices.Clone(h.participants), func(id kv.ShardID) bool { return id == h.id.Anchor })
		of = w.group(int(others[h.random.IntN(len(others))]))
	}
	leader := of.leader()
	if leader == nil {
		return
	}
	w.mark("transaction struck")
	if w.reading() {
		w.line("%s strikes transaction %v of the shards %v at node %d", h.f.Kind, h.id, h.participants, leader.node.id)
	}
	switch n := leader.node; h.f.Kind {
	case FaultCoordinatorLost, FaultParticipantLost:
		w.power(h.f, n, h.random)
	case FaultCoordinatorPaused, FaultParticipantPaused:
		n.frozenUntil = max(n.frozenUntil, w.now+h.f.Duration)
	case FaultCoordinatorCut:
		for _, other := range w.others(n, 0) {
			w.cutFor(h.f, n, other)
		}
	case FaultCoordinatorMoves, FaultParticipantMoves:
		w.transfer(of, h.random)
	case FaultCommitUnheard:
		for _, c := range w.clients {
			c.breakConn(n.number())
		}
	case FaultAnchorSilent, FaultParticipantSilent:
		of.silent++
		w.undo(h.f, func() { of.silent = max(0, of.silent-1) })
		if h.f.Kind == FaultParticipantSilent {
			w.after(h.f.Duration*3/4, func() {
				if of.silent > 0 && !w.ended {
					w.transfer(w.group(int(h.id.Anchor)), h.random)
				}
			})
		}
	}
}
