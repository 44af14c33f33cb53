package timeline

import "github.com/quoratedb/quorate/kv"

// Known is what a series says of a time, and of which times it says something.
type Known struct {
	At          Point // see Series.At; zero: there is none
	First, Last Point // of the series; zero: it is empty
	Newest      kv.Revision
	Now         Time // by the clock of who was asked
}

// Known is what there is to know of a time by a store that has a newest revision now.
func (s Series) Known(t Time, newest kv.Revision, now Time) Known {
	at, _ := s.At(t)
	return Known{At: at, First: s.First(), Last: s.Last(), Newest: newest, Now: now}
}
