package membership

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
)

func TestPlanSteps(t *testing.T) {
	ids := func(list ...consensus.ReplicaID) []consensus.ReplicaID { return list }
	active := func(match consensus.Index, list ...consensus.ReplicaID) (replicas []consensus.Replication) {
		for _, id := range list {
			replicas = append(replicas, consensus.Replication{Replica: id, Match: match, Active: true})
		}
		return replicas
	}
	for name, c := range map[string]struct {
		p      plan
		want   string // "": no change
		change bool
	}{
		"as it should be": {plan{config: consensus.Config{Voters: ids(1, 2, 3)}, wanted: ids(1, 2, 3)}, "", false},
		"a new replica":   {plan{config: consensus.Config{Voters: ids(1, 2, 3)}, wanted: ids(1, 3, 4)}, "voters=(1,2,3) learners=(4)", true},
		"has not the data": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(8, 3, 4), catchUpTo: 9}, "", false},
		"has the data": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 3, 4), catchUpTo: 9}, "voters=(1,3,4)", true},
		"another voter is silent": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 4), catchUpTo: 9}, "", false},
		"the new one is silent": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 3), catchUpTo: 9}, "", false},
		"a lost one that still seems to answer does not count": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 2, 4), catchUpTo: 9}, "", false},
		"lost again": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 5),
			replicas: active(9, 3, 4), catchUpTo: 9}, "voters=(1,2,3)", true},
		"in the middle of a change": {plan{config: consensus.Config{Voters: ids(1, 3, 4), Outgoing: ids(1, 2, 3)}, wanted: ids(1, 3, 4)}, "", false},
		"two of five": {plan{config: consensus.Config{Voters: ids(1, 2, 3, 4, 5), Learners: ids(6)}, wanted: ids(1, 3, 5, 6, 7),
			replicas: active(9, 3, 5, 6), catchUpTo: 9}, "voters=(1,2,3,4,5) learners=(6,7)", true},
		"one more": {plan{config: consensus.Config{Voters: ids(1), Learners: ids(2)}, wanted: ids(1, 2), replicas: active(9, 2), catchUpTo: 9}, "voters=(1,2)", true},
		"one more that could not decide": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 2, 3, 4),
			replicas: active(9, 2, 4), catchUpTo: 9}, "voters=(1,2,3,4)", true},
		"two are silent": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 2, 3, 4), replicas: active(9, 4), catchUpTo: 9}, "", false},
		"a learner stays one": {plan{config: consensus.Config{Voters: ids(1), Learners: ids(2)}, wanted: ids(1), learners: ids(2),
			replicas: active(9, 2), catchUpTo: 9}, "", false},
		"a new learner":      {plan{config: consensus.Config{Voters: ids(1)}, wanted: ids(1), learners: ids(2)}, "voters=(1) learners=(2)", true},
		"one leaves":         {plan{config: consensus.Config{Voters: ids(1, 2, 3)}, wanted: ids(1, 2), leaving: ids(3), replicas: active(9, 2)}, "voters=(1,2)", true},
		"needs who goes":     {plan{config: consensus.Config{Voters: ids(1, 2)}, wanted: ids(1), leaving: ids(2), replicas: active(9, 2)}, "voters=(1)", true},
		"has gone too early": {plan{config: consensus.Config{Voters: ids(1, 2)}, wanted: ids(1), leaving: ids(2)}, "", false},
		"the leader leaves":  {plan{config: consensus.Config{Voters: ids(1, 2)}, wanted: ids(2), leaving: ids(1), replicas: active(9, 2)}, "", false},
		"who leaves is not replaced": {plan{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4), leaving: ids(2),
			replicas: active(9, 2, 3, 4), catchUpTo: 9}, "voters=(1,3) learners=(4)", true},
		"nobody comes for a lost one": {plan{config: consensus.Config{Voters: ids(1, 2, 3)}, wanted: ids(1, 3), replicas: active(9, 3)}, "voters=(1,3)", true},
	} {
		c.p.self = 1
		before := c.p.config.Clone()
		target, change := c.p.next()
		if change != c.change || change && target.String() != c.want {
			t.Errorf("%s: %v %v", name, target, change)
		}
		if !c.p.config.Equal(before) {
			t.Errorf("%s: the membership in force was changed in place", name)
		}
	}
}

// TestPlanArrives lets random losses and plans take turns: it always arrives, no step takes a majority away, and no step
// changes more than one replica.
func TestPlanArrives(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		n := 3 + random.IntN(5)
		p := plan{catchUpTo: 5}
		for i := range n {
			p.wanted = append(p.wanted, consensus.ReplicaID(i+1))
		}
		p.self, p.config.Voters = 1, slices.Clone(p.wanted)
		next := consensus.ReplicaID(n + 1)
		for range 1 + random.IntN((n-1)/2) { // fewer than half, never the leader
			p.wanted = with(slices.Delete(slices.Clone(p.wanted), 1, 2), next)
			next++
		}
		steps := 0
		for ; !p.complete(); steps++ {
			if steps > 4*n {
				t.Fatalf("%v does not become %v", p.config, p.wanted)
			}
			p.replicas = nil
			for _, id := range p.wanted {
				p.replicas = append(p.replicas, consensus.Replication{Replica: id, Match: consensus.Index(4 + random.IntN(3)), Active: true})
			}
			target, change := p.next()
			if !change {
				steps--
				continue
			}
			if err := target.Validate(); err != nil || !target.HasQuorum(p.answers) || len(target.Voters) != n {
				t.Fatalf("from %v to %v: %v", p.config, target, err)
			}
			p.config = target
		}
		if !reflect.DeepEqual(p.config.Voters, p.wanted) {
			t.Fatalf("%v instead of %v", p.config, p.wanted)
		}
	}
}
