// Package budget bounds the memory that clients can cause on a node.
//
// There is one Budget on a node, and an Account for everybody who can make the node hold something: a client's connection, or a peer on whose
// behalf requests are evaluated here. Whoever is about to hold bytes for a client reserves them before, and gives them back when
// they are gone. What does not fit is refused at once: waiting for memory would only hold more of it.
//
// A budget counts what clients cause and not what Go allocates: the collector may leave as much again as garbage.
package budget

import (
	"fmt"
	"sync/atomic"
)

// SmallBytes is how large a reservation may be to count as small. A quarter of the budget is kept for small ones of accounts that hold little, so that
// clients that hold much cannot shut out all others.
const SmallBytes = 16 << 10

// littlePart of its limit is what an account may hold to count as one that holds little.
const littlePart = 16

// Limits of a Budget.
type Limits struct {
	TotalBytes   int64 // of all accounts together
	AccountBytes int64 // of one account
}

// Validate tells what is wrong with the limits.
func (l Limits) Validate() error {
	if l.AccountBytes < 1 || l.TotalBytes < l.AccountBytes {
		return fmt.Errorf("budget: %d bytes for each client and %d for all together: want at least 1, and no more for one than for all", l.AccountBytes, l.TotalBytes)
	}
	return nil
}

// Budget is what all accounts share. Safe for concurrent use.
type Budget struct {
	limits  Limits
	used    atomic.Int64
	refused atomic.Int64
	// mistakes are releases of more than was reserved.
	mistakes atomic.Int64
}

// New returns a budget of which nothing is used.
func New(limits Limits) (*Budget, error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	return &Budget{limits: limits}, nil
}

// Metrics are figures about a budget.
type Metrics struct {
	LimitBytes, UsedBytes int64
	Refused               int64 // reservations that did not fit
	Mistakes              int64 // more was given back than was reserved; always 0, or there is a bug
}

// Metrics returns figures.
func (b *Budget) Metrics() Metrics {
	return Metrics{LimitBytes: b.limits.TotalBytes, UsedBytes: b.used.Load(), Refused: b.refused.Load(), Mistakes: b.mistakes.Load()}
}

// Account counts what one client causes. Safe for concurrent use.
type Account struct {
	budget *Budget
	used   atomic.Int64
}

// NewAccount returns an empty account.
func (b *Budget) NewAccount() *Account { return &Account{budget: b} }

// UsedBytes is what is reserved.
func (a *Account) UsedBytes() int64 { return a.used.Load() }

// Reserve takes n bytes, or none and returns false if they do not fit into the account or the budget.
func (a *Account) Reserve(n int64) bool {
	limits := &a.budget.limits
	if !take(&a.used, n, limits.AccountBytes) {
		a.budget.refused.Add(1)
		return false
	}
	total := limits.TotalBytes
	if n > SmallBytes || a.used.Load() > limits.AccountBytes/littlePart {
		total -= total / 4
	}
	if !take(&a.budget.used, n, total) {
		a.used.Add(-n)
		a.budget.refused.Add(1)
		return false
	}
	return true
}

// ReserveAmply is Reserve for what is only wanted to be faster: it fails, and counts as no refusal, if afterwards more than half of the account or
// of the budget were used.
func (a *Account) ReserveAmply(n int64) bool {
	limits := &a.budget.limits
	if !take(&a.used, n, limits.AccountBytes/2) {
		return false
	}
	if !take(&a.budget.used, n, limits.TotalBytes/2) {
		a.used.Add(-n)
		return false
	}
	return true
}

// Force takes n bytes that are held already, whether they fit or not. Whoever is in debt gets nothing else.
func (a *Account) Force(n int64) {
	a.used.Add(n)
	a.budget.used.Add(n)
}

// Tight tells whether more than half of the account or of the budget is used: whoever can hold less should.
func (a *Account) Tight() bool {
	limits := &a.budget.limits
	return a.used.Load() > limits.AccountBytes/2 || a.budget.used.Load() > limits.TotalBytes/2
}

// take adds n unless the sum would be above the limit. It never adds what it takes back: that would refuse others for nothing.
func take(used *atomic.Int64, n, limit int64) bool {
	for {
		before := used.Load()
		if before+n > limit {
			return false
		}
		if used.CompareAndSwap(before, before+n) {
			return true
		}
	}
}

// Release gives n bytes back that were reserved. More than what is reserved is a mistake of the caller's, which is counted: clients must not be able
// to end a node by it.
func (a *Account) Release(n int64) {
	if left := a.used.Add(-n); left < 0 {
		a.used.Add(-left)
		n += left
		a.budget.mistakes.Add(1)
	}
	a.budget.used.Add(-n)
}
