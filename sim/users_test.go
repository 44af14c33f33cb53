package sim

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
)

// Users and roles change while clients ask as users, under faults: whoever is allowed or refused something is so by a state that can have been in force.
func TestUsers(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 16
	}
	marks := map[string]int{}
	for seed := range seeds {
		o := PlanOptions{Engine: Memory}
		if seed%2 == 1 {
			o.Partition = ByHash
		}
		plan := NewPlan(seed, o)
		if plan.Shards > 1 && plan.Partition == nil {
			continue
		}
		plan.Users, plan.Backups = true, false
		r := Run(plan, RunOptions{})
		if r.Verdict != Passed {
			t.Errorf("seed %d: %s: %.2000s", seed, r.Verdict, r.Problem)
		}
		for mark, n := range r.Marks {
			marks[mark] += n
		}
	}
	for _, mark := range []string{"users or roles changed", "user allowed", "user refused", "token refused", "watch of a user", "watch of a user refused or ended"} {
		if marks[mark] == 0 {
			t.Errorf("never: %s", mark)
		}
		t.Log(mark, marks[mark])
	}
}

// TestGranting: spans of few keys, looked at key by key.
func TestGranting(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		var permissions []kv.Permission
		for range random.IntN(4) {
			permissions = append(permissions, kv.Permission{Span: grantedSpan(random)})
		}
		span := userSpan(random)
		want := true
		for i := range 2 * userKeys * 2 { // each key, what comes just behind it, and what comes behind all
			key := userKey(i / 2)
			if i%2 == 1 {
				key = append(key, 0)
			}
			if i/2 > 9 {
				key = append([]byte("v"), key...)
			}
			in := func(s kv.Span) bool {
				lower, upper := s.Bounds()
				return bytes.Compare(key, lower) >= 0 && (upper == nil || bytes.Compare(key, upper) < 0)
			}
			one := false
			for _, p := range permissions {
				one = one || in(p.Span)
			}
			want = want && (one || !in(span))
		}
		if got := granting(permissions, span); got != want {
			t.Fatalf("%q in %q: %v", span, permissions, got)
		}
	}
	if !allows(auth.NewState(), "", kv.Credential{}, []need{{write: true}}) {
		t.Error("nobody is allowed anything while authentication is off")
	}
}
