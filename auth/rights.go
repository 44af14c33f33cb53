package auth

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Rights are what one principal may do in one State. They are never changed, and safe for concurrent use.
type Rights struct {
	version, revision uint64
	open              bool   // authentication is off: everybody may do everything
	named             bool   // the principal has a name
	known             bool   // which is that of a user
	root              bool   // who has the role root
	account           uint64 // User.Account
	name              string
	roles             []string
	read, write       spans
}

// interval has the keys from lower on, and below upper.
type interval struct {
	lower, upper []byte
	endless      bool // there is no upper
}

// spans are intervals in order, none of which touches another.
type spans []interval

// Compile puts together what a principal ("": nobody has said who it is) may do.
func Compile(s *State, principal string) *Rights {
	r := &Rights{version: s.Version, revision: s.Revision, open: !s.Enabled, named: principal != "", name: principal}
	if u := s.User(principal); u != nil && s.Enabled {
		r.known, r.root, r.account, r.roles = true, u.has(Root), u.Account, u.Roles
		var read, write []interval
		for _, name := range u.Roles {
			role := s.role(name)
			if role == nil {
				continue
			}
			for i := range role.Permissions {
				p := &role.Permissions[i]
				if p.Type != kv.PermitWrite {
					read = append(read, intervalOf(p.Span))
				}
				if p.Type != kv.PermitRead {
					write = append(write, intervalOf(p.Span))
				}
			}
		}
		r.read, r.write = merge(read), merge(write)
	}
	return r
}

func intervalOf(span kv.Span) interval {
	lower, upper := span.Bounds()
	return interval{lower: lower, upper: upper, endless: upper == nil}
}

// merge puts intervals together that overlap or touch.
func merge(all []interval) spans {
	slices.SortFunc(all, func(a, b interval) int { return bytes.Compare(a.lower, b.lower) })
	var merged spans
	for _, next := range all {
		if len(merged) == 0 {
			merged = append(merged, next)
			continue
		}
		last := &merged[len(merged)-1]
		switch {
		case last.endless:
		case bytes.Compare(next.lower, last.upper) > 0:
			merged = append(merged, next)
		case next.endless || bytes.Compare(next.upper, last.upper) > 0:
			last.upper, last.endless = next.upper, next.endless
		}
	}
	return merged
}

// cover tells whether all keys of a span are in the intervals. A span without any key counts as its start.
func (all spans) cover(span kv.Span) bool {
	low, high := 0, len(all) // the intervals before low begin at or before the span, those from high on behind
	for low < high {
		middle := int(uint(low+high) >> 1)
		if bytes.Compare(all[middle].lower, span.Start) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return false
	}
	in := &all[low-1]
	switch {
	case in.endless:
		return true
	case bytes.Compare(span.Start, in.upper) >= 0:
		return false
	case span.Single():
		return true
	case len(span.End) == 1 && span.End[0] == 0:
		return false
	}
	return bytes.Compare(span.End, in.upper) <= 0
}

// Version is State.Version of the state that these are the rights in.
func (r *Rights) Version() uint64 { return r.version }

// Holds tells why a principal is not the one whose rights these are: it was proved by something that is void by now. Nobody needs no proof.
func (r *Rights) Holds(proof kv.Credential) error {
	switch {
	case r.open || !r.named:
		return nil
	case proof.Account != 0 && proof.Account != r.account:
		return kv.ErrInvalidAuthToken // the password was changed, or the user is another one of the same name
	case proof.Revision != 0 && proof.Revision < r.revision:
		return kv.ErrAuthOldRevision
	}
	return nil
}

// Need is who may do something that is about no certain keys.
type Need uint8

// Needs. The zero value is no need: what nobody has thought about must not be taken for what everybody may do.
const (
	_ Need = iota
	NeedNothing
	NeedUser // anybody with a name
	NeedRoot // who has the role root
)

// Meets tells why the principal must not do something that needs so much.
func (r *Rights) Meets(need Need) error {
	switch {
	case r.open || need == NeedNothing:
		return nil
	case !r.named:
		return kv.ErrUserEmpty
	case need == NeedUser && r.known, need == NeedRoot && r.root:
		return nil
	}
	return kv.ErrPermissionDenied
}

func (r *Rights) mayRead(span kv.Span) error {
	if r.root || r.read.cover(span) {
		return nil
	}
	return kv.ErrPermissionDenied
}

func (r *Rights) mayWrite(span kv.Span) error {
	if r.root || r.write.cover(span) {
		return nil
	}
	return kv.ErrPermissionDenied
}
