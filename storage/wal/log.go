package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// Log is a storage.Log in a directory. It is safe for concurrent use, but only Sync
// gains from that: it does not hold the lock while the disk works.
type Log struct {
	options Options
	lock    io.Closer

	mu       sync.Mutex
	failed   error // once set, what every call returns
	closed   bool
	groups   map[consensus.GroupID]*group
	sequence uint64 // of the last record written
	synced   uint64 // Invariant: synced <= sequence, and every record up to it is durable
	recovery Recovery

	segments []*segment // Invariant: ascending generations without a gap; the last is written to
	retained int64      // bytes. Invariant: the sum of the sizes of segments
	syncing  *segment   // Sync is at work on it, so it must stay open
	retired  []retired  // Invariant: ascending by after
	free     []*segment // to be recycled
	number   uint64     // highest file number in use
	next     preparation
	jobs     sync.WaitGroup

	compacted []consensus.GroupID // groups whose flag of that name is set
	buffer    []byte
	parts     []part
	cache     cache
	rewrite   rewrite
	aside     aside

	writes, bytes, syncs int64
}

// Recovery tells what Open found.
type Recovery struct {
	Segments int
	Records  uint64
	// TornBytes is what was cut off at the end: of writes that were never synced. TornFile is where.
	TornBytes int64
	TornFile  string
}

var _ storage.Log = (*Log)(nil)

// Open opens the log in the directory, or creates it.
func Open(o Options) (*Log, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("wal: create the log's directory %s: %w", o.Dir, err)
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(o.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("wal: lock the log's directory %s: %w; probably another process uses it", o.Dir, err)
	}
	l := &Log{options: o, lock: lock, groups: map[consensus.GroupID]*group{}, aside: aside{of: map[consensus.GroupID]int64{}}, cache: cache{limit: o.CacheBytes}}
	if err := l.recover(); err != nil {
		l.abandon()
		l.jobs.Wait()
		return nil, errors.Join(err, l.closeFiles(), lock.Close())
	}
	return l, nil
}

// Recovery tells what Open found.
func (l *Log) Recovery() Recovery { return l.recovery }

// fail makes the log unusable for good.
func (l *Log) fail(err error) error {
	if l.failed == nil {
		if !errors.Is(err, storage.ErrCorrupt) {
			err = fmt.Errorf("%w: the log in %s: %w; what it holds is decided by a restart of the node", storage.ErrUnusable, l.options.Dir, err)
		}
		l.failed = err
	}
	return l.failed
}

// Group implements storage.Log.
func (l *Log) Group(id consensus.GroupID) storage.GroupLog { return &groupLog{l, id} }

// Groups implements storage.Log.
func (l *Log) Groups() []consensus.GroupID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(l.groupIDs(), func(id consensus.GroupID) bool { return id == nodeGroup })
}

