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

	writes, bytes, syncs int64
}

// retired is a segment that nobody needs, but that the records on disk still count on until
// the record `after`, which says otherwise, is durable.
type retired struct {
	segment *segment
	after   uint64
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
	l := &Log{options: o, lock: lock, groups: map[consensus.GroupID]*group{}, cache: cache{limit: o.CacheBytes}}
	if err := l.recover(); err != nil {
		l.abandon()
		l.jobs.Wait()
		return nil, errors.Join(err, l.closeFiles(), lock.Close())
	}
	return l, nil
}

// Recovery tells what Open found.
func (l *Log) Recovery() Recovery { return l.recovery }

// Err is what stopped the log; nil while it works.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

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
	return l.groupIDs()
}

func (l *Log) groupIDs() []consensus.GroupID {
	ids := make([]consensus.GroupID, 0, len(l.groups))
	for id := range l.groups {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Write implements storage.Log.
func (l *Log) Write(appends []storage.GroupAppend) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if len(appends) == 0 {
		return nil
	}
	parts := l.parts[:0]
	for i := range appends {
		if err := l.validate(&appends[i]); err != nil {
			return l.fail(err)
		}
		parts = append(parts, newPart(&appends[i]))
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

func (l *Log) validate(a *storage.GroupAppend) error {
	if g := l.groups[a.Group]; g != nil {
		return storage.ValidateAppend(a, g.before.Index+1, g.last())
	}
	return storage.ValidateAppend(a, 1, 0)
}

func newPart(a *storage.GroupAppend) part {
	p := part{group: a.Group, reset: a.Reset, truncateFrom: a.TruncateFrom, hardState: a.HardState}
	if len(a.Entries) > 0 {
		p.entries = make([]entry, len(a.Entries))
		for i := range a.Entries {
			p.entries[i].Entry = a.Entries[i]
		}
	}
	return p
}

// appendCompactions says where the logs of groups begin now, if the disk does not know yet.
func (l *Log) appendCompactions(buffer []byte) []byte {
	for _, id := range l.compacted {
		if g := l.groups[id]; g != nil && g.compacted {
			g.compacted = false
			buffer = appendPart(buffer, recordHeaderBytes, &part{group: id, compact: &g.before})
		}
	}
	l.compacted = l.compacted[:0]
	return buffer
}

// write appends one record with the parts and brings the index up to date.
func (l *Log) write(parts []part) error {
	buffer := append(l.buffer[:0], make([]byte, recordHeaderBytes)...)
	buffer = l.appendCompactions(buffer)
	for i := range parts {
		buffer = appendPart(buffer, recordHeaderBytes, &parts[i])
	}
	size := recordBytes(len(buffer) - recordHeaderBytes)
	if size > maxSegmentBytes/2 {
		return fmt.Errorf("one write of %d bytes is too large", size)
	}
	if head := l.head(); head.end+size > head.size {
		if err := l.nextSegment(); err != nil {
			return err
		}
	}
	offset, err := l.place(buffer)
	if err != nil {
		return err
	}
	if cap(buffer) <= maxKeptBuffer {
		l.buffer = buffer[:0]
	} else {
		l.buffer = nil
	}
	return l.apply(parts, offset)
}

// maxKeptBuffer bounds the memory that an exceptionally large write leaves behind.
const maxKeptBuffer = 4 << 20

// place writes the record, whose payload is in the buffer, at the end of the head.
func (l *Log) place(buffer []byte) (offset int64, err error) {
	head := l.head()
	r := record{sequence: l.sequence + 1, synced: l.synced, oldest: l.segments[0].generation}
	buffer = seal(buffer, head.generation, r)
	if _, err := head.file.WriteAt(buffer, head.end); err != nil {
		return 0, fmt.Errorf("write to %s: %w", head.path, err)
	}
	offset = head.end
	l.sequence++
	head.end += int64(len(buffer))
	head.size = max(head.size, head.end) // a record larger than a segment makes the file grow
	l.writes++
	l.bytes += int64(len(buffer))
	l.pace()
	return offset, nil
}

// apply brings the index up to date with the record at the offset of the head.
func (l *Log) apply(parts []part, offset int64) error {
	for i := range parts {
		p := &parts[i]
		if p.drop {
			l.drop(p.group)
			continue
		}
		g := l.groups[p.group]
		if g == nil {
			g = &group{id: p.group}
			l.groups[p.group] = g
		}
		if err := g.apply(p, l.head(), offset+recordHeaderBytes, l.sequence, true); err != nil {
			return err
		}
		for j := range p.entries {
			l.cache.add(g, p.entries[j].Index, len(p.entries[j].Data))
		}
	}
	l.cache.evict()
	return nil
}

func (l *Log) drop(id consensus.GroupID) {
	if g := l.groups[id]; g != nil {
		g.clear(l.sequence)
		delete(l.groups, id)
	}
}

func (l *Log) head() *segment { return l.segments[len(l.segments)-1] }

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

// durable notes that the records up to the number are on disk, and lets segments go.
func (l *Log) durable(until uint64) {
	l.synced = max(l.synced, until)
	l.retire()
}

// retire takes segments that no group needs from the front. Only from the front: a later
// record may say that an entry in an earlier segment no longer counts.
func (l *Log) retire() {
	for len(l.segments) > 1 {
		s := l.segments[0]
		if s.live > 0 || s.emptySince > l.synced || s == l.syncing {
			break
		}
		l.segments = slices.Delete(l.segments, 0, 1)
		l.retired = append(l.retired, retired{s, l.sequence + 1})
	}
	for len(l.retired) > 0 && l.retired[0].after <= l.synced && l.retired[0].segment != l.syncing && l.retired[0].segment.readers == 0 {
		l.recycle(l.retired[0].segment)
		l.retired = slices.Delete(l.retired, 0, 1)
	}
}

// recycle keeps the segment for later, or removes the file if there are enough.
func (l *Log) recycle(s *segment) {
	if s.size == l.options.SegmentBytes && len(l.free) < l.options.SpareSegments {
		l.free = append(l.free, s)
		return
	}
	l.job(func() {
		if err := errors.Join(s.file.Close(), l.options.FS.Remove(s.path)); err != nil {
			l.problem(fmt.Errorf("wal: remove the surplus segment %s: %w", s.path, err))
		}
	})
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
	m.OldestPinning = l.oldestPinning()
	return m
}

// oldestPinning is the group whose first entry is in the oldest segment of all.
func (l *Log) oldestPinning() (oldest consensus.GroupID) {
	var generation uint64
	for _, id := range l.groupIDs() {
		g := l.groups[id]
		if len(g.slots) > 0 && (oldest == 0 || g.slots[0].segment.generation < generation) {
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

// nextSegment makes the prepared segment the head.
func (l *Log) nextSegment() error {
	old := l.head()
	if err := old.file.SyncData(); err != nil {
		return fmt.Errorf("sync %s: %w", old.path, err)
	}
	l.syncs++
	l.durable(l.sequence)
	s, err := l.takePrepared()
	if err != nil {
		return err
	}
	return l.activate(s)
}

// activate writes into the segment from now on. Its first record says for every group where its
// log begins and what its hard state is, so that no earlier segment is needed for that.
func (l *Log) activate(s *segment) error {
	l.segments = append(l.segments, s)
	var parts []part
	for _, id := range l.groupIDs() {
		g := l.groups[id]
		before, hs := g.before, g.hardState
		g.compacted = false
		parts = append(parts, part{group: id, compact: &before, hardState: &hs})
	}
	l.compacted = l.compacted[:0]
	buffer := make([]byte, recordHeaderBytes)
	for i := range parts {
		buffer = appendPart(buffer, recordHeaderBytes, &parts[i])
	}
	if _, err := l.place(buffer); err != nil {
		return err
	}
	l.retire()
	l.prepare()
	return nil
}

// cache remembers in which order entries came into memory, and lets the oldest go.
type cache struct {
	limit, bytes int
	items        []cached // a queue: items[first:]
	first        int
}

type cached struct {
	group *group
	index consensus.Index
	bytes int
}

func (c *cache) add(g *group, index consensus.Index, bytes int) {
	bytes += 64 // what an entry costs beside its data
	c.items = append(c.items, cached{g, index, bytes})
	c.bytes += bytes
}

func (c *cache) evict() {
	for c.bytes > c.limit {
		item := c.items[c.first]
		c.items[c.first] = cached{}
		c.first++
		c.bytes -= item.bytes
		if s := item.group.slot(item.index); s != nil {
			s.data = nil
		}
	}
	if c.first > 1024 && c.first > len(c.items)/2 {
		c.items = append(c.items[:0], c.items[c.first:]...)
		c.first = 0
	}
}
