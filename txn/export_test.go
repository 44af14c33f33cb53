package txn

import (
	"maps"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Pokes break rules of a core before it is given an input.

// PokeMinority has a coordinator count a participant that has not accepted, and a recovery one that has not promised.
func PokeMinority(c *Coordinator) {
	for _, t := range c.live {
		if t.phase == deciding {
			t.parts[len(t.parts)-1].accepted = true
		}
	}
}

// PokeMinorityOfPromises has a recovery count a participant that has not promised or accepted.
func PokeMinorityOfPromises(r *Recovery) {
	for _, j := range r.jobs {
		if own, _ := j.place(r.options.Shard); j.step == promising || j.step == accepting {
			j.parts[(own+1)%len(j.parts)].done = true
		}
	}
}

func (j *job) place(shard kv.ShardID) (int, bool) {
	for i, id := range j.participants {
		if id == shard {
			return i, true
		}
	}
	return 0, false
}

// PokeForgetFound has a recovery abort whatever was accepted before.
func PokeForgetFound(r *Recovery) {
	for _, j := range r.jobs {
		if j.step == promising {
			j.decision = kv.Decision{}
		}
	}
}

// PokeFinishedEarly has a coordinator say that all is finished which it has begun. While it prepares it does not: participants would refuse the share.
func PokeFinishedEarly(c *Coordinator) {
	early := func(t *transaction) bool { return t.phase == preparing }
	if !c.older && !slices.ContainsFunc(slices.Collect(maps.Values(c.live)), early) {
		c.passed, c.stuck, c.open = c.last+1, nil, nil
	}
}

// PokeOpenUnsaid has it say that all is finished which it has passed, whoever does not answer.
func PokeOpenUnsaid(c *Coordinator) { c.stuck, c.open = nil, nil }

// PokeNothingPassed has it wait for whoever does not answer.
func PokeNothingPassed(c *Coordinator) {
	c.passed, c.stuck, c.open = c.last+1, nil, nil
	for number := range c.live {
		c.passed = min(c.passed, number)
	}
}

// PokeOlderUnsaid has a recovery say so of what earlier leaderships have left.
func PokeOlderUnsaid(r *Recovery) {
	for _, j := range r.jobs {
		if r.hangs(j) {
			r.done[j.id] = struct{}{}
		}
	}
}

// PokeOmitParticipant has it go on without the last participant.
func PokeOmitParticipant(c *Coordinator) {
	for _, t := range c.live {
		if last := len(t.parts) - 1; t.phase == preparing && t.parts[last].state == asked {
			t.parts[last].state, t.answers[last] = isPrepared, &kv.CommitResponse{Writes: true, Results: []kv.OpResponse{{Put: &kv.PutResponse{}}}}
		}
	}
}

// PokeAbortWhileDeciding has it abort what it has asked to be committed, when nobody waits any more.
func PokeAbortWhileDeciding(c *Coordinator) {
	for _, t := range c.live {
		if t.phase == deciding && t.call == 0 {
			c.abort(t)
		}
	}
}
