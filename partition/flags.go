package partition

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseFlags reads what Flags wrote.
func ParseFlags(text string) (s Scheme, err error) {
	for _, flag := range strings.Fields(text) {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "--initial-shards":
			s.Shards, err = strconv.Atoi(value)
		case "--initial-partition":
			s.Kind, err = ParseKind(value)
		case "--initial-split-keys":
			s.SplitKeys, err = ParseKeys(value)
		case "--hash-prefix":
			s.HashPrefix, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("%s is not known", name)
		}
		if err != nil {
			return Scheme{}, fmt.Errorf("shards as %q: %w", text, err)
		}
	}
	if s.Shards == 1 {
		s.Kind = Range
	}
	if err := s.Validate(); err != nil {
		return Scheme{}, fmt.Errorf("shards as %q: %w", text, err)
	}
	return s, nil
}
