package demo

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a store that can be down, forget, and act although it reported failure.
type memory struct {
	mu     sync.Mutex
	values map[string]string
	down   bool
	late   bool // puts take effect and fail
}

func (m *memory) put(ctx context.Context, key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errors.New("down")
	}
	m.values[key] = value
	if m.late {
		return errors.New("outcome unknown")
	}
	return nil
}

func (m *memory) list(context.Context, string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values), nil
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := &memory{values: map[string]string{}}
		w := newWriter(m)
		done := make(chan struct{})
		go func() { w.run(ctx); close(done) }()
		expect := func(wantLost int64) {
			t.Helper()
			acknowledged, lost, err := w.check(ctx)
			if err != nil || acknowledged == 0 || lost != wantLost {
				t.Fatalf("%d acknowledged, %d lost, %v; want %d lost", acknowledged, lost, err, wantLost)
			}
		}
		time.Sleep(20 * time.Second) // of the bubble's clock: several rounds over the slots
		synctest.Wait()
		expect(0)

		m.set(func() { m.down = true })
		killed := time.Now()
		time.Sleep(700*time.Millisecond + time.Millisecond)
		m.set(func() { m.down = false })
		served, err := w.nextAfter(ctx, killed)
		if gap := served.Sub(killed); err != nil || gap < 700*time.Millisecond || gap > 720*time.Millisecond {
			t.Errorf("measured a gap of %v, %v; want about 0.7 s", gap, err)
		}
		if w.failures() != 70 {
			t.Errorf("%d failures, want 70", w.failures())
		}
		expect(0)

		m.set(func() { m.late = true })
		time.Sleep(time.Second)
		m.set(func() { m.late = false })
		expect(0) // what took effect in spite of its failure is no loss

		m.set(func() { delete(m.values, slotKey(7)); m.values[slotKey(8)] = "1"; m.values[slotKey(9)] = "99999999" })
		expect(3)

		m.set(func() { m.down = true })
		limited, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		if _, err := w.nextAfter(limited, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without any write: %v", err)
		}
		cancel()
		<-done
	})
}
