package model

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// index says where in the history the versions of a key are, ascending. It only makes the model fast: everything could be
// found by looking through the history.
type index struct {
	keys   []string // ascending
	places map[string][]int
}

// indexed returns the index, made anew after the history was replaced.
func (s *Store) indexed() *index {
	if s.index == nil {
		s.index = &index{places: map[string][]int{}}
		for i := range s.history {
			s.index.add(s.history[i].Key, i)
		}
	}
	return s.index
}

func (x *index) add(key []byte, place int) {
	places, known := x.places[string(key)]
	if !known {
		at, _ := slices.BinarySearch(x.keys, string(key))
		x.keys = slices.Insert(x.keys, at, string(key))
	}
	x.places[string(key)] = append(places, place)
}

// each calls fn with the places of every key in the span that ever existed, by key.
func (x *index) each(span kv.Span, fn func(places []int)) {
	if span.Empty() {
		return
	}
	if span.Single() {
		if places := x.places[string(span.Start)]; len(places) > 0 {
			fn(places)
		}
		return
	}
	_, upper := span.Bounds()
	at, _ := slices.BinarySearch(x.keys, string(span.Start))
	for ; at < len(x.keys) && (upper == nil || x.keys[at] < string(upper)); at++ {
		if places := x.places[x.keys[at]]; len(places) > 0 {
			fn(places)
		}
	}
}

// append adds a version at the end of the history.
func (s *Store) append(v Version) {
	s.indexed().add(v.Key, len(s.history))
	s.history = append(s.history, v)
}

// truncate takes the last versions back, down to a length.
func (s *Store) truncate(length int) {
	for i := len(s.history) - 1; i >= length; i-- {
		key := string(s.history[i].Key)
		places := s.indexed().places[key]
		s.index.places[key] = places[:len(places)-1]
	}
	s.history = s.history[:length]
}

// newest returns the version of one key at a revision, nil if there is none or if it is a tombstone.
func (s *Store) newest(places []int, at kv.Revision) *Version {
	for i := len(places) - 1; i >= 0; i-- {
		if v := &s.history[places[i]]; v.Rev <= at {
			if v.Number == 0 {
				return nil
			}
			return v
		}
	}
	return nil
}
