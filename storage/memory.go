package storage

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"
)

// MemoryOptions configure a Memory engine.
type MemoryOptions struct {
	// ManualFlush leaves flushes pending until CompleteFlush; otherwise
	// Flush is durable at once and calls done before it returns.
	ManualFlush bool
	// Files is where Export writes and Ingest reads. Engines that exchange files share
	// it, or somebody carries the files over. Default: a MemoryFiles of its own.
	Files Files
	// ExportFileBytes limits one exported file. Default 64 MiB.
	ExportFileBytes int
	// CrashStates is how many states after the last durable one Crash may choose from;
	// when there are more the oldest are forgotten. Default 1,024.
	CrashStates int
}

// WithDefaults returns a copy with defaults filled in.
func (o MemoryOptions) WithDefaults() MemoryOptions {
	if o.Files == nil {
		o.Files = NewMemoryFiles()
	}
	if o.ExportFileBytes == 0 {
		o.ExportFileBytes = 64 << 20
	}
	if o.CrashStates == 0 {
		o.CrashStates = 1024
	}
	return o
}

// Memory is the deterministic in-memory Engine. It loses at a Crash what a disk would lose.
//
// Iterators and snapshots keep the state that they began with, so readers in other goroutines see whole batches, as the
// interface promises: a batch changes the tree in place only while nobody reads it, and otherwise a copy-on-write copy.
// Everything that changes the engine is for one goroutine.
type Memory struct {
	options MemoryOptions
	stopped atomic.Pointer[error] // set once, by Close

	mu      sync.Mutex   // guards current and the readers of all states
	current *memoryState // shares its tree with no other state

	durable *memoryState // what a crash cannot take away; never changed
	// recent are the batches of which a crash may keep the first few. They follow on oldest, which is durable unless
	// batches were forgotten since.
	// Invariant: ascending without a gap, all newer than durable, and the last one made current.
	recent  []memoryChanges
	oldest  *memoryState
	pending []pendingFlush // Invariant: ascending

	snapshots atomic.Int64
	flushes   int64
}

// memoryChanges is the batch with a number.
type memoryChanges struct {
	sequence uint64
	changes  []change
}

type pendingFlush struct {
	state *memoryState
	done  func(error)
}

var _ Engine = (*Memory)(nil)

// NewMemory returns an empty engine.
func NewMemory(o MemoryOptions) *Memory {
	// A batch copies the nodes that it changes for the first time after a flush began, or while somebody reads: small ones.
	tree := btree.NewBTreeGOptions(lessItem, btree.Options{NoLocks: true, Degree: 8})
	return newMemoryAt(o.WithDefaults(), &memoryState{tree: tree})
}

func newMemoryAt(o MemoryOptions, s *memoryState) *Memory {
	return &Memory{options: o, current: s.copy(), durable: s, oldest: s}
}

// read returns the current state, which stays as it is until it is released.
func (m *Memory) read() *memoryState {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current.readers++
	return m.current
}

// Get implements Reader.
func (m *Memory) Get(key, dst []byte) ([]byte, bool, error) {
	if err := m.Err(); err != nil {
		return dst, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, found := m.current.get(key, dst)
	return value, found, nil
}

// NewIterator implements Reader.
func (m *Memory) NewIterator(lower, upper []byte) Iterator {
	return newMemoryIterator(m, m.read(), lower, upper)
}

// NewSnapshot implements Engine.
func (m *Memory) NewSnapshot() Snapshot {
	m.snapshots.Add(1)
	return &memorySnapshot{engine: m, state: m.read()}
}

// NewBatch implements Engine.
func (m *Memory) NewBatch() Batch { return &memoryBatch{} }

// Apply implements Engine.
func (m *Memory) Apply(b Batch) error {
	if err := m.Err(); err != nil {
		return err
	}
	batch, ok := b.(*memoryBatch)
	if !ok {
		return fmt.Errorf("storage: a batch of type %T does not belong to the memory engine", b)
	}
	m.apply(batch.changes)
	return nil
}

func (m *Memory) apply(changes []change) {
	m.mu.Lock()
	if m.current.readers > 0 {
		m.current = m.current.copy()
	}
	m.current.apply(changes)
	m.mu.Unlock()
	m.recent = append(m.recent, memoryChanges{m.current.sequence, changes})
	if len(m.recent) > m.options.CrashStates {
		m.forget()
	}
}

// forget gives up the state after the oldest of the recent batches.
func (m *Memory) forget() {
	if m.oldest == m.durable {
		m.oldest = m.durable.copy()
	}
	m.oldest.apply(m.recent[0].changes)
	m.recent[0] = memoryChanges{}
	m.recent = m.recent[1:]
}

// frozen returns the current state as it is now.
func (m *Memory) frozen() *memoryState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current.copy()
}

