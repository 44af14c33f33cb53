package issuer

import "sync/atomic"

// Metrics are figures about an issuer since its start.
type Metrics struct {
	RevisionsIssued int64 // by sequencers on this node
	BatchesAsked    int64 // runs of revisions that leaders on this node asked a sequencer for, wherever it was
	MultisAsked     int64 // revisions of transactions over several shards that this node asked a sequencer for; not those taken beside it
	SessionsBegun   int64 // with sequencers
	HoldsRefused    int64 // batches that leaders here could not number at once, because no sequencer that may issue is here, or it had no room
}

type counters struct{ issued, asked, multis, sessions, refused atomic.Int64 }

// Metrics returns figures of now.
func (i *Issuer) Metrics() Metrics {
	m := &i.metrics
	return Metrics{RevisionsIssued: m.issued.Load(), BatchesAsked: m.asked.Load(), MultisAsked: m.multis.Load(), SessionsBegun: m.sessions.Load(), HoldsRefused: m.refused.Load()}
}
