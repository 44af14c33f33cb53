package members

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/quoratedb/quorate/kv"
)

// TestScenarios tells stories of one list. Each line is what is done to it, and what comes of it:
//
//	found ID URL ...              the cluster begins with those
//	publish ID NAME [URL] [CLIENT URL]
//	add ID URL,URL [learner] [max=N] [version=N]
//	remove ID | promote ID | update ID URL,URL
//	list
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		l := &List{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
				next, err := do(l, strings.Fields(line))
				switch {
				case err != nil:
					fmt.Fprintf(&out, "%s: %v\n", line, err)
				case next == l && !strings.HasPrefix(line, "list"):
					fmt.Fprintf(&out, "%s: as before\n", line)
				}
				if err == nil {
					l = next
				}
			}
			return out.String() + show(l)
		})
	})
}

func show(l *List) string {
	var out strings.Builder
	fmt.Fprintf(&out, "version %d", l.Version)
	if len(l.Removed) > 0 {
		fmt.Fprintf(&out, ", removed %d", l.Removed)
	}
	for i := range l.Members {
		m := &l.Members[i]
		fmt.Fprintf(&out, "\n%d", m.ID)
		if m.Name != "" {
			fmt.Fprintf(&out, " %s", m.Name)
		}
		fmt.Fprintf(&out, " at %s", strings.Join(m.PeerURLs, ","))
		if len(m.ClientURLs) > 0 {
			fmt.Fprintf(&out, ", clients at %s", strings.Join(m.ClientURLs, ","))
		}
		if m.Learner {
			out.WriteString(", learner")
		}
		if m.First != 0 {
			fmt.Fprintf(&out, ", replica %d from the beginning", m.First)
		}
	}
	return out.String() + "\n"
}

func do(l *List, words []string) (*List, error) {
	number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }
	switch words[0] {
	case "list":
		return l, nil
	case "found":
		var records []kv.NodeRecord
		for i := 1; i < len(words); i += 2 {
			records = append(records, kv.NodeRecord{ID: kv.NodeID(number(words[i])), PeerURLs: []string{words[i+1]}})
		}
		return Founded(records), nil
	case "publish":
		r := &kv.NodeRecord{ID: kv.NodeID(number(words[1])), Name: words[2]}
		if len(words) > 3 {
			r.PeerURLs = []string{words[3]}
		}
		if len(words) > 4 {
			r.ClientURLs = []string{words[4]}
		}
		if err := l.Hears(r); err != nil {
			return nil, err
		}
		return l.Publish(r), nil
	}
	r := &kv.MemberRequest{
		Action: map[string]kv.MemberAction{"add": kv.MemberAdd, "remove": kv.MemberRemove, "promote": kv.MemberPromote, "update": kv.MemberUpdate}[words[0]],
		ID:     kv.NodeID(number(words[1])), Version: l.Version, MaxLearners: 1,
	}
	for _, w := range words[2:] {
		switch name, value, _ := strings.Cut(w, "="); {
		case w == "learner":
			r.Learner = true
		case name == "max":
			r.MaxLearners = int(number(value))
		case name == "version":
			r.Version = number(value)
		default:
			r.PeerURLs = strings.Split(w, ",")
		}
	}
	return l.Evaluate(r)
}

// naive is a list that is kept without order, and without thinking of how it is written.
type naive struct {
	version uint64
	members map[kv.NodeID]Member
	removed map[kv.NodeID]bool
}

