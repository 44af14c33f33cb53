package keys

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// Rows tell where the rows of a shard are.
type Rows struct {
	Shard kv.ShardID
	// Home is the lineage of its rows by key, which are replaced in place: Latest, Value and attachments.
	Home Lineage
	// Lower and Upper bound its keys; nil: not bounded.
	Lower, Upper []byte
	// Segments tell in which lineage the versions of a revision are. They ascend; the first is from revision 0. What is written goes to the last one.
	Segments []Segment
}

// Segment says that the versions from a revision on are in a lineage. If that is not the shard's own, it holds versions of keys that are
// not the shard's, too.
type Segment struct {
	From    kv.Revision
	Lineage Lineage
}

// RowsOf is where the rows of a shard are that was never split.
func RowsOf(shard kv.ShardID) Rows {
	return Rows{Shard: shard, Home: Of(shard), Segments: []Segment{{Lineage: Of(shard)}}}
}

// Split returns where the rows of a child are to which the keys of the interval go at the revision: it reads the parent's versions up to
// there, and writes its own. Rows do not move. The parent goes on with what it had, and a narrower interval.
func (r Rows) Split(child kv.ShardID, lower, upper []byte, at kv.Revision) Rows {
	begun := len(r.Segments)
	for begun > 1 && r.Segments[begun-1].From > at {
		begun-- // the parent was a child until now, and has written nothing
	}
	segments := append(r.Segments[:begun:begun], Segment{From: at + 1, Lineage: Of(child)})
	return Rows{Shard: child, Home: r.Home, Lower: lower, Upper: upper, Segments: segments}
}

// Validate tells what is wrong with rows.
func (r Rows) Validate() error {
	if r.Shard == 0 || r.Shard > MaxShard {
		return fmt.Errorf("shard %d is not between 1 and %d", r.Shard, MaxShard)
	}
	if r.Home == node || len(r.Segments) == 0 || r.Segments[0].From != 0 {
		return errors.New("rows without a home, or with a revision that no segment has")
	}
	for i, s := range r.Segments {
		if s.Lineage == node || i > 0 && s.From <= r.Segments[i-1].From {
			return fmt.Errorf("segments %v do not ascend, or name no lineage", r.Segments)
		}
	}
	if last := r.Segments[len(r.Segments)-1]; last.Lineage != Of(r.Shard) {
		return fmt.Errorf("shard %d would write into lineage %d", r.Shard, last.Lineage)
	}
	return nil
}

// LineageAt is the lineage of the versions of a revision.
func (r *Rows) LineageAt(rev kv.Revision) Lineage {
	i := len(r.Segments) - 1
	for r.Segments[i].From > rev {
		i--
	}
	return r.Segments[i].Lineage
}

// Has tells whether the key is the shard's.
func (r *Rows) Has(key []byte) bool {
	return bytes.Compare(key, r.Lower) >= 0 && (r.Upper == nil || bytes.Compare(key, r.Upper) < 0)
}

// Clip cuts an interval of keys to those that are the shard's; a nil bound means that there is none.
func (r *Rows) Clip(lower, upper []byte) ([]byte, []byte) {
	if bytes.Compare(lower, r.Lower) < 0 {
		lower = r.Lower
	}
	if r.Upper != nil && (upper == nil || bytes.Compare(upper, r.Upper) > 0) {
		upper = r.Upper
	}
	return lower, upper
}

// Alone tells whether the rows are the shard's alone: it was never split, and neither was what it came from.
func (r *Rows) Alone() bool {
	return r.Home == Of(r.Shard) && len(r.Lower) == 0 && r.Upper == nil && len(r.Segments) == 1
}

// Spans are the intervals of the engine that hold a shard's rows, ascending: what a snapshot of it must carry, all of one moment. They are known only for
// rows that are the shard's Alone.
func Spans(shard kv.ShardID) []storage.Span {
	return []storage.Span{{Lower: appendHeader(nil, Of(shard), 0)[:headerSize-1], Upper: appendHeader(nil, Of(shard)+1, 0)[:headerSize-1]}}
}
