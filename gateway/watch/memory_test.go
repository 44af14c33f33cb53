package watch

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// countedMemory has a limit, refuses at random besides, and notices what is given back too often.
type countedMemory struct {
	t       testing.TB
	mu      sync.Mutex
	limit   int64
	random  *rand.Rand // nil: it refuses nothing that fits
	refuse  int        // one of so many
	used    int64
	peak    int64
	refused int
}

func (m *countedMemory) Reserve(bytes int64) bool      { return m.take(bytes, m.limit) }
func (m *countedMemory) ReserveAmply(bytes int64) bool { return m.take(bytes, m.limit/2) }

func (m *countedMemory) take(bytes, limit int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes < 0 || m.used+bytes > limit || m.random != nil && m.random.IntN(m.refuse) == 0 {
		m.refused++
		return false
	}
	m.used += bytes
	m.peak = max(m.peak, m.used)
	return true
}

func (m *countedMemory) Release(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used -= bytes; bytes < 0 || m.used < 0 {
		m.t.Errorf("%d bytes are given back, and %d are left", bytes, m.used)
	}
}

func (m *countedMemory) bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// tickAlways ticks, one nanosecond of the hub's time after the other, until the returned function is called.
func tickAlways(hub *Hub) (stop func()) {
	over := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for now := time.Duration(0); ; now += time.Nanosecond {
			select {
			case <-over:
				return
			default:
				hub.Tick(now)
				runtime.Gosched()
			}
		}
	})
	return func() { close(over); wait.Wait() }
}

// TestMeterAgainstSums does random things with a meter, and adds up beside it.
func TestMeterAgainstSums(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 5))
		memory := &countedMemory{t: t, limit: 300_000, random: random, refuse: 4}
		m := meter{memory: memory}
		held, watches, aside := int64(0), []int64{}, int64(0)
		for step := range 2000 {
			n := 1 + random.Int64N(30_000)
			switch random.IntN(7) {
			case 0:
				if m.addWatch(n) {
					watches = append(watches, n)
				}
			case 1:
				if len(watches) > 0 {
					m.dropWatch(watches[0])
					watches = watches[1:]
				}
			case 2:
				if m.fits(held + n) {
					if held += n; held > freeBytes+m.reserved-m.aside {
						t.Fatalf("seed %d step %d: %d bytes are held, and only %+v", seed, step, held, m)
					}
				}
			case 3:
				held -= min(held, n)
				m.trim(held)
				if spare := m.reserved - m.aside - max(0, held-freeBytes); spare >= 2*smallBytes || held <= freeBytes && spare != 0 {
					t.Fatalf("seed %d step %d: %d bytes are held, and %d too many reserved", seed, step, held, spare)
				}
			case 4:
				if aside == 0 {
					if aside = m.setAside(n, n/2); aside != 0 && aside < n/2 {
						t.Fatalf("seed %d step %d: %d bytes set aside instead of %d", seed, step, aside, n/2)
					}
				}
			case 5:
				if aside > 0 {
					aside += m.setMoreAside(n)
				}
			default:
				m.useAside()
				aside = 0
				m.trim(held)
			}
			sum := int64(0)
			for _, w := range watches {
				sum += w
			}
			if m.watches != sum || m.aside != aside || memory.used != m.watches+m.reserved {
				t.Fatalf("seed %d step %d: %d bytes are reserved, %d for watches, %d set aside; %+v", seed, step, memory.used, sum, aside, m)
			}
		}
		m.close()
		m.dropWatch(10)
		if memory.used != 0 || memory.refused == 0 || m.fits(1<<20) || m.addWatch(1) || m.setAside(1, 1) != 0 || memory.used != 0 {
			t.Fatalf("seed %d: after the end %d bytes are reserved", seed, memory.used)
		}
	}
}

// TestMeterIsQuiet: what comes and goes within a little room does not ask the memory.
func TestMeterIsQuiet(t *testing.T) {
	memory := &countedMemory{t: t, limit: 1 << 20}
	m := meter{memory: memory}
	for held := range int64(freeBytes) {
		m.fits(held)
		m.trim(held)
	}
	if memory.peak != 0 {
		t.Errorf("%d bytes were reserved for next to nothing", memory.peak)
	}
	m.fits(freeBytes + 1)
	for held := range int64(smallBytes) {
		m.fits(freeBytes + held)
		m.trim(freeBytes + 1 + held)
		if memory.used != smallBytes {
			t.Fatalf("with %d bytes %d are reserved", held, memory.used)
		}
	}
}

// TestMeterWithoutMemory: nobody counts.
func TestMeterWithoutMemory(t *testing.T) {
	var m meter
	if !m.addWatch(1<<40) || !m.fits(1<<40) || m.setAside(1, 1) < 1<<40 {
		t.Error("something is refused")
	}
	m.useAside()
	m.trim(0)
	m.dropWatch(1 << 40)
	m.close()
	if m.reserved != 0 || m.watches != 0 {
		t.Errorf("%+v", m)
	}
}

// TestRandomMemory is TestRandomSchedules with hardly any memory, of which even what there is, is often refused: who reads gets
// everything, and in the end nothing is reserved.
func TestRandomMemory(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &countedMemory{t: t, limit: 200 << 10, random: rand.New(rand.NewPCG(seed, 3)), refuse: 2 + int(seed)%4}
			runRandomSchedule(t, seed, m)
			if m.used != 0 || m.refused == 0 {
				t.Errorf("%d bytes are left over; %d times memory was refused", m.used, m.refused)
			}
		})
	}
}
