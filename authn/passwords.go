package authn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"

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
	// A user may try perSecond times a second, and burst times at once.
	perSecond = 10
	burst     = 40
	// maxUsers is of how many users it is known when they tried. Beyond it all begin anew.
	maxUsers = 4096
)

// Passwords hashes and checks passwords, which takes long by intention: on half of the processors, at most, and for each user at a limited rate. Safe for
// concurrent use.
type Passwords struct {
	cost    int
	workers chan struct{}
	waiting chan struct{}

	decoy sync.Once
	hash  []byte // of no password that anybody knows

	mu     sync.Mutex
	limits map[string]*rate.Limiter
}

// NewPasswords returns Passwords that hash at a cost.
func NewPasswords(cost int) (*Passwords, error) {
	if cost < MinCost || cost > MaxCost {
		return nil, fmt.Errorf("--bcrypt-cost is %d, want %d to %d", cost, MinCost, MaxCost)
	}
	return &Passwords{
		cost: cost, workers: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), waiting: make(chan struct{}, maxWaiting), limits: map[string]*rate.Limiter{},
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
// kv.ErrTooManyRequests if the user has tried too often, or everybody has.
func (p *Passwords) Check(ctx context.Context, name string, user *auth.User, password string) error {
	if !p.mayTry(name) {
		return kv.ErrTooManyRequests
	}
	return p.work(ctx, func() error {
		hash := p.decoyHash()
		if user != nil && !user.NoPassword && len(user.Hash) > 0 {
			hash = user.Hash
		}
		if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || user == nil || user.NoPassword || len(user.Hash) == 0 {
			return kv.ErrAuthFailed
		}
		return nil
	})
}

// decoyHash is compared with where there is no hash, so that the time does not tell.
func (p *Passwords) decoyHash() []byte {
	p.decoy.Do(func() { p.hash, _ = bcrypt.GenerateFromPassword([]byte("nobody has this password"), p.cost) }) // it is short enough
	return p.hash
}

func (p *Passwords) mayTry(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.limits[name]
	if limit == nil {
		if len(p.limits) >= maxUsers {
			p.limits = map[string]*rate.Limiter{}
		}
		limit = rate.NewLimiter(perSecond, burst)
		p.limits[name] = limit
	}
	return limit.Allow()
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
