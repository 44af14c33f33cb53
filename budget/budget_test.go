package budget

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func newBudget(t *testing.T, total, account int64) *Budget {
	t.Helper()
	b, err := New(Limits{TotalBytes: total, AccountBytes: account})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLimits(t *testing.T) {
	for _, l := range []Limits{{}, {10, 0}, {10, 11}, {-1, -1}} {
		if _, err := New(l); err == nil {
			t.Errorf("%+v is accepted", l)
		}
	}
}

// TestSmallOnesGetThrough: clients with large requests leave room for those with small ones.
func TestSmallOnesGetThrough(t *testing.T) {
	const large = 1 << 20
	b := newBudget(t, 100*large, 40*large)
	taken := 0
	for range 5 {
		a := b.NewAccount()
		for a.Reserve(large) {
			taken++
		}
	}
	if taken != 75 {
		t.Errorf("%d large reservations fit, want three quarters of 100", taken)
	}
	a := b.NewAccount()
	if a.Reserve(large) {
		t.Error("another large one fits")
	}
	// Who holds little still gets small ones, until it holds more than little.
	little, clients := 40*large/littlePart, 0
	for ; a.Reserve(SmallBytes); a = b.NewAccount() {
		clients++
		for a.Reserve(SmallBytes) {
		}
		if used := a.UsedBytes(); used > int64(little) || b.Metrics().UsedBytes < 100*large && used < int64(little-SmallBytes) {
			t.Fatalf("client %d got %d bytes in small reservations", clients, used)
		}
	}
	if clients != 25*large/little {
		t.Errorf("%d clients got small reservations", clients)
	}
	if m := b.Metrics(); m.UsedBytes != m.LimitBytes {
		t.Errorf("%+v", m)
	}
}

// TestAgainstSum does random things on several accounts at once and compares with plain sums.
func TestAgainstSum(t *testing.T) {
	b := newBudget(t, 1000, 400)
	var wait sync.WaitGroup
	for client := range uint64(8) {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(client, 1))
			a := b.NewAccount()
			var held []int64
			sum := int64(0)
			for range 20_000 {
				if n := random.Int64N(60); random.IntN(2) == 0 && a.Reserve(n) {
					held, sum = append(held, n), sum+n
				} else if len(held) > 0 {
					sum -= held[0]
					a.Release(held[0])
					held = held[1:]
				}
				if a.UsedBytes() != sum || sum > 400 {
					t.Errorf("%d bytes are used, the sum is %d", a.UsedBytes(), sum)
					return
				}
			}
			a.Release(sum)
		})
	}
	wait.Wait()
	if used := b.Metrics().UsedBytes; used != 0 {
		t.Errorf("%d bytes are left over", used)
	}
}

// TestTooMuchGivenBack: a mistake in the accounts is not kept quiet about.
func TestTooMuchGivenBack(t *testing.T) {
	a := newBudget(t, 200, 100).NewAccount()
	if !a.Reserve(60) || a.Reserve(41) || !a.Reserve(40) || a.UsedBytes() != 100 {
		t.Errorf("the account has %d bytes", a.UsedBytes())
	}
	a.Release(60)
	if a.Release(50); a.UsedBytes() != 0 || a.budget.Metrics() != (Metrics{LimitBytes: 200, Refused: 1, Mistakes: 1}) {
		t.Errorf("%d bytes are used; %+v", a.UsedBytes(), a.budget.Metrics())
	}
}

// TestAmply: what is only wanted to be faster leaves half of everything to what is needed.
func TestAmply(t *testing.T) {
	b := newBudget(t, 100, 40)
	a := b.NewAccount()
	if !a.ReserveAmply(20) || a.ReserveAmply(1) {
		t.Error("half of an account, and no more, can be had")
	}
	if a.Tight() {
		t.Error("half of it is tight")
	}
	if a.Force(30); !a.Tight() || a.UsedBytes() != 50 || a.Reserve(1) {
		t.Errorf("%d bytes are used, more than there is; and still something fits", a.UsedBytes())
	}
	other := b.NewAccount()
	if other.ReserveAmply(1) || other.Tight() {
		t.Error("half of the budget is used, and nothing more")
	}
	if !other.Reserve(1) || !other.Tight() {
		t.Error("more than half of the budget is used")
	}
	a.Release(50)
	if !other.ReserveAmply(19) || b.Metrics().UsedBytes != 20 || b.Metrics().Refused != 1 {
		t.Errorf("%+v", b.Metrics())
	}
}
