package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// Every node has a replica of every shard. Each is a consensus group of the same number.

// shardFlags name the flags that say which shards there are, for messages.
const shardFlags = "--initial-shards, --initial-partition, --initial-split-keys and --hash-prefix"

// partitionWithDefaults completes what was left out. Keys are partitioned by hash, unless split keys are given: that needs nothing else. One shard is one
// shard, however it would be partitioned.
func partitionWithDefaults(s partition.Scheme) partition.Scheme {
	s.SplitKeys = slices.Clone(s.SplitKeys)
	if s.Kind == 0 {
		s.Kind = partition.Hash
		if len(s.SplitKeys) > 0 || s.Shards <= 1 && s.HashPrefix == 0 {
			s.Kind = partition.Range
		}
	}
	if s.Shards == 0 {
		s.Shards = 1
		if s.Kind == partition.Range {
			s.Shards += len(s.SplitKeys)
		}
	}
	if s.Shards == 1 && s.Validate() == nil {
		return partition.Single()
	}
	return s
}

func (c ClusterOptions) validateShards() error {
	if err := c.Partition.Validate(); err != nil {
		return badf("%v; the flags are %s", err, shardFlags)
	}
	if bytes := len(partition.FormatKeys(c.Partition.SplitKeys)); bytes > MaxPartitionBytes {
		return badf("--initial-split-keys is %d bytes long, more than %d: give shorter keys, or fewer", bytes, MaxPartitionBytes)
	}
	if c.CommitProtocol != Commit2PC && c.CommitProtocol != Commit3PC {
		return badf("%s=%s: must be %q or %q", flagCommit, c.CommitProtocol, Commit2PC, Commit3PC)
	}
	if c.Leaders != LeadersSequencer && c.Leaders != LeadersSpread {
		return badf("--leaders=%s: must be %q or %q", c.Leaders, LeadersSequencer, LeadersSpread)
	}
	return nil
}

// partition says which shards there are, as data directories and nodes tell each other; empty: one.
func (c ClusterOptions) partition() string {
	if c.Partition.Shards <= 1 {
		return ""
	}
	return c.Partition.Flags()
}

// flagCommit is the flag of the commit protocol, for messages.
const flagCommit = "--commit-protocol"

// commit is the commit protocol, as data directories and nodes tell each other; empty: there is one shard.
func (c ClusterOptions) commit() string {
	if c.Partition.Shards <= 1 {
		return ""
	}
	return string(c.CommitProtocol)
}

// groups are those of all shards.
func (c ClusterOptions) groups() (groups []consensus.GroupID) {
	for _, id := range c.Partition.ShardIDs() {
		groups = append(groups, consensus.GroupID(id))
	}
	return groups
}

// many tells whether there are several shards.
func (s *Server) many() bool { return s.options.Cluster.many() }

func (c ClusterOptions) many() bool { return c.Partition.Shards > 1 }

// ofShard are the attributes of a log line about a group; none if there is only one.
func (s *Server) ofShard(group consensus.GroupID, attributes ...any) []any {
	if s.many() {
		return append([]any{"shard", uint64(group)}, attributes...)
	}
	return attributes
}

// replica is this node's of a shard; nil if it could not be opened.
func (s *Server) replica(shard kv.ShardID) *driver.Replica {
	return s.driver.Replica(consensus.GroupID(shard))
}

// replicas are those of this node, by shard, without those that could not be opened.
func (s *Server) replicas() (all []*driver.Replica) {
	for _, d := range s.descriptors {
		if r := s.replica(d.Shard); r != nil {
			all = append(all, r)
		}
	}
	return all
}

// groupFailed is told that the replica of a shard cannot go on. Without the system shard the node is of no use: members, leases, alarms and the numbers of
// revisions are in it. Without another one it serves the keys of all others; the other nodes have that shard, too.
func (s *Server) groupFailed(group consensus.GroupID, err error) {
	if group == consensus.GroupID(kv.SystemShard) {
		s.fail(err)
		return
	}
	s.logger.Error("the replica of a shard has stopped; the node goes on without it. Other nodes serve its keys, this one does not. To have it back, start the node again",
		"shard", uint64(group), "reason", err)
	s.failedShards.add(kv.ShardID(group), err)
}

// failures are the shards whose replicas have stopped, and why. The zero value is ready.
type failures struct {
	mu      sync.Mutex
	byShard map[kv.ShardID]error
}

func (f *failures) add(shard kv.ShardID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byShard == nil {
		f.byShard = make(map[kv.ShardID]error)
	}
	f.byShard[shard] = err
}

// of is why the replica of a shard has stopped; nil if it has not.
func (f *failures) of(shard kv.ShardID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byShard[shard]
}

// texts describe all failures, for people.
func (f *failures) texts() (texts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, shard := range slices.Sorted(maps.Keys(f.byShard)) {
		texts = append(texts, fmt.Sprintf("the replica of shard %d has stopped: %v", shard, f.byShard[shard]))
	}
	return texts
}

// waitForShards waits until each shard has a leader, and what is here of it has all that was committed there when it was looked at, as the system shard has by
// then. A replica that has stopped is not waited for.
func (s *Server) waitForShards() {
	waiting := s.waitsFor.Load()
	for waiting != nil && s.context.Err() == nil {
		left := s.behind(*waiting)
		if len(left) == 0 {
			s.waitsFor.Store(nil)
			return
		}
		s.waitsFor.Store(&left)
		waiting = &left
		if s.quiet.allows("waiting", "shards", s.clock()) {
			s.logger.Info("waiting for shards: enough of their replicas for an election must run and reach each other, and those here have to catch up", "shards", left)
		}
		select {
		case <-s.context.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// asksAtOnce is how many shards are asked at one time whether the replicas here have caught up. Each takes a message and as long as the replica needs.
const asksAtOnce = 32

// behind returns those of the shards that have to be waited for, in order. They are asked all at once, so that one that is slow holds up none of the others.
func (s *Server) behind(shards []kv.ShardID) []kv.ShardID {
	return keepUnless(shards, asksAtOnce, s.caughtUp)
}

// keepUnless returns the shards for which done says no, in order. It asks about so many of them at one time.
func keepUnless(shards []kv.ShardID, atOnce int, done func(kv.ShardID) bool) (kept []kv.ShardID) {
	answers, places := make([]bool, len(shards)), make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for i, shard := range shards {
		places <- struct{}{}
		asking.Go(func() {
			answers[i] = done(shard)
			<-places
		})
	}
	asking.Wait()
	for i, shard := range shards {
		if !answers[i] {
			kept = append(kept, shard)
		}
	}
	return kept
}

// caughtUp tells whether nobody need wait for a shard any more. One without a leader is not asked.
func (s *Server) caughtUp(shard kv.ShardID) bool {
	r := s.replica(shard)
	if r == nil || s.failedShards.of(shard) != nil {
		return true
	}
	if leader, _ := r.Leader(); leader == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(s.context, time.Second)
	defer cancel()
	return s.gateway.CatchUp(ctx, shard) == nil
}
