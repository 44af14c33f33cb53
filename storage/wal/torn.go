package wal

import (
	"encoding/binary"
	"slices"
)

// findTorn looks for the beginning of the record after the last one, where it would stand: at the end of the head, or at the start of the next
// segment. It is not whole, so nothing is to be done about it but to say so: the next write takes its place. What an earlier use left in a
// recycled segment has a lower number.
func (r *recovering) findTorn(head *segment, tail record) error {
	next, places := uint64(1), []*segment(nil)
	if head != nil {
		next, places = head.generation+1, []*segment{head}
	}
	if i := slices.IndexFunc(r.used, func(s *segment) bool { return s.generation == next }); i >= 0 {
		places = append(places, r.used[i])
	}
	for _, s := range places {
		from := int64(headerBytes)
		if s == head {
			from = head.end
		}
		header, err := r.scan.at(s, from, recordHeaderBytes)
		if err != nil {
			return err
		}
		if bytes := tornBytes(header, s.size-from, tail.sequence+1); bytes > 0 {
			r.log.recovery.TornBytes += bytes
			r.log.recovery.TornFile = s.path
		}
	}
	return nil
}

// tornBytes tells how much is there of the record with the number; 0 if nothing is. header is what can be read of its header, and room how much
// there is left in the segment: a file that was cut ends early.
func tornBytes(header []byte, room int64, sequence uint64) int64 {
	switch {
	case len(header) == recordHeaderBytes && binary.BigEndian.Uint64(header[8:]) == sequence:
		return min(room, recordBytes(int(binary.BigEndian.Uint32(header))))
	case len(header) < recordHeaderBytes && (room%recordAlignment != 0 || slices.ContainsFunc(header, func(b byte) bool { return b != 0 })):
		return room // no segment ends within a header, or not at a multiple of 8, unless it was cut there
	}
	return 0
}
