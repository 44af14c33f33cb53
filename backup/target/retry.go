package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// The pauses between tries: at first 50 to 100 ms, each about twice the one before, 5 to 10 s in the end.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Patiently makes a target that tries again out of one whose methods try once: what failed with ErrUnavailable is tried again, with growing random
// pauses between, until the context ends or Options.Patience is over.
func Patiently(inner Target, options Options) Target {
	options = options.WithDefaults()
	return &patient{Target: inner, patience: options.Patience, random: options.Rand}
}

type patient struct {
	Target
	patience time.Duration

	mutex  sync.Mutex // guards random
	random *rand.Rand
}

// resumable is a target whose lists begin after a name. List of others begins anew, and skips what it gave already.
type resumable interface {
	listAfter(ctx context.Context, prefix, after string, fn func(name string, size int64) error) error
}

// Put implements Target.
func (p *patient) Put(ctx context.Context, name string, data []byte) error {
	return p.insist(ctx, func(*attempt) error { return p.Target.Put(ctx, name, data) })
}

// PutNew implements Target.
func (p *patient) PutNew(ctx context.Context, name string, data []byte) error {
	unknown := false // a try before this one may have written it
	return p.insist(ctx, func(*attempt) error {
		err := p.Target.PutNew(ctx, name, data)
		if unknown && errors.Is(err, ErrExists) {
			own, problem := p.holds(ctx, name, data)
			if own || problem != nil {
				return problem
			}
		}
		unknown = unknown || errors.Is(err, ErrUnavailable)
		return err
	})
}

// holds reports whether an object has these bytes. One that is gone has not.
func (p *patient) holds(ctx context.Context, name string, data []byte) (bool, error) {
	size, err := p.Target.Size(ctx, name)
	if err != nil || size != int64(len(data)) {
		return false, unless(err, ErrNotFound)
	}
	found := make([]byte, len(data))
	n, err := p.Target.ReadAt(ctx, name, found, 0)
	if err = unless(unless(err, io.EOF), ErrNotFound); err != nil {
		return false, err
	}
	return bytes.Equal(found[:n], data), nil
}

func unless(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// ReadAt implements Target.
func (p *patient) ReadAt(ctx context.Context, name string, buffer []byte, offset int64) (n int, err error) {
	// All of it again, and not what is missing: the object may have been replaced between two tries.
	err = p.insist(ctx, func(*attempt) error {
		n, err = p.Target.ReadAt(ctx, name, buffer, offset)
		return err
	})
	return n, err
}

// Size implements Target.
func (p *patient) Size(ctx context.Context, name string) (size int64, err error) {
	err = p.insist(ctx, func(*attempt) error {
		size, err = p.Target.Size(ctx, name)
		return err
	})
	return size, err
}

// List implements Target.
func (p *patient) List(ctx context.Context, prefix string, fn func(name string, size int64) error) error {
	after := ""
	return p.insist(ctx, func(try *attempt) error {
		give := func(name string, size int64) error {
			if name <= after {
				return nil
			}
			after = name
			try.progress()
			if err := fn(name, size); err != nil {
				return final{err}
			}
			return nil
		}
		if target, ok := p.Target.(resumable); ok {
			return target.listAfter(ctx, prefix, after, give)
		}
		return p.Target.List(ctx, prefix, give)
	})
}

// Delete implements Target.
func (p *patient) Delete(ctx context.Context, name string) error {
	return p.insist(ctx, func(*attempt) error { return p.Target.Delete(ctx, name) })
}

// final is an error of the caller's own function: it is given back as it is, whatever it wraps.
type final struct{ error }

// attempt is where a call stands.
type attempt struct {
	tries int
	began time.Time // the first try since something was achieved
}

// progress begins the patience anew.
func (a *attempt) progress() { a.tries, a.began = 1, time.Now() }

// insist calls try until it says anything but ErrUnavailable.
func (p *patient) insist(ctx context.Context, try func(*attempt) error) error {
	at := attempt{began: time.Now()}
	for {
		at.tries++
		err := try(&at)
		if own := (final{}); errors.As(err, &own) {
			return own.error
		}
		if !errors.Is(err, ErrUnavailable) {
			return err
		}
		pause := p.pause(at.tries)
		if waited := time.Since(at.began); waited+pause > p.patience {
			return fmt.Errorf("given up after %d tries in %s: %w", at.tries, waited.Round(time.Millisecond), err)
		}
		if ended := wait(ctx, pause); ended != nil {
			return fmt.Errorf("%w after %d tries; the last one: %w", ended, at.tries, err)
		}
	}
}

// pause is between half of a time that doubles with each try, and all of it.
func (p *patient) pause(tries int) time.Duration {
	most := firstPause << min(tries-1, 20)
	most = min(most, maxPause)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return most/2 + time.Duration(p.random.Int64N(int64(most/2)+1))
}

// wait gives back why the context ended, if it ends before the pause is over.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
