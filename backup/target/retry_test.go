package target_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/backup/target/memory"
)

var errBusy = fmt.Errorf("%w: 503 try later", target.ErrUnavailable)

// patiently runs a test in virtual time with a target that fails as often as faults has entries.
func patiently(t *testing.T, run func(t *testing.T, inner *memory.Target, at target.Target, faults *[]memory.Fault)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		inner, faults := memory.New(), []memory.Fault(nil)
		inner.Intercept = func(context.Context, memory.Call) (fault memory.Fault) {
			if len(faults) > 0 {
				fault, faults = faults[0], faults[1:]
			}
			return fault
		}
		run(t, inner, target.Patiently(inner, target.Options{Patience: time.Minute, Rand: rand.New(rand.NewPCG(1, 2))}), &faults)
	})
}

// calls are all methods, each on the object "x" of three bytes.
var calls = map[string]func(ctx context.Context, at target.Target) error{
	"put":     func(ctx context.Context, at target.Target) error { return at.Put(ctx, "x", []byte("abc")) },
	"put new": func(ctx context.Context, at target.Target) error { return at.PutNew(ctx, "new", []byte("abc")) },
	"size":    func(ctx context.Context, at target.Target) error { _, err := at.Size(ctx, "x"); return err },
	"read": func(ctx context.Context, at target.Target) error {
		p := make([]byte, 3)
		n, err := at.ReadAt(ctx, "x", p, 0)
		if err == nil && (n != 3 || string(p) != "abc") {
			return fmt.Errorf("it reads %q", p[:n])
		}
		return err
	},
	"list": func(ctx context.Context, at target.Target) error {
		return at.List(ctx, "x", func(string, int64) error { return nil })
	},
	"delete": func(ctx context.Context, at target.Target) error { return at.Delete(ctx, "gone") },
}

func TestPassingErrorsAreTriedAgain(t *testing.T) {
	for what, call := range calls {
		t.Run(what, func(t *testing.T) {
			patiently(t, func(t *testing.T, inner *memory.Target, at target.Target, faults *[]memory.Fault) {
				must(t, inner.Put(t.Context(), "x", []byte("abc")))
				*faults = slices.Repeat([]memory.Fault{{Err: errBusy}}, 4)
				began := time.Now()
				must(t, call(t.Context(), at))
				// Pauses of 50 to 100, 100 to 200, 200 to 400 and 400 to 800 ms.
				if took := time.Since(began); len(*faults) > 0 || took < 750*time.Millisecond || took > 1500*time.Millisecond || took%time.Millisecond == 0 {
					t.Errorf("it took %s, %d faults are left", took, len(*faults))
				}
			})
		})
	}
}

