package shard

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/timeline"
)

// Which revision the store had at which time (package timeline) is in the system shard: a row for each point, and all of them in memory, 16 bytes each. The
// leader decides what a point says, and the entry has it.

// Times is the applied series. It is not changed.
func (m *Machine) Times() timeline.Series { return m.times }

func (m *Machine) timeRequest(r *kv.RecordTimeRequest) (*kv.Response, error) {
	if m.options.Shard != kv.SystemShard {
		return nil, fmt.Errorf("times are in shard %d: %w", kv.SystemShard, kv.ErrShardNotHere)
	}
	if r.Revision < 1 || r.Revision > maxRevision {
		return nil, fmt.Errorf("the time of revision %d: %w", r.Revision, kv.ErrInvalidRequest)
	}
	last := m.times.Last()
	m.lead.overlay.eachOp(func(p *op) {
		if p.kind == opTime {
			last = p.time
		}
	})
	if p, ok := timeline.Following(last, r.Revision, timeline.Time(r.Millis)); ok {
		m.lead.overlay.addOp(op{kind: opTime, time: p})
	}
	return &kv.Response{Kind: kv.KindRecordTime}, nil
}

// applyTime adds a point. While the log is applied again after a crash, the rows may be as of a later one: then they have it, or it was dropped.
func (m *Machine) applyTime(p timeline.Point, b storage.Batch) {
	if p.Revision <= m.times.Last().Revision || p.Revision < m.applied.Compacted {
		return
	}
	after, dropped := m.times.Add(p)
	m.times = after
	b.Set(keys.AppendTime(nil, m.options.Shard, p.Revision), binary.AppendUvarint(nil, uint64(p.Time)))
	for _, revision := range dropped {
		b.Delete(keys.AppendTime(nil, m.options.Shard, revision))
	}
}

// forgetTimes drops what is before a compaction.
func (m *Machine) forgetTimes(compacted kv.Revision, b storage.Batch) {
	if m.times.First().Revision == 0 || m.times.First().Revision >= compacted {
		return
	}
	m.times = m.times.From(compacted)
	lower, _ := keys.Times(m.options.Shard)
	b.DeleteRange(lower, keys.AppendTime(nil, m.options.Shard, compacted))
}

func (m *Machine) loadTimes() error {
	m.times = timeline.Series{}
	if m.options.Shard != kv.SystemShard {
		return nil
	}
	lower, upper := keys.Times(m.options.Shard)
	return eachRow(m.reader, lower, upper, func(key, row []byte) error {
		revision, err := keys.ParseTime(key)
		if err != nil {
			return err
		}
		d := &decoder{data: row}
		p := timeline.Point{Revision: revision, Time: timeline.Time(d.positive())}
		if err := d.end(); err != nil {
			return fmt.Errorf("row of a time %x: %w", key, err)
		}
		added := false
		if m.times, added = m.times.Append(p); !added {
			return fmt.Errorf("row of a time %x does not follow on the one before it: %w", key, storage.ErrCorrupt)
		}
		return nil
	})
}
