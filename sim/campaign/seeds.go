package campaign

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Seeds is a range of seeds, both ends included.
type Seeds struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Count is how many seeds the range has.
func (s Seeds) Count() uint64 { return s.Last - s.First + 1 }

func (s Seeds) String() string {
	if s.First == s.Last {
		return strconv.FormatUint(s.First, 10)
	}
	return fmt.Sprintf("%d..%d", s.First, s.Last)
}

// ParseSeed reads one seed.
func ParseSeed(text string) (uint64, error) {
	seed, err := strconv.ParseUint(text, 10, 64)
	if err == nil {
		return seed, nil
	}
	if _, err := ParseSeeds(text); err == nil {
		return 0, fmt.Errorf("%q is a range of seeds: it belongs to --seeds", text)
	}
	return 0, fmt.Errorf("%q is not a seed: a seed is a whole number from 0 to %d, such as 42", text, uint64(math.MaxUint64))
}

// ParseSeeds reads "A..B", "A+N" or "A".
func ParseSeeds(text string) (Seeds, error) {
	if first, last, ok := strings.Cut(text, ".."); ok {
		return parseSpan(text, first, last)
	}
	if first, count, ok := strings.Cut(text, "+"); ok {
		return parseCounted(text, first, count)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return Seeds{}, errSeeds(text)
	}
	return Seeds{First: seed, Last: seed}, nil
}

func errSeeds(text string) error {
	return fmt.Errorf("%q is not a range of seeds: write 1..100 for all from 1 to 100, 42+10 for ten from 42 on, or 42 for one; "+
		"seeds are whole numbers from 0 to %d", text, uint64(math.MaxUint64))
}

func parseSpan(text, firstText, lastText string) (Seeds, error) {
	first, err := strconv.ParseUint(firstText, 10, 64)
	last, err2 := strconv.ParseUint(lastText, 10, 64)
	switch {
	case errors.Join(err, err2) != nil:
		return Seeds{}, errSeeds(text)
	case first > last:
		return Seeds{}, fmt.Errorf("%q has no seeds: the first number is above the last; write %d..%d", text, last, first)
	case first == 0 && last == math.MaxUint64:
		return Seeds{}, fmt.Errorf("%q are all seeds there are, more than any machine can run: leave some out", text)
	}
	return Seeds{First: first, Last: last}, nil
}

func parseCounted(text, firstText, countText string) (Seeds, error) {
	first, err := strconv.ParseUint(firstText, 10, 64)
	count, err2 := strconv.ParseUint(countText, 10, 64)
	switch {
	case errors.Join(err, err2) != nil:
		return Seeds{}, errSeeds(text)
	case count == 0:
		return Seeds{}, fmt.Errorf("%q has no seeds: the number after the plus is how many, 1 or more", text)
	case count-1 > math.MaxUint64-first:
		return Seeds{}, fmt.Errorf("%q goes beyond the last seed, %d", text, uint64(math.MaxUint64))
	}
	return Seeds{First: first, Last: first + count - 1}, nil
}
