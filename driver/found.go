package driver

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// Founding is what a shard begins with that is empty. Without members it begins with nothing at all, which is what a node needs that is added later: what it
// made up itself would be taken for the beginning that the others had.
type Founding struct {
	Members consensus.Config
	Nodes   []kv.NodeRecord // in the system shard
}

// OpenMachine opens the state machine of a shard. An empty one begins as told, which is durable when OpenMachine returns.
func OpenMachine(engine storage.Engine, options shard.Options, founding Founding) (*shard.Machine, error) {
	m, err := shard.Open(engine, options)
	if err != nil || m.AppliedIndex() != 0 || founding.Members.Empty() {
		return m, err
	}
	if err := found(engine, m, founding); err != nil {
		return nil, fmt.Errorf("begin shard %d: %w", options.Shard, err)
	}
	return m, nil
}

func found(engine storage.Engine, m *shard.Machine, founding Founding) error {
	batch := engine.NewBatch()
	defer batch.Close()
	start := consensus.SnapshotMeta{Index: consensus.BootstrapIndex, Term: consensus.BootstrapTerm, Config: founding.Members}
	if err := m.Bootstrap(start, founding.Nodes, batch); err != nil {
		return err
	}
	if err := engine.Apply(batch); err != nil {
		return ofShared(err)
	}
	return ofShared(await(engine.Flush))
}
