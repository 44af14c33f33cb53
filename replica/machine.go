package replica

import (
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// shardMachine is a shard.Machine together with the versions it works on.
type shardMachine struct {
	*shard.Machine
	versions *mvcc.Store
}

// MachineOptions configures OpenMachine.
type MachineOptions struct {
	Engine storage.Engine
	Shard  shard.Options
	Store  mvcc.Options // Revision and Compacted are filled in
	// Bootstrap is the membership that an empty shard starts with.
	Bootstrap consensus.Config
	// Nodes are the nodes that an empty system shard starts with.
	Nodes []kv.NodeRecord
}

// OpenMachine opens the real state machine of a shard from the engine. An empty one starts with the given
// membership, which is durable when OpenMachine returns.
func OpenMachine(opts MachineOptions) (Machine, error) {
	opts.Shard = opts.Shard.WithDefaults()
	opts.Store.Shard = opts.Shard.Shard
	state, err := shard.LoadState(opts.Engine, opts.Shard.Shard)
	if err != nil {
		return nil, err
	}
	opts.Store.Revision, opts.Store.Compacted = state.Revision, state.Compacted
	versions, err := mvcc.Open(opts.Engine, opts.Store)
	if err != nil {
		return nil, err
	}
	m, err := shard.Open(versions, opts.Engine, opts.Shard)
	if err != nil {
		return nil, err
	}
	if m.AppliedIndex() == 0 {
		if err := bootstrap(m, opts); err != nil {
			return nil, err
		}
	}
	return &shardMachine{Machine: m, versions: versions}, nil
}

func bootstrap(m *shard.Machine, opts MachineOptions) error {
	batch := opts.Engine.NewBatch()
	defer batch.Close()
	start := consensus.SnapshotMeta{Index: consensus.BootstrapIndex, Term: consensus.BootstrapTerm, Config: opts.Bootstrap}
	if err := m.Bootstrap(start, opts.Nodes, batch); err != nil {
		return err
	}
	if err := opts.Engine.Apply(batch); err != nil {
		return err
	}
	durable := make(chan error, 1)
	opts.Engine.Flush(func(err error) { durable <- err })
	return <-durable
}

func (m *shardMachine) WantsTicks() bool { return m.Metrics().Leases > 0 }

func (m *shardMachine) Config() consensus.Config {
	if c := m.Machine.Config(); c != nil {
		return *c
	}
	return consensus.Config{}
}

func (m *shardMachine) Compacted() kv.Revision { return m.versions.Compacted() }

func (m *shardMachine) CompactStep(b storage.Batch, maxRows int) (bool, error) {
	return m.versions.CompactStep(b, maxRows)
}

func (m *shardMachine) View() *mvcc.View { return m.versions.View() }

func (m *shardMachine) Row(at mvcc.Locator) (kv.KeyValue, mvcc.Locator, bool, error) {
	return m.versions.Row(at)
}
