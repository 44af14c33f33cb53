// Package calendar is between points (package timeline) and the times of clocks and people.
package calendar

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// ErrNotCovered is wrapped by what tells that nothing is known of a time, and of which times something is.
var ErrNotCovered = errors.New("that time is not covered")

// quiet is how long after the last point a store that has gone on since may still be without the next one.
const quiet timeline.Time = 2000

// Millis is the millisecond that a time is in.
func Millis(t time.Time) timeline.Time { return timeline.Time(t.UnixMilli()) }

// Of is the time of a point.
func Of(t timeline.Time) time.Time { return time.UnixMilli(int64(t)).UTC() }

// Revision is what the store had at the time, by what is known of that; ErrNotCovered.
func Revision(k timeline.Known, t timeline.Time) (kv.Revision, error) {
	switch {
	case k.Last.Revision == 0:
		return 0, fmt.Errorf("%w: no times are known yet: they are kept since all nodes are of a version that does, from the first write on", ErrNotCovered)
	case k.At.Revision == 0 || t > max(k.Now, k.Last.Time) || k.Newest > k.Last.Revision && t > k.Last.Time+quiet:
		until, revision := k.Last.Time, k.Last.Revision
		if k.Newest <= k.Last.Revision {
			until = max(k.Now, until) // nothing has changed since
		}
		return 0, fmt.Errorf("%w: it is %s; times from %s (revision %d) to %s (revision %d) are", ErrNotCovered, text(t), text(k.First.Time), k.First.Revision, text(until), revision)
	}
	return k.At.Revision, nil
}

func text(t timeline.Time) string { return Of(t).Format(time.RFC3339) }
