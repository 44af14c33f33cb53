package native

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// ListTimes is the path of the call that tells which revision the store had at which time. It is answered with a stream.
const ListTimes = "/quorate.v1.History/Times"

// TimesRequest asks what is known of a time (0: of none), and for all points, or for none.
type TimesRequest struct {
	At  timeline.Time
	All bool
}

// TimesPart is a message of the answer. The first one has what is known, and where the history begins; all have some of the points, if they were asked for.
type TimesPart struct {
	Known     timeline.Known
	Compacted kv.Revision
	Points    []timeline.Point
}

// The fields of the messages.
const (
	timesAt  protowire.Number = 1
	timesAll protowire.Number = 2

	timesKnownAt   protowire.Number = 1
	timesFirst     protowire.Number = 2
	timesLast      protowire.Number = 3
	timesNewest    protowire.Number = 4
	timesNow       protowire.Number = 5
	timesCompacted protowire.Number = 6
	timesPoints    protowire.Number = 7
)

// Append encodes the request.
func (r *TimesRequest) Append(dst []byte) []byte {
	dst = appendNumber(dst, timesAt, uint64(r.At))
	if r.All {
		dst = appendNumber(dst, timesAll, 1)
	}
	return dst
}

// DecodeTimesRequest reads what Append wrote.
func DecodeTimesRequest(in []byte) (r TimesRequest, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case timesAt:
			r.At = timeline.Time(f.varint)
		case timesAll:
			r.All = f.varint != 0
		}
		return nil
	})
	return r, err
}

// Append encodes the message. Points are as timeline.AppendPoints has them.
func (p *TimesPart) Append(dst []byte) []byte {
	dst = appendPoint(dst, timesKnownAt, p.Known.At)
	dst = appendPoint(dst, timesFirst, p.Known.First)
	dst = appendPoint(dst, timesLast, p.Known.Last)
	dst = appendNumber(dst, timesNewest, uint64(p.Known.Newest))
	dst = appendNumber(dst, timesNow, uint64(p.Known.Now))
	dst = appendNumber(dst, timesCompacted, uint64(p.Compacted))
	return appendBytes(dst, timesPoints, timeline.AppendPoints(nil, p.Points))
}

// appendPoint leaves out one that is zero.
func appendPoint(dst []byte, field protowire.Number, p timeline.Point) []byte {
	if !p.Valid() {
		return dst
	}
	return appendBytes(dst, field, timeline.AppendPoints(nil, []timeline.Point{p}))
}

// DecodeTimesPart reads what Append wrote. Fields that it does not know, of later versions, are passed over.
func DecodeTimesPart(in []byte) (p TimesPart, err error) {
	err = eachField(in, func(f field) (err error) {
		switch f.number {
		case timesKnownAt:
			p.Known.At, err = onePoint(f.bytes)
		case timesFirst:
			p.Known.First, err = onePoint(f.bytes)
		case timesLast:
			p.Known.Last, err = onePoint(f.bytes)
		case timesNewest:
			p.Known.Newest = kv.Revision(f.varint)
		case timesNow:
			p.Known.Now = timeline.Time(f.varint)
		case timesCompacted:
			p.Compacted = kv.Revision(f.varint)
		case timesPoints:
			p.Points, err = timeline.DecodePoints(f.bytes)
		}
		return err
	})
	return p, err
}

func onePoint(in []byte) (timeline.Point, error) {
	points, err := timeline.DecodePoints(in)
	if err != nil || len(points) != 1 {
		return timeline.Point{}, ErrMalformed
	}
	return points[0], nil
}
