package shard

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// The limit of a store of several shards is a revision in the state of its system shard: the sequencer issues none above it (rule 3 of
// docs/protocols/sequencer.md). Its entries stand outside of the chain of proposals: a batch may wait for revisions that there are only above the present
// limit, and whatever is in the chain waits behind it. They need no chain. There is one at a time in a term (the next is asked for when this one is
// applied), and what is left of an older term is settled by the barrier of the next one, as everything is.
//
// An entry is
//
//	byte     format, limitFormat
//	uvarint  term, limit
const limitFormat = 2

// FoundingLimit is the limit that a store of several shards is born with: the revision of an empty one. So there is a limit at any time, and revisions count
// from 2 as with one shard. A sequencer begins above it, as it cannot know that it is the first: it issues when its first limit is in the log.
const FoundingLimit kv.Revision = 1

// AppendLimit appends the entry that sets the limit. It must be proposed in the term.
func AppendLimit(b []byte, term consensus.Term, limit kv.Revision) []byte {
	b = binary.AppendUvarint(append(b, limitFormat), uint64(term))
	return binary.AppendUvarint(b, uint64(limit))
}

// isLimit tells whether a command is an entry of this kind.
func isLimit(data []byte) bool { return len(data) > 0 && data[0] == limitFormat }

func decodeLimit(data []byte) (term consensus.Term, limit kv.Revision, err error) {
	d := &decoder{data: data[1:]}
	term, limit = consensus.Term(d.uvarint()), kv.Revision(d.positive())
	if limit < 1 || limit > maxRevision {
		d.fail("a limit that makes no sense")
	}
	if err := d.end(); err != nil {
		return 0, 0, fmt.Errorf("decode an entry with a limit: %w", err)
	}
	return term, limit, nil
}

// applyLimit puts a limit in force. One that was proposed in an older term than that of the last barrier is lost.
func (m *Machine) applyLimit(data []byte) (Applied, error) {
	if !m.options.Sequenced || m.options.Shard != kv.SystemShard {
		return Applied{}, fmt.Errorf("a limit in the log of a shard that has none: %w", ErrMalformed)
	}
	term, limit, err := decodeLimit(data)
	if err != nil {
		return Applied{}, err
	}
	if term != m.applied.ChainTerm {
		m.metrics.VoidEntries++
		return Applied{}, nil
	}
	m.applied.Limit = limit
	return Applied{Limit: limit}, nil
}

// Limit is the highest revision that may be issued to anybody, as far as the applied state says; 0 where revisions have no limit. Shared.
func (m *Machine) Limit() kv.Revision { return m.applied.Limit }
