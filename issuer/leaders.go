package issuer

import (
	"errors"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// What package driver tells: driver.Sequencing.

// Lead is of driver.Sequencing. Who leads the system shard has the sequencer, above the limit and all that is applied (rule 3).
func (i *Issuer) Lead(group consensus.GroupID, term consensus.Term, applied, limit kv.Revision) {
	i.mu.Lock()
	shard := kv.ShardID(group)
	i.led[shard] = &led{leadership: sequencer.Leadership(term)}
	i.asker.Lead(shard, sequencer.Leadership(term), 0)
	if shard == kv.SystemShard && !i.stopped {
		i.beginSequencer(term, applied, limit)
	}
	i.pump()
	i.unlock()
}

// errNoLimit: rule 8 is kept by the birth of the store.
var errNoLimit = errors.New("issuer: the state of the system shard has no limit, so it is not one of several shards; is the data directory another store's?")

func (i *Issuer) beginSequencer(term consensus.Term, applied, limit kv.Revision) {
	early := i.issuing.early
	i.discardSequencer()
	core, err := sequencer.New(i.options.Sequencer, sequencer.Epoch(term), applied, limit)
	if limit == 0 {
		err = errNoLimit
	}
	if err != nil {
		i.refuse(i.options.Self, err)
		return
	}
	i.issuing.core, i.issuing.term, i.issuing.counted = core, term, core.Now()
	i.publish()
	i.here.epoch.Store(uint64(term))
	for _, node := range slices.Sorted(maps.Keys(early)) { // whoever came too early begins anew at once, and need not lose patience
		over := &sequencer.Reply{Session: early[node], Epoch: sequencer.Epoch(term), Over: true}
		i.issuing.frames = append(i.issuing.frames, sequencer.Outgoing{To: node, Reply: over})
	}
}

// discardSequencer ends the sequencer here, with all that has not left.
func (i *Issuer) discardSequencer() {
	i.here.epoch.Store(0)
	i.issuing = issuing{early: make(map[kv.NodeID]sequencer.Session)}
}

// StepDown is of driver.Sequencing.
func (i *Issuer) StepDown(group consensus.GroupID) {
	i.mu.Lock()
	shard := kv.ShardID(group)
	delete(i.led, shard)
	i.asker.StepDown(shard)
	if shard == kv.SystemShard {
		i.discardSequencer()
	}
	i.pump()
	i.unlock()
}

// Target is of driver.Sequencing. While nobody is known to lead, the last one may still answer.
func (i *Issuer) Target(node kv.NodeID, term consensus.Term) {
	i.mu.Lock()
	switch t := &i.target; {
	case node == 0:
		t.lost = true
	case t.node == node && t.term == term:
		t.lost = false
	default:
		*t = target{node: node, term: term, since: i.time}
		i.unreached = false
		i.asker.Target(node)
	}
	i.pump()
	i.unlock()
}

// Applied is of driver.Sequencing.
func (i *Issuer) Applied(group consensus.GroupID, revision kv.Revision) {
	shard := kv.ShardID(group)
	if applied := i.applied[shard]; applied != nil {
		raise(applied, revision)
	}
	i.Hear(revision)
}

// LimitApplied is of driver.Sequencing.
func (i *Issuer) LimitApplied(term consensus.Term, limit kv.Revision) {
	i.mu.Lock()
	if s := &i.issuing; s.core != nil && s.term == term {
		i.tellCompacted()
		if err := s.core.LimitCommitted(limit); err != nil {
			i.refuse(i.options.Self, err)
		}
		i.publish()
		i.pump()
	}
	i.unlock()
}

// HandOver is of driver.Sequencing (rule 6).
func (i *Issuer) HandOver() {
	i.mu.Lock()
	if core := i.issuing.core; core != nil {
		core.HandOver()
		i.pump()
	}
	i.unlock()
}

// HandOverFailed is of driver.Sequencing.
func (i *Issuer) HandOverFailed() {
	i.mu.Lock()
	if core := i.issuing.core; core != nil {
		i.tellCompacted()
		core.HandOverFailed()
		i.publish()
		i.pump()
	}
	i.unlock()
}

// Voided is of driver.Sequencing.
func (i *Issuer) Voided(group consensus.GroupID, last kv.Revision) {
	i.mu.Lock()
	i.asker.Voided(kv.ShardID(group), last)
	i.pump()
	i.unlock()
}

// BeginClean is of driver.Sequencing: the first step of rule 16, to learn what is the present.
func (i *Issuer) BeginClean(group consensus.GroupID) bool {
	i.mu.Lock()
	defer i.unlock()
	shard := kv.ShardID(group)
	l := i.led[shard]
	if l == nil || !i.asker.WantsClean(shard) {
		return false
	}
	learnt, ok := i.asker.Learn(shard)
	l.learnt = learnt
	if !ok && !slices.Contains(i.uninformed, shard) {
		i.uninformed = append(i.uninformed, shard)
		i.asker.Read()
		i.pump()
	}
	return ok
}

// EndClean is of driver.Sequencing: the confirmation and the look at what is open have followed.
func (i *Issuer) EndClean(group consensus.GroupID, top kv.Revision) {
	i.mu.Lock()
	shard := kv.ShardID(group)
	if l := i.led[shard]; l != nil {
		i.asker.Clean(l.learnt.Confirmed(), sequencer.Found{Top: top})
		l.learnt = sequencer.Learnt{}
		i.pump()
	}
	i.unlock()
}