func TestLastingErrorsAreNot(t *testing.T) {
	lasting := errors.New("403 forbidden")
	for what, call := range calls {
		t.Run(what, func(t *testing.T) {
			patiently(t, func(t *testing.T, _ *memory.Target, at target.Target, faults *[]memory.Fault) {
				*faults = slices.Repeat([]memory.Fault{{Err: lasting}}, 2)
				began := time.Now()
				if err := call(t.Context(), at); !errors.Is(err, lasting) || len(*faults) != 1 || time.Since(began) != 0 {
					t.Errorf("%v after %s, %d faults are left", err, time.Since(began), len(*faults))
				}
			})
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	for what, call := range calls {
		t.Run(what, func(t *testing.T) {
			patiently(t, func(t *testing.T, inner *memory.Target, at target.Target, _ *[]memory.Fault) {
				tries := 0
				inner.Intercept = func(context.Context, memory.Call) memory.Fault {
					tries++
					return memory.Fault{Err: fmt.Errorf("%w: try %d", target.ErrUnavailable, tries)}
				}
				began := time.Now()
				err := call(t.Context(), at)
				took := time.Since(began)
				if !errors.Is(err, target.ErrUnavailable) || !strings.Contains(err.Error(), fmt.Sprint(": try ", tries)) || took > time.Minute || took < 45*time.Second || tries > 20 {
					t.Errorf("after %s and %d tries: %v", took, tries, err)
				}
			})
		})
	}
}

func TestContextEndsTheWait(t *testing.T) {
	for what, call := range calls {
		t.Run(what, func(t *testing.T) {
			patiently(t, func(t *testing.T, inner *memory.Target, at target.Target, _ *[]memory.Fault) {
				inner.Intercept = func(context.Context, memory.Call) memory.Fault { return memory.Fault{Err: errBusy} }
				reason := errors.New("nobody waits any more")
				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, reason)
				defer cancel()
				began := time.Now()
				if err := call(ctx, at); !errors.Is(err, reason) || !errors.Is(err, errBusy) || time.Since(began) != 10*time.Second {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
			})
		})
	}
}

// TestLostAnswers: a write whose answer was lost has succeeded if it is tried again, and no write of somebody else's is taken for it.
func TestLostAnswers(t *testing.T) {
	lost := memory.Fault{Err: errBusy, Lost: true}
	patiently(t, func(t *testing.T, inner *memory.Target, at target.Target, faults *[]memory.Fault) {
		ctx := t.Context()
		for _, before := range [][]memory.Fault{{lost}, {lost, lost}, {{Err: errBusy}, lost}, {lost, {Err: errBusy}, lost, {}, {Err: errBusy}}} {
			must(t, inner.Delete(ctx, "new"))
			*faults = before
			must(t, at.PutNew(ctx, "new", []byte("mine")))
			if len(*faults) > 0 {
				t.Fatalf("%d faults are left", len(*faults))
			}
			if err := at.PutNew(ctx, "new", []byte("mine")); !errors.Is(err, target.ErrExists) {
				t.Fatalf("the same bytes once more, without a lost answer: %v", err)
			}
		}
		// Somebody else writes between the first try, which did nothing, and the second: their bytes are shorter, longer, or others.
		for _, theirs := range []string{"", "theirs", "mink"} {
			must(t, inner.Delete(ctx, "new"))
			tries := 0
			inner.Intercept = func(_ context.Context, call memory.Call) memory.Fault {
				if tries++; call.Method == memory.PutNew && tries == 1 {
					inner.Intercept = nil
					must(t, inner.Put(ctx, "new", []byte(theirs)))
					return memory.Fault{Err: errBusy}
				}
				return memory.Fault{}
			}
			if err := at.PutNew(ctx, "new", []byte("mine")); !errors.Is(err, target.ErrExists) || errors.Is(err, target.ErrUnavailable) {
				t.Fatalf("somebody else wrote %q: %v", theirs, err)
			}
		}
		*faults = []memory.Fault{lost}
		must(t, at.Delete(ctx, "new"))
		must(t, at.Delete(ctx, "new"))
	})
}

// TestTruncatedReads: what came of an answer that broke off is not taken for the object.
func TestTruncatedReads(t *testing.T) {
	patiently(t, func(t *testing.T, inner *memory.Target, at target.Target, faults *[]memory.Fault) {
		content := bytes.Repeat([]byte("0123456789"), 100)
		must(t, inner.Put(t.Context(), "x", content))
		*faults = []memory.Fault{{Err: errBusy, Part: 999}, {Err: errBusy, Part: 1}, {Err: errBusy}}
		got := make([]byte, len(content))
		if n, err := at.ReadAt(t.Context(), "x", got, 0); n != len(content) || err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, or others: %v", n, err)
		}
	})
}

// TestListGoesOn: each object is given once, however often the list breaks off, and patience is for each part.
func TestListGoesOn(t *testing.T) {
	patiently(t, func(t *testing.T, inner *memory.Target, at target.Target, _ *[]memory.Fault) {
		var want []string
		for i := range 200 {
			want = append(want, fmt.Sprintf("n%03d", i))
			must(t, inner.Put(t.Context(), want[i], nil))
		}
		tries := 0
		inner.Intercept = func(context.Context, memory.Call) memory.Fault {
			tries++
			time.Sleep(30 * time.Second)
			if tries < 20 {
				return memory.Fault{Err: errBusy, Part: 10 * tries}
			}
			return memory.Fault{}
		}
		var got []string
		must(t, at.List(t.Context(), "n", func(name string, _ int64) error { got = append(got, name); return nil }))
		if !slices.Equal(got, want) || tries != 20 {
			t.Errorf("after %d tries: %q", tries, got)
		}
	})
}

func TestCrashOfMemory(t *testing.T) {
	at, ctx := memory.New(), t.Context()
	must(t, at.Put(ctx, "sure", []byte("1")))
	must(t, at.Put(ctx, "changed", []byte("2")))
	must(t, at.Put(ctx, "deleted", []byte("3")))
	must(t, at.Put(ctx, "again", []byte("4")))
	at.Intercept = func(context.Context, memory.Call) memory.Fault { return memory.Fault{Err: errBusy, Lost: true} }
	for _, err := range []error{
		at.Put(ctx, "changed", []byte("5")), at.Put(ctx, "changed", []byte("6")), at.Delete(ctx, "deleted"), at.PutNew(ctx, "new", []byte("7")),
		at.PutNew(ctx, "kept", []byte("8")), at.Put(ctx, "again", []byte("9")),
	} {
		if !errors.Is(err, errBusy) {
			t.Fatal(err)
		}
	}
	at.Intercept = nil
	must(t, at.Put(ctx, "again", []byte("10"))) // now it is sure
	at.Crash(func(name string) bool { return name == "kept" })
	at.Crash(nil)
	var left []string
	must(t, at.List(ctx, "", func(name string, size int64) error {
		p := make([]byte, size)
		if _, err := at.ReadAt(ctx, name, p, 0); err != nil {
			return err
		}
		left = append(left, name+"="+string(p))
		return nil
	}))
	if want := "again=10 changed=2 deleted=3 kept=8 sure=1"; strings.Join(left, " ") != want {
		t.Errorf("after a crash there is %q, want %q", left, want)
	}
	if !at.Damage("sure", func(data []byte) []byte { return append(data, 'x') }) || at.Damage("none", nil) {
		t.Error("damage found another object")
	}
	if size, err := at.Size(ctx, "sure"); size != 2 || err != nil {
		t.Errorf("the damaged object has %d bytes: %v", size, err)
	}
	must(t, at.Close())
	if err := at.Put(ctx, "sure", nil); !errors.Is(err, memory.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
