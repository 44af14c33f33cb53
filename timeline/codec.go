package timeline

import (
	"encoding/binary"
	"errors"

	"github.com/quoratedb/quorate/kv"
)

// ErrMalformed: bytes are not what was encoded.
var ErrMalformed = errors.New("timeline: malformed points")

// AppendPoints encodes points, which follow on each other: of each, as uvarints, how far its revision and its time are above those of the one before it; of the
// first, above 0.
func AppendPoints(b []byte, points []Point) []byte {
	last := Point{}
	for _, p := range points {
		b = binary.AppendUvarint(b, uint64(p.Revision-last.Revision))
		b = binary.AppendUvarint(b, uint64(p.Time-last.Time))
		last = p
	}
	return b
}

// DecodePoints reads points as AppendPoints encodes them, of at most MaxPoints.
func DecodePoints(b []byte) (points []Point, err error) {
	last := Point{}
	for len(b) > 0 {
		revisions, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, ErrMalformed
		}
		millis, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil, ErrMalformed
		}
		p := Point{Revision: last.Revision + kv.Revision(revisions), Time: last.Time + Time(millis)}
		if p.Revision <= last.Revision || p.Time < last.Time || !p.Valid() || len(points) == MaxPoints {
			return nil, ErrMalformed
		}
		points, last, b = append(points, p), p, b[n+m:]
	}
	return points, nil
}

// SeriesOf is the series that points make which follow on each other, as decoded ones do.
func SeriesOf(points []Point) (s Series) {
	for _, p := range points {
		s, _ = s.Append(p)
	}
	return s
}
