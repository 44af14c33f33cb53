package driver

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// loneNode are the options of a cluster of one node with the groups, whose machines are opened by the function.
func loneNode(groups []consensus.GroupID, open func(storage.Engine, consensus.GroupID, consensus.Index) (Machine, error)) Options {
	engine := storage.NewMemory(storage.MemoryOptions{})
	return Options{
		Self: 1, Nodes: []kv.NodeID{1}, Log: storage.NewMemoryLog(), Engine: engine, Transport: nowhere{}, Instance: 1,
		Rand: rand.New(rand.NewPCG(1, 1)), Groups: groups,
		NewCore: func(o CoreOptions) (consensus.Core, error) {
			return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
		},
		OpenMachine: func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			return open(engine, group, logEnd)
		},
	}
}

// openShard opens the real state machine of a cluster of one node.
func openShard(engine storage.Engine, id kv.ShardID, logEnd consensus.Index) (Machine, error) {
	options := shard.Options{Shard: id, Rand: rand.New(rand.NewPCG(1, uint64(id))), LogEnd: logEnd}
	return OpenMachine(engine, options, Founding{Members: consensus.Config{Voters: []consensus.ReplicaID{1}}})
}

// TestGroupsSideBySide: two replicas that would write the same rows, or the same log, are refused by name.
func TestGroupsSideBySide(t *testing.T) {
	for _, c := range []struct {
		name   string
		groups []consensus.GroupID
		shard  func(consensus.GroupID) kv.ShardID
		want   string
	}{
		{"apart", []consensus.GroupID{1, 2}, func(g consensus.GroupID) kv.ShardID { return kv.ShardID(g) }, ""},
		{"twice", []consensus.GroupID{1, 2, 1}, func(g consensus.GroupID) kv.ShardID { return kv.ShardID(g) }, "group 1 is named twice"},
		{"none", []consensus.GroupID{0}, func(g consensus.GroupID) kv.ShardID { return kv.ShardID(g) }, "group 0 cannot be held"},
		{"too large", []consensus.GroupID{storage.MaxGroup + 1}, func(g consensus.GroupID) kv.ShardID { return kv.ShardID(g) }, "cannot be held"},
		{"one shard for two groups", []consensus.GroupID{1, 2}, func(consensus.GroupID) kv.ShardID { return 1 },
			"group 2: the state machine that was opened is of shard 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := loneNode(c.groups, func(engine storage.Engine, group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
				return openShard(engine, c.shard(group), logEnd)
			})
			d, err := Open(o, func() time.Duration { return 0 })
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want %q", err, c.want)
			case err == nil:
				d.Close()
			case slices.Contains(o.Log.Groups(), 2):
				t.Error("the log of group 2 was written to")
			}
		})
	}
}

// TestNoGroups: a node may hold nothing at its start; one that says nothing of groups holds the system shard.
func TestNoGroups(t *testing.T) {
	if got := (Options{Groups: []consensus.GroupID{}}).WithDefaults().Groups; len(got) != 0 {
		t.Errorf("a node that is to hold no group holds %v", got)
	}
	if got := (Options{}).WithDefaults().Groups; !slices.Equal(got, []consensus.GroupID{1}) {
		t.Errorf("by default a node holds %v", got)
	}
}
