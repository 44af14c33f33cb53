package timeline

import (
	"slices"
	"sort"

	"github.com/quoratedb/quorate/kv"
)

// Time is milliseconds since 1970, in UTC. Package calendar has it from times of clocks, and gives them.
type Time int64

// Point says that the store had the revision at a time.
type Point struct {
	Revision kv.Revision
	Time     Time
}

// Valid tells whether there is such a point.
func (p Point) Valid() bool { return p.Revision > 0 && p.Time > 0 && p.Time <= maxTime }

// maxTime is that of the year 10000, about.
const maxTime Time = 253_402_300_800_000

// MaxPoints is how many points a series has. One that has more is thinned out: the older it is, the coarser.
const MaxPoints = 1 << 17

// fineness: of what is so many seconds old, points a second apart are kept; of what is older, points that are as much further apart.
const fineness = 1 << 13

// Series is points, by revision. It is not changed: methods return another one, which may share memory with it. Of one series at most one other may be made by
// Add; so it is for one writer, and any number of readers of what it had.
//
// Invariant: revisions ascend, and times do not descend.
type Series struct{ points []Point }

// Following is the point that is added for a revision at a time by some clock, behind the last one (zero: there is none): not before that one, whatever the
// clock says. false: the revision has one already.
func Following(last Point, revision kv.Revision, now Time) (Point, bool) {
	p := Point{Revision: revision, Time: min(max(now, last.Time, 1), maxTime)}
	return p, revision > last.Revision
}

// Add adds a point, and tells of which revisions there are none any more. What does not follow on the last one changes nothing: so points may be added again.
func (s Series) Add(p Point) (after Series, dropped []kv.Revision) {
	if last := s.Last(); !p.Valid() || p.Revision <= last.Revision || p.Time < last.Time {
		return s, nil
	}
	s.points = append(s.points, p)
	if len(s.points) <= MaxPoints {
		return s, nil
	}
	var kept []Point
	if kept, dropped = thin(s.points, func(gap, age Time) bool { return gap*fineness >= age }); len(kept) > MaxPoints/4*3 {
		odd := false // the times say nothing
		kept, dropped = thin(s.points, func(Time, Time) bool {
			odd = !odd
			return odd
		})
	}
	return Series{kept}, dropped
}

// thin keeps the first and the last point, and from the last one back those that are to be kept by how far they are before the one kept behind them, and before
// the last one. What it gives is new.
func thin(points []Point, keep func(gap, age Time) bool) (kept []Point, dropped []kv.Revision) {
	kept = make([]Point, 0, MaxPoints)
	last := points[len(points)-1]
	kept = append(kept, last)
	for i, p := range slices.Backward(points[:len(points)-1]) {
		if i > 0 && !keep(kept[len(kept)-1].Time-p.Time, last.Time-p.Time) {
			dropped = append(dropped, p.Revision)
			continue
		}
		kept = append(kept, p)
	}
	slices.Reverse(kept)
	return kept, dropped
}

// From is the part from a revision on.
func (s Series) From(revision kv.Revision) Series { return Series{s.points[s.by(revision):]} }

// UpTo is the part up to a revision, which is in it.
func (s Series) UpTo(revision kv.Revision) Series {
	i := s.by(revision + 1)
	return Series{s.points[:i:i]}
}

// by is the index of the first point at a revision, or behind it.
func (s Series) by(revision kv.Revision) int {
	return sort.Search(len(s.points), func(i int) bool { return s.points[i].Revision >= revision })
}

// Points are all points, by revision. They are not to be changed.
func (s Series) Points() []Point { return s.points }

// First and Last are zero if there are no points.
func (s Series) First() Point {
	if len(s.points) == 0 {
		return Point{}
	}
	return s.points[0]
}

// Last is the newest point.
func (s Series) Last() Point {
	if len(s.points) == 0 {
		return Point{}
	}
	return s.points[len(s.points)-1]
}

// At is the newest point that is not after a time: what the store had then, as far as is known. false: the time is before the first one.
func (s Series) At(t Time) (Point, bool) {
	i := sort.Search(len(s.points), func(i int) bool { return s.points[i].Time > t })
	if i == 0 {
		return Point{}, false
	}
	return s.points[i-1], true
}

// When tells by when a revision was issued, and after which time: that is zero if nothing says so. false: the revision is behind the last point.
func (s Series) When(revision kv.Revision) (after, by Time, known bool) {
	i := s.by(revision)
	if i == len(s.points) {
		return s.Last().Time, 0, false
	}
	if i > 0 {
		after = s.points[i-1].Time
	}
	return after, s.points[i].Time, true
}

// Join is a series followed by another, of which what goes back is moved forward, or left out.
func Join(a, b Series) Series {
	joined := Series{slices.Clip(a.points)}
	for _, p := range b.points {
		if p, ok := Following(joined.Last(), p.Revision, p.Time); ok {
			joined, _ = joined.Add(p)
		}
	}
	return joined
}
