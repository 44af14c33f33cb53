package leadership

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// promises is what the nodes promised: the generation, and until when.
type promises []promise

type promise struct {
	generation uint64
	until      time.Duration
}

func (p promises) Holds(node int, generation uint64, now time.Duration) bool {
	return generation != 0 && p[node].generation == generation && now < p[node].until
}

func TestLeaseNeedsQuorums(t *testing.T) {
	var held promises
	var v [5]Voter
	for i := range v {
		held = append(held, promise{1, time.Duration(100 * i)})
		v[i] = Voter{Node: i, Generation: 1}
	}
	silent := v[1]
	silent.Generation = 0
	all := func(voters ...Voter) []Voter { return voters }
	for name, c := range map[string]struct {
		l    Lease
		now  time.Duration
		want bool
	}{
		"nobody":                       {Lease{Self: 0}, 0, false},
		"alone":                        {Lease{Sets: [2]VoterSet{{1, all(v[0])}}}, 1000, true},
		"two of three":                 {Lease{Sets: [2]VoterSet{{2, all(v[0], silent, v[2])}}}, 199, true},
		"too late":                     {Lease{Sets: [2]VoterSet{{2, all(v[0], silent, v[2])}}}, 200, false},
		"one of two":                   {Lease{Sets: [2]VoterSet{{2, all(v[0], silent)}}}, 0, false},
		"joint, one side only":         {Lease{Sets: [2]VoterSet{{2, all(v[0], v[2], v[3])}, {2, all(silent, v[1], v[4])}}}, 250, false},
		"joint, both sides":            {Lease{Sets: [2]VoterSet{{2, all(v[0], v[2], v[3])}, {2, all(v[0], v[1], v[4])}}}, 250, true},
		"leader not a voter":           {Lease{Sets: [2]VoterSet{{2, all(v[1], v[2], v[3])}}}, 150, true},
		"two of four is nothing":       {Lease{Sets: [2]VoterSet{{3, all(v[0], v[3], silent, silent)}}}, 0, false},
		"every four contain one":       {Lease{Sets: [2]VoterSet{{2, all(v[0], silent, silent, silent, v[4])}}}, 399, true},
		"and none of one":              {Lease{Sets: [2]VoterSet{{2, all(v[0], silent, silent, silent, v[4])}}}, 400, false},
		"two may be without any bound": {Lease{Sets: [2]VoterSet{{4, all(v[0], silent, silent, v[3], v[4])}}}, 250, false},
	} {
		if c.l.Valid(held, c.now) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// TestLeaseAgainstElections compares leases with the only thing that matters: whether those voters who are not bound can elect
// somebody by themselves. The twin counts them.
func TestLeaseAgainstElections(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	valid := 0
	for range 20_000 {
		c, err := New(options(7), nil)
		if err != nil {
			t.Fatal(err)
		}
		held := make(promises, 7)
		for i := range held {
			held[i] = promise{uint64(random.IntN(3)), time.Duration(random.IntN(4))}
		}
		c.RoleChanged(0, consensus.RoleChange{Role: consensus.RoleLeader, Term: 2, Leader: 1}, Process{Node: 1})
		free := map[kv.NodeID]bool{}
		for node := kv.NodeID(2); node <= 7; node++ {
			generation := uint64(random.IntN(3))
			c.Acknowledge(consensus.ReplicaID(node), generation)
			free[node] = generation == 0 || held[node-1].generation != generation || held[node-1].until <= 1
		}
		e := Electorate{Voters: someOf(random, 7)}
		elect := len(e.Voters)/2 + 1 // so many elect
		if random.IntN(2) == 0 {
			e.Outgoing = someOf(random, 7)
		} else if random.IntN(2) == 0 {
			elect = 1 + random.IntN(len(e.Voters))
			e.Need = len(e.Voters) - elect + 1
		}
		c.Lead(e)
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		got := c.Lease().Valid(held, 1)
		possible := canElect(e.Voters, free, elect) && (len(e.Outgoing) == 0 || canElect(e.Outgoing, free, len(e.Outgoing)/2+1))
		if got && possible {
			t.Fatalf("a lease of %+v holds, and without %v others can elect", e, free)
		}
		if e.Need != 0 && got == possible {
			t.Fatalf("no lease of %+v, and nobody can elect without the bound: free are %v", e, free)
		}
		if got {
			valid++
		}
		c.ForbidLease()
		if c.Lease() != nil {
			t.Fatal("a lease that was forbidden is given out")
		}
		if c.RoleChanged(0, consensus.RoleChange{Term: 3}, Process{}); c.Lease() != nil {
			t.Fatal("a follower has a lease")
		}
	}
	if valid < 1000 {
		t.Errorf("only %d leases held", valid)
	}
}

// someOf draws voters; replica and node have the same number. Node 1 need not be one of them.
func someOf(random *rand.Rand, nodes int) (members []Member) {
	for i := range 1 + random.IntN(nodes) {
		members = append(members, Member{Replica: consensus.ReplicaID(i + 1), Node: kv.NodeID(i + 1)})
	}
	if random.IntN(8) == 0 && len(members) > 1 {
		members = members[1:]
	}
	return members
}

func canElect(voters []Member, free map[kv.NodeID]bool, elect int) bool {
	n := 0
	for _, m := range voters {
		if free[m.Node] {
			n++
		}
	}
	return n >= elect
}

// TestLeaseIsOfOneTerm: what was acknowledged in one term says nothing in the next.
func TestLeaseIsOfOneTerm(t *testing.T) {
	c, err := New(options(3), nil)
	if err != nil {
		t.Fatal(err)
	}
	held := promises{{}, {1, 100}, {1, 100}}
	three := Electorate{Voters: []Member{{1, 1}, {2, 2}, {3, 3}}}
	for term := consensus.Term(2); term < 4; term++ {
		c.RoleChanged(0, consensus.RoleChange{Role: consensus.RoleLeader, Term: term, Leader: 1}, Process{Node: 1})
		if c.Reckon(three); c.Lease() != nil {
			t.Fatal("a leader that has not applied its barrier has a lease")
		}
		if c.Lead(three); c.Lease().Valid(held, 0) {
			t.Fatalf("a lease of term %d that nobody has acknowledged", term)
		}
		if !c.Acknowledge(2, 1) || c.Acknowledge(2, 1) || c.Acknowledge(3, 0) {
			t.Fatal("an acknowledgement is news exactly once, and needs a promise")
		}
		if c.Reckon(three); !c.Lease().Valid(held, 99) || c.Lease().Valid(held, 100) {
			t.Fatal("the lease does not end with the promise")
		}
		if c.Idle(0, held) {
			t.Fatal("undisputed, though replica 3 has said nothing")
		}
		c.Acknowledge(3, 1)
		if c.Reckon(three); !c.Idle(0, held) {
			t.Fatal("disputed, though all are bound")
		}
	}
}
