package driver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
)

// changing is a cluster whose members change: node 1 founds it, and the others are added.
type changing struct {
	*cluster
	list    kv.Roster
	acked   []string // keys
	pending int
	number  int
	heard   map[kv.NodeID][]kv.NodeID // what each said last of the nodes that it has to do with
	removed map[kv.NodeID]bool        // that said so
}

func newChanging(t *testing.T, nodes int, paxos bool) *changing {
	c := &changing{cluster: newCluster(t, nodes, paxos), heard: map[kv.NodeID][]kv.NodeID{}, removed: map[kv.NodeID]bool{}}
	c.list = kv.Roster{Version: 1, Seats: []kv.Seat{{Node: 1, Role: kv.SeatVoter}}}
	c.open(1)
	c.await("a leader", func() bool { return c.leader() != nil })
	return c
}

func (c *changing) open(id kv.NodeID) {
	n := c.nodes[id-1]
	n.start(func(o *Options) {
		o.Nodes, o.Added = nil, id != 1
		for _, s := range c.list.Seats {
			o.Nodes = append(o.Nodes, s.Node)
		}
		founding := Founding{}
		if id == 1 {
			o.First = map[consensus.GroupID][]membership.Home{1: {{Node: 1, Replica: 1}}}
			founding.Members.Voters = []consensus.ReplicaID{1}
		}
		o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			options := shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(group))), LogEnd: logEnd}
			return OpenMachine(n.memory, options, founding)
		}
		o.Listener.NodesChanged = func(nodes []kv.NodeID) { c.heard[id] = nodes }
		o.Listener.Removed = func(consensus.GroupID) { c.removed[id] = true }
	})
}

// set changes the list of members: role 0 takes the node out of it. Every node that is up hears of it.
func (c *changing) set(node kv.NodeID, role kv.SeatRole) {
	seats := slices.DeleteFunc(slices.Clone(c.list.Seats), func(s kv.Seat) bool { return s.Node == node })
	if role != 0 {
		seats = append(seats, kv.Seat{Node: node, Role: role})
		slices.SortFunc(seats, func(a, b kv.Seat) int { return int(a.Node) - int(b.Node) })
	}
	c.list = kv.Roster{Version: c.list.Version + 1, Seats: seats}
	c.tell()
}

func (c *changing) tell() {
	for _, n := range c.nodes {
		if n.up {
			n.driver.Follow(c.list)
		}
	}
}

// load has a client write all the time, wherever the leader is.
func (c *changing) load() {
	if leader := c.leader(); leader != nil && c.pending < 3 {
		c.number++
		key := fmt.Sprint("key", c.number)
		c.pending++
		leader.replica.Propose(putRequest(key), nil, func(_ *kv.Response, _ uint64, err error) {
			if c.pending--; err == nil {
				c.acked = append(c.acked, key)
			}
		})
	}
	c.at(2e6, c.load)
}

// followed: a leader says that the group follows the list, and everybody is what that says, with so many voters and learners.
func (c *changing) followed(voters, learners int) func() bool {
	return func() bool {
		leader := c.leader()
		if leader == nil {
			return false
		}
		version, settled := leader.replica.Following()
		config := leader.replica.machine.Config()
		return version == c.list.Version && settled && len(config.Voters) == voters && len(config.Learners) == learners
	}
}

// unsettled: of group 1, and of one that is not there, a node says that those do not follow the list of that version.
func (c *changing) unsettled(id kv.NodeID, version uint64, want ...consensus.GroupID) {
	c.tb.Helper()
	var got []consensus.GroupID
	told := false
	c.nodes[id-1].driver.Unsettled(version, []consensus.GroupID{1, 9}, func(left []consensus.GroupID) { got, told = left, true })
	c.await("an answer", func() bool { return told })
	if want = append(want, 9); !slices.Equal(got, want) {
		c.tb.Errorf("node %d: the groups %v do not follow, not %v", id, got, want)
	}
}

// verify: the nodes have all that was acknowledged.
func (c *changing) verify(nodes ...kv.NodeID) {
	c.tb.Helper()
	for _, id := range nodes {
		n := c.nodes[id-1]
		c.await(fmt.Sprintf("node %d has everything", id), func() bool { return n.replica.Applied() >= c.leader().replica.Applied() })
		for _, key := range c.acked {
			r, err := n.replica.Read(rangeRequest(key))
			if err != nil || r.Range.Count != 1 {
				c.tb.Fatalf("node %d: %s, which was acknowledged: %v", id, key, err)
			}
		}
	}
}

// One node becomes three, one of them a learner for a while, and three become one, which is not the one that began, while a client writes.
func TestMembersChange(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(fmt.Sprint("paxos=", paxos), func(t *testing.T) {
			c := newChanging(t, 3, paxos)
			c.load()
			c.run(3e8, nil)
			c.set(2, kv.SeatVoter)
			c.await("the list is followed before the node is started", c.followed(1, 0))
			c.unsettled(1, c.list.Version)
			c.unsettled(1, c.list.Version+1, 1)
			c.open(2)
			c.await("node 2 knows who it is", func() bool { return !c.nodes[1].replica.held() })
			c.nodes[1].crash() // before it has anything else
			c.open(2)
			c.await("two voters", c.followed(2, 0))
			c.set(3, kv.SeatLearner)
			c.open(3)
			c.await("a learner", c.followed(2, 1))
			// It crashes, and comes back as what it was, although it is told of another list than the one that the group has by then.
			c.nodes[2].crash()
			c.run(1e8, nil)
			c.open(3)
			c.set(3, kv.SeatVoter)
			c.await("three voters", c.followed(3, 0))
			for id := range kv.NodeID(3) {
				if got := c.heard[id+1]; id == 0 && !slices.Equal(got, []kv.NodeID{1, 2, 3}) {
					t.Errorf("node %d has to do with %v", id+1, got)
				}
			}
			before := len(c.acked)
			c.nodes[0].crash()
			c.await("writes without node 1", func() bool { return len(c.acked) > before+10 })
			c.open(1)
			c.tell()
			c.await("node 1 is back", func() bool { return c.nodes[0].replica.Applied() >= c.leader().replica.Applied() })
			c.verify(1, 2, 3)

			// The leader is removed: it hands over, and the others go on.
			leader := c.leader()
			c.set(leader.id, 0)
			c.await("two are left", c.followed(2, 0))
			c.await("who was removed knows", func() bool { return c.removed[leader.id] })
			c.unsettled(leader.id, c.list.Version)
			if now := c.leader(); now == leader {
				t.Fatal("it still leads")
			}
			leader.crash()
			leader = c.leader()
			c.set(leader.id, 0)
			c.await("one is left", c.followed(1, 0))
			leader.crash()
			last := c.leader()
			before = len(c.acked)
			c.await("writes on the last one", func() bool { return len(c.acked) > before+10 })
			c.verify(last.id)
			// It knows after a restart that it is alone, whatever it is told of the others.
			last.crash()
			c.open(last.id)
			c.tell()
			before = len(c.acked)
			c.await("writes after a restart", func() bool { return len(c.acked) > before+10 })
			c.verify(last.id)
			if got := last.driver.nodes; !slices.Equal(got, []kv.NodeID{last.id}) {
				t.Errorf("it has to do with %v", got)
			}
		})
	}
}