func (n *naive) change(r *kv.MemberRequest) error {
	m, found := n.members[r.ID]
	others := map[string]bool{}
	voters, learners := 0, 0
	for id, o := range n.members {
		if o.Learner {
			learners++
		} else {
			voters++
		}
		if id != r.ID {
			for _, u := range o.PeerURLs {
				others[u] = true
			}
		}
	}
	clash := false
	for _, u := range r.PeerURLs {
		clash = clash || others[u]
	}
	switch {
	case r.Version != n.version:
		return kv.ErrMembersChanged
	case n.removed[r.ID]:
		return kv.ErrMemberNotFound
	case r.Action == kv.MemberAdd:
		switch {
		case found:
			return kv.ErrMemberExists
		case clash:
			return kv.ErrPeerURLExists
		case r.Learner && learners+1 > r.MaxLearners:
			return kv.ErrTooManyLearners
		case voters+learners == MaxMembers:
			return kv.ErrRequestTooLarge
		}
		n.members[r.ID] = Member{ID: r.ID, PeerURLs: r.PeerURLs, Learner: r.Learner}
	case !found:
		return kv.ErrMemberNotFound
	case r.Action == kv.MemberRemove:
		if !m.Learner && voters == 1 {
			return kv.ErrNotEnoughStarted
		}
		delete(n.members, r.ID)
		n.removed[r.ID] = true
	case r.Action == kv.MemberPromote:
		if !m.Learner {
			return kv.ErrMemberNotLearner
		}
		m.Learner = false
		n.members[r.ID] = m
	case r.Action == kv.MemberUpdate:
		if clash {
			return kv.ErrPeerURLExists
		}
		if reflect.DeepEqual(m.PeerURLs, r.PeerURLs) {
			return nil
		}
		m.PeerURLs = r.PeerURLs
		n.members[r.ID] = m
	}
	n.version++
	return nil
}

func (n *naive) list() *List {
	l := &List{Version: n.version}
	for _, m := range n.members {
		l.Members = append(l.Members, m)
	}
	for id := range n.removed {
		l.Removed = append(l.Removed, id)
	}
	slices.SortFunc(l.Members, func(a, b Member) int { return int(a.ID) - int(b.ID) })
	slices.Sort(l.Removed)
	return l
}

// TestAgainstTwin: random changes make of a list what they make of the naive one, what is encoded is decoded to the same, and no list is changed once it is made.
func TestAgainstTwin(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 1))
		records := []kv.NodeRecord{{ID: 3, PeerURLs: []string{"u3"}}, {ID: 1, PeerURLs: []string{"u1"}}}
		l := Founded(records)
		twin := &naive{members: map[kv.NodeID]Member{1: {ID: 1, PeerURLs: []string{"u1"}, First: 1}, 3: {ID: 3, PeerURLs: []string{"u3"}, First: 2}}, removed: map[kv.NodeID]bool{}}
		ids := 12 + random.IntN(2)*200
		for range 200 {
			before, encoded := l, l.Append(nil)
			r := &kv.MemberRequest{
				Action: kv.MemberAction(1 + random.IntN(4)), ID: kv.NodeID(1 + random.IntN(ids)), Learner: random.IntN(3) == 0, MaxLearners: random.IntN(3),
				Version: l.Version + uint64(random.IntN(20)/19),
			}
			if random.IntN(2) == 0 {
				r.Action = kv.MemberAdd
			}
			if r.Action == kv.MemberAdd || r.Action == kv.MemberUpdate {
				for range 1 + random.IntN(2) {
					r.PeerURLs = append(r.PeerURLs, fmt.Sprint("u", random.IntN(3*ids)))
				}
			}
			next, err := l.Evaluate(r)
			if want := twin.change(r); !errors.Is(err, want) || err != nil && want == nil {
				t.Fatalf("seed %d: %+v: %v, want %v", seed, r, err, want)
			}
			if err == nil {
				l = next
			}
			if random.IntN(5) == 0 && l.Version > 0 {
				said := &kv.NodeRecord{ID: kv.NodeID(1 + random.IntN(ids)), Name: fmt.Sprint(random.IntN(5)), PeerURLs: []string{"elsewhere"}, ClientURLs: []string{"c"}}
				l = l.Publish(said)
				if m, found := twin.members[said.ID]; found {
					m.Name, m.ClientURLs = said.Name, said.ClientURLs
					twin.members[said.ID] = m
				}
			}
			if want := twin.list(); !reflect.DeepEqual(l, want) {
				t.Fatalf("seed %d: after %+v:\n%s, want\n%s", seed, r, show(l), show(want))
			}
			if !bytes.Equal(before.Append(nil), encoded) {
				t.Fatalf("seed %d: %+v changed the list before", seed, r)
			}
			if again, err := Decode(l.Append(nil)); err != nil || !reflect.DeepEqual(again, l) {
				t.Fatalf("seed %d: %v:\n%s became\n%s", seed, err, show(l), show(again))
			}
		}
	}
}

