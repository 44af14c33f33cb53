package register

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

var (
	commit = kv.Decision{Verdict: kv.Commit, Revision: 7}
	abort  = kv.Decision{Verdict: kv.Abort}
	first  = kv.Ballot{Round: 1, Shard: 2, Term: 3}
	second = kv.Ballot{Round: 2, Shard: 1, Term: 9}
)

func TestRules(t *testing.T) {
	prepared := Register{Standing: kv.StandingPrepared}
	promised := Register{Standing: kv.StandingPromised, Promised: first}
	for _, c := range []struct {
		name   string
		before Register
		do     func(*Register) bool
		want   bool
	}{
		{"the coordinator's decision needs a prepare", Register{}, func(r *Register) bool { return r.Accept(kv.Ballot{}, commit) }, false},
		{"it is accepted by who is prepared", prepared, func(r *Register) bool { return r.Accept(kv.Ballot{}, commit) }, true},
		{"and twice", prepared, func(r *Register) bool { r.Accept(kv.Ballot{}, commit); return r.Accept(kv.Ballot{}, commit) }, true},
		{"not after a promise", prepared, func(r *Register) bool { return r.Promise(first) && r.Accept(kv.Ballot{}, commit) }, false},
		{"a higher ballot is promised", prepared, func(r *Register) bool { return r.Promise(first) && r.Promise(second) }, true},
		{"a lower one is not", prepared, func(r *Register) bool { return r.Promise(second) && r.Promise(first) }, false},
		{"nor accepted", prepared, func(r *Register) bool { return r.Promise(second) && r.Accept(first, abort) }, false},
		{"the coordinator's ballot is not promised", prepared, func(r *Register) bool { return r.Promise(kv.Ballot{}) }, false},
		{"who was asked for a promise is not prepared", Register{}, func(r *Register) bool { return r.Promise(first) && r.MayPrepare() }, false},
		{"and does not accept a commit", promised, func(r *Register) bool { return r.Accept(first, commit) }, false},
		{"but an abort", promised, func(r *Register) bool { return r.Accept(first, abort) }, true},
		{"no decision is none", prepared, func(r *Register) bool { return r.Accept(first, kv.Decision{}) || r.Resolve(kv.Decision{}) }, false},
		{"a decision stays", prepared, func(r *Register) bool { return r.Resolve(abort) && r.Resolve(commit) }, false},
		{"who is unknown remembers it", Register{}, func(r *Register) bool { return r.Resolve(abort) && !r.MayPrepare() }, true},
		{"a commit is decided by who is prepared", prepared, func(r *Register) bool { return r.Decide(commit, true) }, true},
		{"not for another leadership", prepared, func(r *Register) bool { return r.Decide(commit, false) }, false},
		{"not by who is not prepared", Register{}, func(r *Register) bool { return r.Decide(commit, true) }, false},
		{"an abort is, by any", Register{}, func(r *Register) bool { return r.Decide(abort, false) }, true},
	} {
		if r := c.before; c.do(&r) != c.want {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestNothingGoesBack: whatever is asked, a promise is never lowered, a decision never changed, and what says that it changed nothing has not.
func TestNothingGoesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		r := Register{}
		for range 12 {
			before, changed := r, false
			ballot := kv.Ballot{Round: random.Uint64N(4), Shard: 1, Term: 1}
			decision := []kv.Decision{{}, commit, abort}[random.IntN(3)]
			switch random.IntN(5) {
			case 0:
				if changed = r.MayPrepare(); changed {
					r.Prepare()
				}
			case 1:
				changed = r.Promise(ballot)
			case 2:
				changed = r.Accept(ballot, decision)
			case 3:
				changed = r.Resolve(decision)
			case 4:
				changed = r.Decide(decision, random.IntN(2) == 0)
			}
			switch {
			case !changed && r != before:
				t.Fatalf("%+v became %+v, and that was not said", before, r)
			case r.Promised.Compare(before.Promised) < 0 || before.Standing == kv.StandingResolved && r != before:
				t.Fatalf("%+v became %+v", before, r)
			case r.Standing == kv.StandingPromised && r.Decision.Verdict == kv.Commit:
				t.Fatalf("%+v: a commit, and this one was never prepared", r)
			}
			answer := kv.CommitResponse{}
			if r.Answer(&answer); answer.Standing != r.Standing || answer.Decision != r.Decision || answer.Promised != r.Promised || answer.Accepted != r.Accepted {
				t.Fatalf("%+v answers %+v", r, answer)
			}
		}
	}
}
