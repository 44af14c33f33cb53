package driver

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// validateGroups tells why a node cannot hold the groups side by side: two replicas of one group would write the same rows and the same log.
func validateGroups(groups []consensus.GroupID) error {
	seen := make(map[consensus.GroupID]bool, len(groups))
	for _, group := range groups {
		switch {
		case group == 0 || group > storage.MaxGroup:
			return fmt.Errorf("driver: group %d cannot be held: no group has that number", group)
		case seen[group]:
			return fmt.Errorf("driver: group %d is named twice among the groups of the node", group)
		}
		seen[group] = true
	}
	return nil
}

// errOtherShard: who names the state machines has made a mistake, and more of the groups may have another's.
var errOtherShard = errors.New("the state machine that was opened")

// openMachine opens the state machine of a group, and makes sure that it is of the group's shard: its rows would be another's.
func (d *Driver) openMachine(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
	machine, err := d.opts.OpenMachine(group, logEnd)
	if err != nil {
		return nil, err
	}
	if of := machine.Shard(); of != kv.ShardID(group) {
		return nil, fmt.Errorf("%w is of shard %d, whose rows it would write; group %d has shard %d", errOtherShard, of, group, group)
	}
	return machine, nil
}
