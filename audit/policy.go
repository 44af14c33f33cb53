// Package audit decides which operations of clients are recorded. It is a core; audit/trail writes the records.
package audit

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Policy says what is recorded. The zero value: whatever may change something.
type Policy struct {
	// Reads: operations that change nothing are recorded, too.
	Reads bool `json:"reads"`
	// Operations are those that are recorded, by the names of their RPCs (Put, Txn, LeaseGrant); empty: all. NotOperations are not, whatever else is said.
	Operations    []string `json:"operations"`
	NotOperations []string `json:"not_operations"`
	// Prefixes: of operations about keys, only those that touch a key with one of the prefixes; empty: all. NotPrefixes: not those whose keys all have one of
	// these prefixes.
	Prefixes    []string `json:"prefixes"`
	NotPrefixes []string `json:"not_prefixes"`
}

// Validate tells what cannot be meant. known are the operations that there are.
func (p Policy) Validate(known func(operation string) bool) error {
	for _, operation := range slices.Concat(p.Operations, p.NotOperations) {
		if !known(operation) {
			return fmt.Errorf("audit: there is no operation %q; they have the names of etcd's RPCs, such as Put, Range or LeaseGrant", operation)
		}
	}
	if slices.Contains(p.NotPrefixes, "") {
		return fmt.Errorf("audit: an empty prefix in not_prefixes leaves nothing to record")
	}
	return nil
}

// Wants tells whether an operation is recorded. spans are the keys that it is about; none: it is about no keys. write: it may change something.
func (p *Policy) Wants(operation string, write bool, spans []kv.Span) bool {
	switch {
	case !write && !p.Reads:
		return false
	case len(p.Operations) > 0 && !slices.Contains(p.Operations, operation), slices.Contains(p.NotOperations, operation):
		return false
	case len(spans) == 0:
		return true
	}
	return p.touches(spans) && !p.within(spans)
}

// touches tells whether a key of the spans may have one of the prefixes.
func (p *Policy) touches(spans []kv.Span) bool {
	if len(p.Prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(spans, func(s kv.Span) bool {
		return slices.ContainsFunc(p.Prefixes, func(prefix string) bool { return touches(s, []byte(prefix)) })
	})
}

// within tells whether all keys of all spans have one of the prefixes that are left out.
func (p *Policy) within(spans []kv.Span) bool {
	return len(p.NotPrefixes) > 0 && !slices.ContainsFunc(spans, func(s kv.Span) bool {
		return !slices.ContainsFunc(p.NotPrefixes, func(prefix string) bool { return within(s, []byte(prefix)) })
	})
}

// endless: a span up to the last key, as etcd's clients write it.
func endless(s kv.Span) bool { return len(s.End) == 1 && s.End[0] == 0 }

// touches tells whether the span has room for a key with the prefix.
func touches(s kv.Span, prefix []byte) bool {
	switch {
	case len(s.End) == 0:
		return bytes.HasPrefix(s.Start, prefix)
	case !endless(s) && bytes.Compare(s.End, s.Start) <= 0:
		return false // it has no keys
	case bytes.HasPrefix(s.Start, prefix):
		return true
	}
	return bytes.Compare(s.Start, prefix) < 0 && (endless(s) || bytes.Compare(prefix, s.End) < 0)
}

// within tells whether no key of the span lacks the prefix.
func within(s kv.Span, prefix []byte) bool {
	switch {
	case len(s.End) == 0:
		return bytes.HasPrefix(s.Start, prefix)
	case !endless(s) && bytes.Compare(s.End, s.Start) <= 0:
		return true // it has no keys
	}
	end := after(prefix)
	if end == nil {
		return bytes.HasPrefix(s.Start, prefix)
	}
	return bytes.HasPrefix(s.Start, prefix) && !endless(s) && bytes.Compare(s.End, end) <= 0
}

// after is the first key behind all keys with the prefix; nil: there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