// TestRoster: a shard gets who is a member, in which role.
func TestRoster(t *testing.T) {
	l := &List{Version: 4, Members: []Member{{ID: 2, First: 1}, {ID: 5, Learner: true}}, Removed: []kv.NodeID{3}}
	want := kv.Roster{Version: 4, Seats: []kv.Seat{{Node: 2, First: 1, Role: kv.SeatVoter}, {Node: 5, Role: kv.SeatLearner}}}
	if got := l.Roster(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestBounds: nothing makes a list larger than its bounds, and a member can always be removed.
func TestBounds(t *testing.T) {
	l := &List{Version: 1, Members: []Member{{ID: 1 << 40}}}
	for id := kv.NodeID(1); len(l.Removed)+len(l.Members) < MaxEver; id++ {
		l.Removed = append(l.Removed, id)
	}
	add := &kv.MemberRequest{Action: kv.MemberAdd, ID: 1 << 41, PeerURLs: []string{"u"}, Version: 1}
	if _, err := l.Evaluate(add); kv.LimitOf(err) == "" {
		t.Errorf("one more than ever: %v", err)
	}
	l.Removed = l.Removed[1:]
	full, err := l.Evaluate(add)
	if err == nil {
		full, err = full.Evaluate(&kv.MemberRequest{Action: kv.MemberRemove, ID: add.ID, Version: 2})
	}
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Decode(full.Append(nil)); err != nil || len(again.Removed) != MaxEver-1 {
		t.Errorf("%v: the longest list is not read", err)
	}
	long := &List{Version: 1, Members: []Member{{ID: 1}}}
	add.PeerURLs = []string{strings.Repeat("u", MaxMemberBytes)}
	if _, err := long.Evaluate(add); kv.LimitOf(err) == "" {
		t.Errorf("a long address: %v", err)
	}
	add.Action, add.ID = kv.MemberUpdate, 1
	if _, err := long.Evaluate(add); kv.LimitOf(err) == "" {
		t.Errorf("an update to a long address: %v", err)
	}
	if err := long.Hears(&kv.NodeRecord{ID: 1, ClientURLs: add.PeerURLs}); kv.LimitOf(err) == "" {
		t.Errorf("a node with a long address: %v", err)
	}
	for _, bad := range []*kv.MemberRequest{
		{Version: 1, ID: 1, Action: 77}, {Version: 1, Action: kv.MemberAdd, PeerURLs: []string{"u"}}, {Version: 1, Action: kv.MemberAdd, ID: 2}, {Version: 1, Action: kv.MemberUpdate, ID: 1},
	} {
		if _, err := long.Evaluate(bad); !errors.Is(err, kv.ErrInvalidRequest) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// FuzzDecode: whatever is read is a list that somebody could have decided on, and is written as it was read.
func FuzzDecode(f *testing.F) {
	f.Add((&List{Version: 7, Members: []Member{{ID: 1, Name: "a", PeerURLs: []string{"p", "q"}, First: 1}, {ID: 9, ClientURLs: []string{"c"}, Learner: true}}, Removed: []kv.NodeID{2, 3, 500}}).Append(nil))
	f.Add((&List{}).Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := Decode(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := Decode(l.Append(nil))
		if err != nil || l.Check() != nil || !reflect.DeepEqual(l, again) {
			t.Fatalf("%v, %v: %+v became %+v", err, l.Check(), l, again)
		}
	})
}
