package backup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/backup/target/memory"
)

// interrupted is a backup that a store has failed in the middle of.
func interrupted(t *testing.T, v *Vault, s *store, options CreateOptions) {
	t.Helper()
	until := s.reads + 30
	s.fail = func(reads int) error {
		if reads == until {
			return errors.New("gone")
		}
		return nil
	}
	if _, err := v.Create(t.Context(), s, options); err == nil {
		t.Fatal("it was to fail")
	}
	s.fail = nil
}

// TestUnfinishedIsWorkedOn: what goes by when something was last written leaves a backup alone that was begun long ago, and that somebody has just gone on with.
func TestUnfinishedIsWorkedOn(t *testing.T) {
	const day = 24 * time.Hour
	v := vaultOf(memory.New())
	now := time.Unix(1_000_000, 0)
	v.options.Now = func() time.Time { return now }
	v.options.SaveEvery = 1000 // only the clock makes it say that it is at work
	s := newStore(1, 2)
	s.write(80)
	interrupted(t, v, s, oneByOne)
	prune := func() (removed []string) {
		t.Helper()
		if err := v.AbandonOlder(t.Context(), now.Add(-day), false, func(id string) { removed = append(removed, id) }); err != nil {
			t.Fatal(err)
		}
		return removed
	}
	now = now.Add(3 * day)
	pruned := 0
	s.fail = func(int) error { // each version takes an hour
		now = now.Add(time.Hour)
		pruned += len(prune())
		return nil
	}
	b := must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
	if wrong := verifyAll(t, v); len(wrong) > 0 || pruned > 0 || !b.Changed.IsZero() {
		t.Fatalf("%v; %d were removed", wrong, pruned)
	}
	s.fail = nil
	s.write(80)
	interrupted(t, v, s, oneByOne)
	dry := 0
	now = now.Add(day + time.Second)
	if err := v.AbandonOlder(t.Context(), now.Add(-day), true, func(string) { dry++ }); err != nil || dry != 1 {
		t.Fatalf("%d would be removed, %v", dry, err)
	}
	removed := prune()
	if len(removed) != 1 {
		t.Fatalf("removed %v", removed)
	}
	for name := range list(t, v.target.(*memory.Target)) {
		if strings.Contains(name, removed[0]) {
			t.Errorf("%s is left", name)
		}
	}
	if wrong := verifyAll(t, v); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// TestAbandonedMeanwhile lets somebody remove a backup at each call of who goes on with it, and stop after each number of calls. There is never a manifest
// without its files, and what was begun to be removed is removed by the next who does.
func TestAbandonedMeanwhile(t *testing.T) {
	refusals, finished := 0, 0
	for at := 1; ; at++ {
		reached := false
		for stop := 1; ; stop++ {
			objects := memory.New()
			v := vaultOf(objects)
			s := newStore(uint64(at), 2)
			s.write(40)
			interrupted(t, v, s, oneByOne)
			begun := must[[]*Manifest](t)(v.Unfinished(t.Context()))
			calls, steps, inside := 0, 0, false
			objects.Intercept = func(context.Context, memory.Call) memory.Fault {
				if inside {
					if steps++; steps > stop {
						return memory.Fault{Err: errors.New("killed")}
					}
					return memory.Fault{}
				}
				if calls++; calls == at {
					inside, reached = true, true
					_ = v.Abandon(t.Context(), begun[0].ID) // or it is killed
					inside = false
				}
				return memory.Fault{}
			}
			_, err := v.Create(t.Context(), s, oneByOne)
			objects.Intercept = nil
			all := must[[]*Backup](t)(v.List(t.Context()))
			switch {
			case err == nil:
				finished++
			case errors.Is(err, ErrAbandoned):
				refusals++
			default:
				t.Fatalf("at call %d, %d steps: %v", at, stop, err)
			}
			if wrong := verifyAll(t, v); err == nil && len(wrong) > 0 || err == nil && len(all) != 1 || err != nil && len(all) != 0 {
				t.Fatalf("at call %d, %d steps: %v; %d backups, %v", at, stop, err, len(all), wrong)
			}
			must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
			if err := v.AbandonOlder(t.Context(), time.Unix(1e9, 0), false, func(string) {}); err != nil {
				t.Fatal(err)
			}
			if wrong := verifyAll(t, v); len(wrong) > 0 {
				t.Fatalf("at call %d, %d steps: afterwards: %v", at, stop, wrong)
			}
			if steps <= stop {
				break
			}
		}
		if !reached {
			break
		}
	}
	if refusals < 50 || finished < 50 {
		t.Errorf("%d refused, %d finished", refusals, finished)
	}
}

// TestFilesGone: whatever is missing when it is to be finished, it is not.
func TestFilesGone(t *testing.T) {
	for _, prefix := range []string{dataDir, unfinishedDir} {
		v := vaultOf(memory.New())
		s := newStore(1, 2)
		s.write(40)
		s.fail = func(reads int) error {
			if reads == 40 {
				return v.target.Delete(t.Context(), prefix+must[[]string](t)(v.names(t.Context(), prefix))[0])
			}
			return nil
		}
		v.options.SaveEvery = 1000
		_, err := v.Create(t.Context(), s, oneByOne)
		refused(t, err, ErrAbandoned)
		if all := must[[]*Backup](t)(v.List(t.Context())); len(all) > 0 {
			t.Errorf("without %s there are %d backups", prefix, len(all))
		}
	}
}
