package sequencer

import (
	"maps"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// A Clean rests on three things in this order (rule 16): the leader learns now, then makes sure that it leads, then finds nothing open that
// was issued up to that now. The order is in the types: Clean needs a Confirmed, which comes from a Learnt.

// Learnt is a revision that was the present in this session while the shard was led here.
type Learnt struct {
	session    Session
	epoch      Epoch
	shard      kv.ShardID
	leadership Leadership
	now        kv.Revision
}

// Confirmed is a Learnt after which this node has made sure that it leads the shard.
type Confirmed struct{ learnt Learnt }

// Found is what the shard's leader finds after the confirmation.
type Found struct {
	// Prepared are transactions that were prepared here, and write here, when now was learnt, and are not resolved. One that was prepared later gets a
	// revision above that now: it is asked for when all are prepared.
	Prepared int
	// Open are writes of this leadership that have a number up to what was learnt, and that are neither applied nor void (rule 14). What was asked for and had
	// not come by then has a later one: answers come in order.
	Open int
	// Top is the highest revision that the shard has applied. While nothing is prepared, that is its closed one.
	Top kv.Revision
}

// WantsClean tells whether there is a reason to call the shard clean: nobody has in this epoch and leadership, since the session broke, since
// Voided, or the sequencer says that it is not. It stays so until Clean succeeds.
func (a *Asker) WantsClean(id kv.ShardID) bool {
	l := a.led[id]
	return l != nil && a.talk.epoch != 0 && l.cleaned != a.talk.epoch
}

// Voided: a number of the shard, up to that revision, will never take effect: the core refused the proposal, a transaction is aborted, nobody waited for it
// any more. Or the frontier told it as the last revision, above the shard's closed one, while nothing is open. What was learnt before does not do
// for a Clean.
func (a *Asker) Voided(id kv.ShardID, upTo kv.Revision) {
	if l := a.led[id]; l != nil {
		l.cleaned = 0
		l.voided = max(l.voided, upTo)
		a.wantClean(id)
	}
}

// wantClean has the shell look whether the shard can be called clean, if there is a reason to and somebody to hear it.
func (a *Asker) wantClean(id kv.ShardID) {
	if a.WantsClean(id) && !slices.Contains(a.ready.Unclean, id) {
		a.ready.Unclean = append(a.ready.Unclean, id)
	}
}

// Learn begins a Clean. It fails while nothing was heard in this session, while numbers for the shard have arrived that no Ready has handed out, or while a
// number is void that is above the last now of this session: Read brings another.
func (a *Asker) Learn(id kv.ShardID) (Learnt, bool) {
	l := a.led[id]
	handed := !slices.ContainsFunc(a.ready.Numbers, func(n Numbers) bool { return n.Shard == id })
	if l == nil || a.talk.epoch == 0 || !handed || l.voided > a.talk.now {
		return Learnt{}, false
	}
	return Learnt{a.session(), a.talk.epoch, id, l.leadership, a.talk.now}, true
}

// Confirmed must be called only after this node has made sure that it leads the shard in the leadership in which it learnt: the lease is valid
// by a clock that was read, or a quorum has confirmed it that was asked, after Learn.
func (l Learnt) Confirmed() Confirmed { return Confirmed{l} }

// Clean tells the sequencer, if what was found after the confirmation allows it, and if session and leadership are still the same.
func (a *Asker) Clean(c Confirmed, found Found) bool {
	learnt := &c.learnt
	l := a.led[learnt.shard]
	if l == nil || l.leadership != learnt.leadership || learnt.session != a.session() || learnt.epoch != a.talk.epoch {
		return false
	}
	if found.Prepared > 0 || found.Open > 0 || l.voided > learnt.now {
		return false
	}
	a.cleans = slices.DeleteFunc(a.cleans, func(other Clean) bool { return other.Shard == learnt.shard })
	a.cleans = append(a.cleans, Clean{
		Epoch: learnt.epoch, Shard: learnt.shard, Generation: l.generation, Leadership: l.leadership, AsOf: learnt.now, Top: found.Top,
	})
	l.cleaned, l.voided = learnt.epoch, 0
	return true
}

// seeUnclean takes note of shards led here that the sequencer does not hold for clean.
func (a *Asker) seeUnclean(shards []ShardFrontier) {
	for _, s := range shards {
		if l := a.led[s.Shard]; l != nil && !s.Clean && s.Newer == 0 {
			l.cleaned = 0
			a.wantClean(s.Shard)
		}
	}
}

// leads lists the shards that this node leads.
func (a *Asker) leads() []kv.ShardID { return slices.Sorted(maps.Keys(a.led)) }
