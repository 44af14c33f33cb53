package consensustest

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// machine is the simplest state machine: the list of the values applied.
type machine struct {
	index  consensus.Index
	term   consensus.Term
	config consensus.Config
	values []string
}

func (m *machine) clone() *machine {
	c := *m
	c.values = slices.Clone(m.values)
	return &c
}

// apply takes the next entry.
func (m *machine) apply(e consensus.Entry) error {
	if e.Index != m.index+1 {
		return fmt.Errorf("entry %d applied after entry %d", e.Index, m.index)
	}
	m.index, m.term = e.Index, e.Term
	switch e.Kind {
	case consensus.EntryCommand:
		m.values = append(m.values, string(e.Data))
	case consensus.EntryConfig:
		config, err := consensus.DecodeConfig(e.Data)
		if err != nil {
			return fmt.Errorf("config entry %d: %w", e.Index, err)
		}
		m.config = config
	}
	return nil
}

func (m *machine) meta() consensus.SnapshotMeta {
	return consensus.SnapshotMeta{Index: m.index, Term: m.term, Config: m.config}
}
