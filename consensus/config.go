package consensus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The initial state of every group is taken to lie at this position, as if a snapshot had been
// installed there on each of the first members. A later member, whose log is empty, can therefore
// never be brought up by entries alone: it gets a snapshot, and with it the membership that
// was never written into the log.
const (
	BootstrapIndex Index = 1
	BootstrapTerm  Term  = 1
)

// MaxReplicaID is the greatest ID a replica may have. What is above is reserved for the inside of cores.
const MaxReplicaID ReplicaID = 1 << 62

// ErrInvalidConfig is wrapped by the errors of Config.Validate.
var ErrInvalidConfig = errors.New("consensus: invalid membership")

// Equal tells whether both configs have the same members in the same roles.
func (c Config) Equal(o Config) bool {
	return slices.Equal(c.Voters, o.Voters) && slices.Equal(c.Learners, o.Learners) && slices.Equal(c.Outgoing, o.Outgoing)
}

// Clone returns a config that shares no memory with c.
func (c Config) Clone() Config {
	return Config{Voters: slices.Clone(c.Voters), Learners: slices.Clone(c.Learners), Outgoing: slices.Clone(c.Outgoing)}
}

// Empty tells whether the config has no member at all: that of a replica that has yet to be told.
func (c Config) Empty() bool {
	return len(c.Voters) == 0 && len(c.Learners) == 0 && len(c.Outgoing) == 0
}

// Joint tells whether the config is in the middle of a joint change.
func (c Config) Joint() bool { return len(c.Outgoing) != 0 }

// Contains tells whether the replica is a member in any role.
func (c Config) Contains(id ReplicaID) bool { return c.Votes(id) || slices.Contains(c.Learners, id) }

// Votes tells whether the replica has a vote in the old or the new half of the config.
func (c Config) Votes(id ReplicaID) bool {
	return slices.Contains(c.Voters, id) || slices.Contains(c.Outgoing, id)
}

// Newest is the member with the highest ID; 0: there are none. IDs ascend, and are never used twice.
func (c Config) Newest() (newest ReplicaID) {
	for _, members := range [][]ReplicaID{c.Voters, c.Learners, c.Outgoing} {
		for _, id := range members {
			newest = max(newest, id)
		}
	}
	return newest
}

// Members returns every replica of the config, ascending.
func (c Config) Members() []ReplicaID {
	all := slices.Concat(c.Voters, c.Learners, c.Outgoing)
	slices.Sort(all)
	return slices.Compact(all)
}

// HasQuorum tells whether the replicas for which has is true are enough to decide: a majority of
// Voters and, in a joint config, also a majority of Outgoing. A config without voters decides nothing.
func (c Config) HasQuorum(has func(ReplicaID) bool) bool {
	if len(c.Voters) == 0 || !majority(c.Voters, has) {
		return false
	}
	return !c.Joint() || majority(c.Outgoing, has)
}

func majority(ids []ReplicaID, has func(ReplicaID) bool) bool {
	count := 0
	for _, id := range ids {
		if has(id) {
			count++
		}
	}
	return count > len(ids)/2
}

// Validate tells what is wrong with the config: it needs a voter, each list must be ascending
// without repetition, and nobody may be voter and learner at once. A learner may be in
// Outgoing: it is a voter that is being demoted.
func (c Config) Validate() error {
	if len(c.Voters) == 0 {
		return fmt.Errorf("%w: it has no voter", ErrInvalidConfig)
	}
	for _, list := range [][]ReplicaID{c.Voters, c.Learners, c.Outgoing} {
		if err := validateList(list); err != nil {
			return err
		}
	}
	for _, id := range c.Learners {
		if slices.Contains(c.Voters, id) {
			return fmt.Errorf("%w: replica %d is both a voter and a learner", ErrInvalidConfig, id)
		}
	}
	return nil
}

func validateList(ids []ReplicaID) error {
	for i, id := range ids {
		if id == 0 || id > MaxReplicaID {
			return fmt.Errorf("%w: %d is not a replica id", ErrInvalidConfig, id)
		}
		if i > 0 && ids[i-1] >= id {
			return fmt.Errorf("%w: replica %d after %d: ids must ascend without repetition", ErrInvalidConfig, id, ids[i-1])
		}
	}
	return nil
}

// String gives a form like "voters=(1,2,3) learners=(4)"; empty lists but the voters are left out.
func (c Config) String() string {
	var b strings.Builder
	writeList(&b, "voters", c.Voters)
	if len(c.Outgoing) > 0 {
		b.WriteByte(' ')
		writeList(&b, "outgoing", c.Outgoing)
	}
	if len(c.Learners) > 0 {
		b.WriteByte(' ')
		writeList(&b, "learners", c.Learners)
	}
	return b.String()
}

func writeList(b *strings.Builder, name string, ids []ReplicaID) {
	b.WriteString(name)
	b.WriteString("=(")
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(b, uint64(id))
	}
	b.WriteByte(')')
}
