package membership

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
)

// planWorld is a group without messages: its leader decides entries with any quorum of those that live, in any order, as Multi-Paxos does, while nodes come,
// go, are promoted, and lose their disks. What was decided must be found by whoever asks a quorum.
type planWorld struct {
	t      *testing.T
	random *rand.Rand
	plan   plan
	has    map[consensus.ReplicaID]map[consensus.Index]bool // what it acknowledged; none: it is lost
	last   consensus.Index
	next   consensus.ReplicaID
	steps  map[string]int
}

func newPlanWorld(t *testing.T, seed uint64) *planWorld {
	w := &planWorld{t: t, random: rand.New(rand.NewPCG(seed, 3)), has: map[consensus.ReplicaID]map[consensus.Index]bool{}, steps: map[string]int{}}
	n := 1 + w.random.IntN(5)
	for i := range n {
		w.plan.wanted = append(w.plan.wanted, consensus.ReplicaID(i+1))
		w.has[consensus.ReplicaID(i+1)] = map[consensus.Index]bool{}
	}
	w.plan.self, w.plan.config.Voters, w.next = 1, slices.Clone(w.plan.wanted), consensus.ReplicaID(n+1)
	return w
}

func (w *planWorld) lives(id consensus.ReplicaID) bool { return w.has[id] != nil }

// decide puts an entry on the leader and enough others. It returns its index; 0: there is no quorum.
func (w *planWorld) decide() consensus.Index {
	voters := slices.Clone(w.plan.config.Voters)
	w.random.Shuffle(len(voters), func(i, j int) { voters[i], voters[j] = voters[j], voters[i] })
	quorum := map[consensus.ReplicaID]bool{}
	for _, id := range voters {
		if w.lives(id) && !w.plan.config.HasQuorum(func(id consensus.ReplicaID) bool { return quorum[id] }) {
			quorum[id] = true
		}
	}
	if !w.plan.config.HasQuorum(func(id consensus.ReplicaID) bool { return quorum[id] }) {
		return 0
	}
	w.last++
	w.has[w.plan.self][w.last] = true
	for id := range quorum {
		w.has[id][w.last] = true
	}
	return w.last
}

// catchUp gives a replica everything that is decided.
func (w *planWorld) catchUp(id consensus.ReplicaID) {
	for i := range w.last {
		w.has[id][i+1] = true
	}
}

// step is a step of the plan.
func (w *planWorld) step() {
	p := &w.plan
	p.replicas = nil
	for _, id := range p.config.Members() {
		match := consensus.Index(0)
		for w.has[id][match+1] {
			match++
		}
		p.replicas = append(p.replicas, consensus.Replication{Replica: id, Match: match, Active: w.lives(id)})
	}
	target, change := p.next()
	switch {
	case change:
		if err := target.Validate(); err != nil || !slices.Contains(target.Voters, p.self) {
			w.t.Fatalf("from %v to %v with leader %d: %v", p.config, target, p.self, err)
		}
		at := w.decide()
		if at == 0 {
			if !slices.Equal(target.Voters, p.config.Voters) {
				w.t.Fatalf("from %v to %v without a quorum", p.config, target)
			}
			return
		}
		p.config, p.catchUpTo = target, at
		w.steps["change"]++
	case p.heir() != 0:
		w.lead(p.heir())
		w.steps["hand over"]++
	}
}

func (w *planWorld) lead(id consensus.ReplicaID) {
	w.plan.self = id
	w.catchUp(id)
	w.plan.catchUpTo = w.last
}

// roster notes that the list of members changed.
func (w *planWorld) roster(what string) {
	w.steps[what]++
	if at := w.decide(); at != 0 {
		w.plan.catchUpTo = max(w.plan.catchUpTo, at)
	}
}

func (w *planWorld) join(list []consensus.ReplicaID) []consensus.ReplicaID {
	w.has[w.next] = map[consensus.Index]bool{}
	list = with(list, w.next)
	w.next++
	return list
}

// fate is something that happens from outside.
func (w *planWorld) fate() {
	p := &w.plan
	one := func(list []consensus.ReplicaID) consensus.ReplicaID { return list[w.random.IntN(len(list))] }
	switch w.random.IntN(12) {
	case 0:
		if len(p.wanted) < 6 {
			p.wanted = w.join(p.wanted)
			w.roster("add")
		}
	case 1:
		if len(p.learners) < 2 {
			p.learners = w.join(p.learners)
			w.roster("add a learner")
		}
	case 2:
		if len(p.learners) > 0 {
			id := one(p.learners)
			p.learners, p.wanted = without(p.learners, id), with(p.wanted, id)
			w.roster("promote")
		}
	case 3:
		if id := one(p.wanted); len(p.wanted) > 1 {
			p.wanted = without(p.wanted, id)
			if p.config.Contains(id) {
				p.leaving = append(p.leaving, id)
			}
			w.roster("remove")
		}
	case 4, 5: // a disk is lost; that of the leader takes another leader first
		id := one(p.wanted)
		rest := func(o consensus.ReplicaID) bool { return o != id && w.lives(o) }
		if id == p.self || !p.config.Votes(id) || !p.config.HasQuorum(rest) || len(p.lost()) > 0 {
			return
		}
		delete(w.has, id)
		p.wanted = w.join(without(p.wanted, id))
		w.steps["lose"]++
	case 6:
		if voters := slices.DeleteFunc(slices.Clone(p.config.Voters), func(id consensus.ReplicaID) bool { return !w.lives(id) }); p.config.HasQuorum(w.lives) {
			w.lead(one(voters))
		}
	case 7, 8:
		for _, id := range p.config.Learners {
			if w.lives(id) && w.random.IntN(2) == 0 {
				w.catchUp(id)
			}
		}
	default:
		w.decide()
	}
}

// check: every quorum of the living has each entry.
func (w *planWorld) check() {
	for i := range w.last {
		without := 0
		for _, id := range w.plan.config.Voters {
			if w.lives(id) && !w.has[id][i+1] {
				without++
			}
		}
		if without > len(w.plan.config.Voters)/2 {
			w.t.Fatalf("entry %d was decided, and %d of %v do not have it", i+1, without, w.plan.config)
		}
	}
}

func TestPlanKeepsWhatWasDecided(t *testing.T) {
	total := map[string]int{}
	seeds := uint64(40_000) // some orders of events are rare
	if testing.Short() {
		seeds = 3000
	}
	for seed := range seeds {
		w := newPlanWorld(t, seed)
		for range 60 {
			w.fate()
			if w.random.IntN(2) == 0 {
				w.step()
			}
			w.check()
		}
		for steps := 0; !w.plan.complete() && w.plan.config.HasQuorum(w.lives); steps++ {
			if steps > 100 {
				t.Fatalf("seed %d: %v with leader %d does not become %v, learners %v, without %v", seed, w.plan.config, w.plan.self, w.plan.wanted, w.plan.learners, w.plan.leaving)
			}
			for _, id := range w.plan.config.Members() {
				if w.lives(id) {
					w.catchUp(id)
				}
			}
			w.step()
			w.check()
		}
		for what, n := range w.steps {
			total[what] += n
		}
	}
	for _, what := range []string{"add", "add a learner", "promote", "remove", "lose", "change", "hand over"} {
		if total[what] < 1000 {
			t.Errorf("%s happened %d times", what, total[what])
		}
	}
}
