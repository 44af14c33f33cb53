package replica

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
)

func TestMembershipSteps(t *testing.T) {
	ids := func(list ...consensus.ReplicaID) []consensus.ReplicaID { return list }
	active := func(match consensus.Index, list ...consensus.ReplicaID) (replicas []consensus.Replication) {
		for _, id := range list {
			replicas = append(replicas, consensus.Replication{Replica: id, Match: match, Active: true})
		}
		return replicas
	}
	for name, c := range map[string]struct {
		m      membership
		want   string // "": no change
		change bool
	}{
		"as it should be": {membership{config: consensus.Config{Voters: ids(1, 2, 3)}, wanted: ids(1, 2, 3)}, "", false},
		"a new replica":   {membership{config: consensus.Config{Voters: ids(1, 2, 3)}, wanted: ids(1, 3, 4)}, "voters=(1,2,3) learners=(4)", true},
		"has not the data": {membership{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(8, 3, 4), settledAt: 9}, "", false},
		"has the data": {membership{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 3, 4), settledAt: 9}, "voters=(1,3,4)", true},
		"another voter is silent": {membership{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 4), settledAt: 9}, "", false},
		"the new one is silent": {membership{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 3), settledAt: 9}, "", false},
		"a lost one that still seems to answer does not count": {membership{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 4),
			replicas: active(9, 2, 4), settledAt: 9}, "", false},
		"lost again": {membership{config: consensus.Config{Voters: ids(1, 2, 3), Learners: ids(4)}, wanted: ids(1, 3, 5),
			replicas: active(9, 3, 4), settledAt: 9}, "voters=(1,2,3)", true},
		"in the middle of a change": {membership{config: consensus.Config{Voters: ids(1, 3, 4), Outgoing: ids(1, 2, 3)}, wanted: ids(1, 3, 4)}, "", false},
		"two of five": {membership{config: consensus.Config{Voters: ids(1, 2, 3, 4, 5), Learners: ids(6)}, wanted: ids(1, 3, 5, 6, 7),
			replicas: active(9, 3, 5, 6), settledAt: 9}, "voters=(1,2,3,4,5) learners=(6,7)", true},
	} {
		c.m.self = 1
		before := c.m.config.Clone()
		target, change := c.m.next()
		if change != c.change || change && target.String() != c.want {
			t.Errorf("%s: %v %v", name, target, change)
		}
		if !c.m.config.Equal(before) {
			t.Errorf("%s: the membership in force was changed in place", name)
		}
	}
}

// TestMembershipArrives lets random losses and plans take turns: it always arrives, no step takes a majority away, and no step
// changes more than one replica.
func TestMembershipArrives(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		n := 3 + random.IntN(5)
		m := membership{settledAt: 5}
		for i := range n {
			m.wanted = append(m.wanted, consensus.ReplicaID(i+1))
		}
		m.self, m.config.Voters = 1, slices.Clone(m.wanted)
		next := consensus.ReplicaID(n + 1)
		for range 1 + random.IntN((n-1)/2) { // fewer than half, never the leader
			m.wanted = with(slices.Delete(slices.Clone(m.wanted), 1, 2), next)
			next++
		}
		steps := 0
		for ; !m.settled(); steps++ {
			if steps > 4*n {
				t.Fatalf("%v does not become %v", m.config, m.wanted)
			}
			m.replicas = nil
			for _, id := range m.wanted {
				m.replicas = append(m.replicas, consensus.Replication{Replica: id, Match: consensus.Index(4 + random.IntN(3)), Active: true})
			}
			target, change := m.next()
			if !change {
				steps--
				continue
			}
			if err := target.Validate(); err != nil || !target.HasQuorum(m.answers) || len(target.Voters) != n {
				t.Fatalf("from %v to %v: %v", m.config, target, err)
			}
			m.config = target
		}
		if !reflect.DeepEqual(m.config.Voters, m.wanted) {
			t.Fatalf("%v instead of %v", m.config, m.wanted)
		}
	}
}

func TestIdentityFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		want := identityMessage{kind: identityQuestion + byte(random.IntN(2)), standing: standingMember + standing(random.IntN(3)), new: random.IntN(2) == 0,
			confirmed: random.IntN(2) == 0, group: consensus.GroupID(random.Uint64()), disk: 1 + random.Uint64()>>1,
			replica: consensus.ReplicaID(1 + random.IntN(1<<16-1)), bound: random.Uint64()}
		frame := appendIdentity(nil, &want)
		got, err := decodeIdentity(frame)
		if err != nil || *got != want {
			t.Fatalf("%+v became %+v: %v", want, got, err)
		}
		for cut := range frame {
			if _, err := decodeIdentity(frame[:cut]); err == nil {
				t.Fatalf("a frame cut at %d of %d was taken", cut, len(frame))
			}
		}
		if _, err := decodeIdentity(append(frame, 0)); err == nil {
			t.Fatal("a frame that is too long was taken")
		}
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(appendIdentity(nil, &identityMessage{kind: identityAnswer, standing: standingLost, group: 1, disk: 2, replica: 3, bound: 4}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := decodeIdentity(frame)
		if err != nil {
			return
		}
		again, err := decodeIdentity(appendIdentity(nil, m))
		if err != nil || *again != *m {
			t.Fatalf("%+v became %+v: %v", m, again, err)
		}
	})
}