// groupIDs are the groups of the index, ascending, the node's own record included.
func (l *Log) groupIDs() []consensus.GroupID {
	ids := make([]consensus.GroupID, 0, len(l.groups))
	for id := range l.groups {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Write implements storage.Log.
func (l *Log) Write(appends []storage.GroupAppend, node *storage.NodeRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if len(appends) == 0 && node == nil {
		return nil
	}
	if err := storage.ValidateNodeRecord(node, l.nodePosition()); err != nil {
		return l.fail(err)
	}
	parts := l.parts[:0]
	for i := range appends {
		if err := l.validate(&appends[i]); err != nil {
			return l.fail(err)
		}
		parts = append(parts, newPart(&appends[i]))
	}
	if node != nil {
		parts = append(parts, newNodePart(node))
	}
	err := l.write(parts)
	clear(parts) // must not keep entries alive
	l.parts = parts
	if err != nil {
		return l.fail(err)
	}
	if err := l.rewriteSome(); err != nil {
		return l.fail(err)
	}
	return nil
}

// Sync implements storage.Log.
func (l *Log) Sync() error {
	l.mu.Lock()
	if l.failed != nil || l.synced == l.sequence {
		defer l.mu.Unlock()
		return l.failed
	}
	// Segments before the head were synced when it became the head.
	head, until := l.head(), l.sequence
	l.syncing = head
	l.mu.Unlock()

	err := head.file.SyncData()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncing = nil
	l.syncs++
	if err != nil {
		return l.fail(fmt.Errorf("sync %s: %w", head.path, err))
	}
	l.durable(until)
	return l.failed
}

// job runs fn in the background, unless everything is to be inline.
func (l *Log) job(fn func()) {
	if l.options.Inline {
		fn()
		return
	}
	l.jobs.Go(fn)
}

func (l *Log) problem(err error) {
	if f := l.options.Listener.Problem; f != nil {
		f(err)
	}
}

// Compact implements storage.Log. The next Write takes the new beginning along; until
// it is durable a crash brings the entries back.
func (l *Log) Compact(id consensus.GroupID, index consensus.Index) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	g := l.groups[id]
	if g == nil {
		return nil
	}
	if index = min(index, g.last()); index <= g.before.Index {
		return nil
	}
	g.compact(g.position(index), l.sequence+1)
	if !g.compacted {
		g.compacted = true
		l.compacted = append(l.compacted, id)
	}
	return nil
}

// Drop implements storage.Log. It is durable after the next Sync.
func (l *Log) Drop(id consensus.GroupID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if l.groups[id] == nil {
		return nil
	}
	if err := l.write([]part{{group: id, drop: true}}); err != nil {
		return l.fail(err)
	}
	return nil
}

// Metrics implements storage.Log.
func (l *Log) Metrics() storage.LogMetrics {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := storage.LogMetrics{WriteCount: l.writes, WriteBytes: l.bytes, SyncCount: l.syncs}
	for _, s := range l.segments {
		m.SegmentCount++
		m.SizeBytes += s.size
		if s.live > 0 {
			m.PinnedBytes += s.size
		}
	}
	for _, r := range l.retired {
		m.SegmentCount++
		m.SizeBytes += r.segment.size
	}
	for _, s := range l.free {
		m.SegmentCount++
		m.SizeBytes += s.size
	}
	m.AsideBytes = l.aside.bytes
	m.OldestPinning = l.oldestPinning()
	return m
}

// oldestPinning is the group whose first entry is in the oldest segment of all, but for those that are set aside.
func (l *Log) oldestPinning() (oldest consensus.GroupID) {
	var generation uint64
	for _, id := range l.groupIDs() {
		g := l.groups[id]
		if id != nodeGroup && !l.aside.has(id) && len(g.slots) > 0 && (oldest == 0 || g.slots[0].segment.generation < generation) {
			oldest, generation = id, g.slots[0].segment.generation
		}
	}
	return oldest
}

// Close implements storage.Log. It leaves a last record that proves that everything before it was
// durable, so that the next Open can tell damage at the very end from a torn write.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if l.failed == nil {
		err = l.seal()
		l.failed = fmt.Errorf("%w: the log in %s", storage.ErrClosed, l.options.Dir)
	}
	l.abandon()
	l.jobs.Wait()
	return errors.Join(err, l.closeFiles(), l.lock.Close())
}

func (l *Log) seal() error {
	head := l.head()
	if err := head.file.SyncData(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", head.path, err)
	}
	record := l.appendCompactions(make([]byte, recordHeaderBytes))
	if head.end+recordBytes(len(record)-recordHeaderBytes) > head.size || l.writes == 0 && len(record) == recordHeaderBytes {
		return nil
	}
	l.synced = l.sequence
	if _, err := l.place(record); err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	if err := head.file.SyncData(); err != nil {
		return fmt.Errorf("wal: sync %s: %w", head.path, err)
	}
	return nil
}

func (l *Log) closeFiles() error {
	var problems []error
	for _, s := range slices.Concat(l.segments, l.free) {
		problems = append(problems, s.file.Close())
	}
	for _, r := range l.retired {
		problems = append(problems, r.segment.file.Close())
	}
	if s := l.next.segment; s != nil {
		problems = append(problems, s.file.Close())
	}
	return errors.Join(problems...)
}
