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

// MaxPoints is how many points a series has. Before it has as many it is thinned out: the older it is, the coarser.
const MaxPoints = 1 << 17

const (
	// manyPoints are so many that thinning begins.
	manyPoints = MaxPoints / 4 * 3
	// MaxDropped is how many points go when one is added: that many rows are deleted in one batch.
	MaxDropped = 510
	// thinEvery: of so many points that are added to many one has others dropped.
	thinEvery = 64
)

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

// Add adds a point, and tells of which revisions there are none any more: of MaxDropped at most. What does not follow on the last one changes nothing: so points
// may be added again.
//
// Of a series of many points a part is thinned now and then. Which one follows from the point that is added, so it is the same wherever the same points are, and
// nothing has to be remembered; after some thousand points each part had its turn.
func (s Series) Add(p Point) (after Series, dropped []kv.Revision) {
	s, added := s.Append(p)
	n, turn := len(s.points), scattered(uint64(p.Revision))
	if !added {
		return s, nil
	}
	if n <= manyPoints || n <= MaxPoints && turn%thinEvery != 0 {
		return s, nil
	}
	const part = MaxDropped + 2
	from := int(turn / thinEvery % uint64(n-part+1))
	keep := thin(s.points[from:from+part], p.Time, func(gap, age Time) bool { return gap*fineness >= age })
	if len(keep) == part && n > MaxPoints {
		odd := false // the times say nothing
		keep = thin(s.points[from:from+part], p.Time, func(Time, Time) bool {
			odd = !odd
			return odd
		})
	}
	if len(keep) == part {
		return s, nil
	}
	return s.without(from, from+part, keep)
}

// Append adds a point of a series that is read again: none is dropped. false: it does not follow on the last one, and changes nothing.
func (s Series) Append(p Point) (after Series, added bool) {
	if last := s.Last(); !p.Valid() || p.Revision <= last.Revision || p.Time < last.Time {
		return s, false
	}
	s.points = append(s.points, p)
	return s, true
}

// thin gives those of some points that are kept: the first and the last one, and from that one back those that are to be kept by how far they are before the one
// kept behind them, and before now.
func thin(points []Point, now Time, keep func(gap, age Time) bool) (kept []Point) {
	last := len(points) - 1
	kept = append(make([]Point, 0, len(points)), points[last])
	for i, p := range slices.Backward(points[:last]) {
		if i == 0 || keep(kept[len(kept)-1].Time-p.Time, now-p.Time) {
			kept = append(kept, p)
		}
	}
	slices.Reverse(kept)
	return kept
}

// without is the series with others in place of some of its points, of which those others are a part, and tells which are gone.
func (s Series) without(from, to int, kept []Point) (after Series, dropped []kv.Revision) {
	left := kept
	for _, p := range s.points[from:to] {
		if len(left) > 0 && left[0] == p {
			left = left[1:]
			continue
		}
		dropped = append(dropped, p.Revision)
	}
	after.points = make([]Point, 0, MaxPoints+1)
	after.points = append(append(append(after.points, s.points[:from]...), kept...), s.points[to:]...)
	return after, dropped
}

// scattered makes of numbers that follow on each other some that do not (splitmix64).
func scattered(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
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

// Join is a series followed by another, of which what goes back is moved forward, or left out. If there are more points than a series has, it is thinned as a
// whole.
func Join(a, b Series) Series {
	joined := Series{slices.Clip(a.points)}
	for _, p := range b.points {
		if p, ok := Following(joined.Last(), p.Revision, p.Time); ok {
			joined, _ = joined.Append(p)
		}
	}
	for fine := Time(fineness); len(joined.points) > MaxPoints; fine /= 2 {
		joined.points = thin(joined.points, joined.Last().Time, func(gap, age Time) bool { return fine > 0 && gap*fine >= age && gap > 0 })
	}
	return joined
}