// Flush implements Engine.
func (m *Memory) Flush(done func(error)) {
	if err := m.Err(); err != nil {
		done(err)
		return
	}
	m.pending = append(m.pending, pendingFlush{m.frozen(), done})
	if !m.options.ManualFlush {
		m.CompleteFlush()
	}
}

// PendingFlushes is the number of flushes that wait for CompleteFlush.
func (m *Memory) PendingFlushes() int { return len(m.pending) }

// CompleteFlush makes the oldest pending flush durable and calls its done. It
// returns false if there is none.
func (m *Memory) CompleteFlush() bool {
	if len(m.pending) == 0 {
		return false
	}
	flush := m.pending[0]
	m.pending = m.pending[1:]
	m.flushes++
	m.makeDurable(flush.state)
	flush.done(nil)
	return true
}

func (m *Memory) stop(err error) {
	m.stopped.CompareAndSwap(nil, &err)
	pending := m.pending
	m.pending = nil
	for _, flush := range pending {
		flush.done(err)
	}
}

// Err is what stopped the engine; nil while it works.
func (m *Memory) Err() error {
	if p := m.stopped.Load(); p != nil {
		return *p
	}
	return nil
}

// Crash returns the engine as it would be found after a power loss now: the last durable
// state, or the state after one of the later batches, as random chooses; a nil random
// takes the durable state. Pending flushes are forgotten: their done is never called.
// The receiver must not be used any more, except by those who read snapshots of it.
func (m *Memory) Crash(random *rand.Rand) *Memory {
	found := m.durable
	if random != nil {
		if kept := random.IntN(len(m.recent) + 1); kept > 0 {
			found = m.oldest.copy()
			for _, batch := range m.recent[:kept] {
				found.apply(batch.changes)
			}
		}
	}
	m.pending = nil
	m.stop(fmt.Errorf("%w: the machine lost power", ErrClosed))
	return newMemoryAt(m.options, found)
}

// Image returns a copy of what is durable now, as a snapshot of the disk would have it, with files of its own.
func (m *Memory) Image(files Files) *Memory {
	o := m.options
	o.Files = files
	return newMemoryAt(o, m.durable.copy())
}

// NewScrub implements Engine. It reads every row.
func (m *Memory) NewScrub() Scrub { return NewReaderScrub(m, m.Metrics().DiskBytes) }

// Reclaim implements Engine. There is nothing to reclaim.
func (m *Memory) Reclaim(done func(error)) { done(m.Err()) }

// Metrics implements Engine.
func (m *Memory) Metrics() Metrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes := m.current.bytes
	return Metrics{DiskBytes: bytes, LiveBytes: bytes, MemoryBytes: bytes, FlushCount: m.flushes, ReadAmplification: 1}
}

// Check verifies the invariants.
func (m *Memory) Check() error {
	if m.oldest.sequence < m.durable.sequence {
		return fmt.Errorf("storage: memory engine: the recent batches follow state %d, but state %d is durable", m.oldest.sequence, m.durable.sequence)
	}
	last := m.oldest.sequence
	for i := range m.recent {
		if m.recent[i].sequence != last+1 {
			return fmt.Errorf("storage: memory engine: batch %d follows state %d", m.recent[i].sequence, last)
		}
		last++
	}
	if m.current.sequence != last {
		return fmt.Errorf("storage: memory engine: the current state is %d, the last recorded one %d", m.current.sequence, last)
	}
	for i := 1; i < len(m.pending); i++ {
		if m.pending[i].state.sequence < m.pending[i-1].state.sequence {
			return fmt.Errorf("storage: memory engine: pending flushes are out of order")
		}
	}
	return nil
}

// Close implements Engine. Pending flushes get ErrClosed.
func (m *Memory) Close() error {
	m.stop(fmt.Errorf("%w: the memory engine", ErrClosed))
	if n := m.snapshots.Load(); n > 0 {
		return fmt.Errorf("storage: memory engine closed while %d snapshots are open", n)
	}
	return nil
}
