package authn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
)

// Costs of bcrypt: each step doubles the time.
const (
	MinCost     = bcrypt.MinCost
	MaxCost     = bcrypt.MaxCost
	DefaultCost = bcrypt.DefaultCost
)

// Bounds of what passwords cost a node.
const (
	// maxWaiting may wait for a worker; more are refused.
	maxWaiting = 256
	// A user may fail perSecond times a second, and burst times at once. How often the right password is shown is not limited: clients of etcd log in with
	// each connection, and again when a token has ended.
	perSecond = 10
	burst     = 40
	// maxUsers is of how many users it is known when they failed. Beyond it all begin anew.
	maxUsers = 4096
)

// Passwords hashes and checks passwords, which takes long by intention: on half of the processors, at most, and wrong ones for each user at a limited rate.
// etcd has no such limits. Safe for concurrent use.
type Passwords struct {
	cost    int
	workers chan struct{}
	waiting chan struct{}

	decoy sync.Once
	hash  []byte // of no password that anybody knows

	mu       sync.Mutex
	failures map[string]*allowance // of users that failed, or are being checked
}

// allowance is how often a user may fail.
type allowance struct {
	left float64   // at most burst; less than one: not now
	at   time.Time // of left
}

// NewPasswords returns Passwords that hash at a cost.
func NewPasswords(cost int) (*Passwords, error) {
	if cost < MinCost || cost > MaxCost {
		return nil, fmt.Errorf("--bcrypt-cost is %d, want %d to %d", cost, MinCost, MaxCost)
	}
	return &Passwords{
		cost: cost, workers: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), waiting: make(chan struct{}, maxWaiting), failures: map[string]*allowance{},
	}, nil
}

// Hash returns the hash of a new password.
func (p *Passwords) Hash(ctx context.Context, password string) (hash []byte, err error) {
	err = p.work(ctx, func() error {
		hash, err = bcrypt.GenerateFromPassword([]byte(password), p.cost)
		return err
	})
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return nil, fmt.Errorf("a password has 72 bytes at most: %w", kv.ErrInvalidRequest)
	}
	return hash, err
}

// Check returns kv.ErrAuthFailed if it is not the password of the user (nil: there is no such user, which takes as long), or the user has none; and
// kv.ErrTooManyRequests if the user has failed too often, or too many wait.
func (p *Passwords) Check(ctx context.Context, name string, user *auth.User, password string) error {
	if !p.mayFail(name, 0) { // who may not does not wait for a worker, or keep others from it
		return kv.ErrTooManyRequests
	}
	return p.work(ctx, func() error {
		if !p.mayFail(name, 1) { // as if it failed: so those that are checked at the same time are no more than may fail
			return kv.ErrTooManyRequests
		}
		hash := p.decoyHash()
		if user != nil && !user.NoPassword && len(user.Hash) > 0 {
			hash = user.Hash
		}
		if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || user == nil || user.NoPassword || len(user.Hash) == 0 {
			return kv.ErrAuthFailed
		}
		p.passed(name)
		return nil
	})
}

// decoyHash is compared with where there is no hash, so that the time does not tell.
func (p *Passwords) decoyHash() []byte {
	p.decoy.Do(func() { p.hash, _ = bcrypt.GenerateFromPassword([]byte("nobody has this password"), p.cost) }) // it is short enough
	return p.hash
}

// mayFail tells whether a user may fail once more, and counts so many failures if it may.
func (p *Passwords) mayFail(name string, count float64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, now := p.failures[name], time.Now()
	switch {
	case a == nil && count == 0:
		return true
	case a == nil:
		if len(p.failures) >= maxUsers {
			clear(p.failures)
		}
		a = &allowance{left: burst}
		p.failures[name] = a
	default:
		a.left = min(burst, a.left+perSecond*now.Sub(a.at).Seconds())
	}
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left -= count
	return true
}

// passed takes back that a user failed.
func (p *Passwords) passed(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.failures[name]
	if a == nil { // all have begun anew
		return
	}
	if a.left++; a.left >= burst {
		delete(p.failures, name)
	}
}

// work does something that takes long, when there is a worker.
func (p *Passwords) work(ctx context.Context, do func() error) error {
	select {
	case p.waiting <- struct{}{}:
	default:
		return kv.ErrTooManyRequests
	}
	defer func() { <-p.waiting }()
	select {
	case p.workers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.workers }()
	return do()
}
