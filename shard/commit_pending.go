package shard

import "github.com/quoratedb/quorate/kv"

// pendingCommits is what the ops in flight make of records and of what is finished. The zero value has none.
type pendingCommits struct {
	records  map[kv.TransactionID]pendingRecord
	finished map[kv.ShardID]pendingFinished
	// prepares is how many prepares and promises are in flight, bytes what the prepares take.
	prepares, bytes int
}

// pendingRecord is a record as it will be.
type pendingRecord struct {
	last   int64 // position of the last op about it
	record *record
}

// openBytes is what an open transaction takes in an entry at most.
const openBytes = 20

// pendingFinished is what will be finished of an anchor.
type pendingFinished struct {
	last     int64
	finished kv.Finished
}

// add takes note of the op at a position, and returns how many bytes it takes in an entry beside what every op does.
func (c *pendingCommits) add(at int64, p *op) int {
	if c.records == nil {
		c.records, c.finished = make(map[kv.TransactionID]pendingRecord), make(map[kv.ShardID]pendingFinished)
	}
	if p.isFinished() {
		c.finished[p.record.id.Anchor] = pendingFinished{at, p.record.finished()}
		return recordOverheadBytes + openBytes*len(p.record.open)
	}
	c.records[p.record.id] = pendingRecord{at, p.record}
	size := recordOverheadBytes
	switch p.kind {
	case opPrepare:
		size = p.record.sizeBytes()
		c.prepares++
		c.bytes += size
	case opPromise:
		size += 8 * len(p.record.participants)
		c.prepares++
	}
	return size
}

// drop forgets the op at a position, which is applied.
func (c *pendingCommits) drop(at int64, p *op) {
	if p.isFinished() {
		if c.finished[p.record.id.Anchor].last == at {
			delete(c.finished, p.record.id.Anchor)
		}
		return
	}
	if c.records[p.record.id].last == at {
		delete(c.records, p.record.id)
	}
	switch p.kind {
	case opPrepare:
		c.prepares--
		c.bytes -= p.record.sizeBytes()
	case opPromise:
		c.prepares--
	}
}

// recordEvaluated is what is known of a transaction in the overlaid state; nil: nothing.
func (m *Machine) recordEvaluated(id kv.TransactionID) *record {
	if p, pending := m.lead.overlay.commits.records[id]; pending {
		return p.record
	}
	return m.transactions.records[id]
}
