package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// Damage is what a disk does to data that was written and synced. The real log and engine have checksums, so
// what is rotten is found when it is read, by storage.ErrCorrupt, and never read as something else.
//
// A sync that lies need not be found by anybody (see "What remains" in docs/decisions/0012-lost-replicas.md): a vote that vanished without a
// witness is not noticed. So the node does not go on with what it forgot: if an honest sync comes before the crash nothing was
// lost; if not, it gets new disks. A disk that comes back as it was at an earlier time is noticed
// where the others know that it was further: see fault_stale.go. A disk that was replaced comes back, too: it is refused because of its ID.
//
// A node that is damaged serves as long as it can. Once it stops, or everything is healed, it gets new disks; see repair.go.
type damage struct {
	// why says what happened to the node's data; "": it is whole.
	why string
	// rows and entries are rotten.
	rows    map[string]struct{}
	entries []rottenEntry
	// unreadable are rows that cannot be read for a while, though nothing is wrong with them.
	unreadable []storage.Span
	// lasting: the next process cannot read them either.
	lasting bool
	lying   bool // syncs say that they are done, and do nothing
	lied    bool // and one has done so since the last honest one
	wiped   bool // the disks are as they should be, but taken away
	former  bool // the disks are as they should be, but others have taken their place, or the node was further once
	stale   bool // of those: the disks are an older image of themselves
}

// rottenEntry is one in the log of a group.
type rottenEntry struct {
	group consensus.GroupID
	index consensus.Index
}

func (w *world) injectDamage(f *Fault, n *node, random *rand.Rand) bool {
	switch f.Kind {
	case FaultRotState:
		w.rotRows(n, w.group(f.Shard), random, 1+int(f.Amount), "bit rot in the state")
	case FaultRotLog:
		w.rotEntries(n, w.group(f.Shard), random, "bit rot in the log")
	case FaultMisdirected:
		// One place holds what belongs elsewhere, and elsewhere is missing it: two wrong records.
		if random.IntN(2) == 0 {
			w.rotRows(n, w.group(f.Shard), random, 2, "a misdirected write in the state")
		} else {
			w.rotEntries(n, w.group(f.Shard), random, "a misdirected write in the log")
			w.rotEntries(n, w.group(f.Shard), random, "a misdirected write in the log")
		}
	case FaultLyingSync:
		if w.plan.Engine == Memory && w.mayDamage(n, "its disk lied about syncs") {
			n.damage.lying = true
			w.undo(f, func() { n.damage.lying = false })
		}
	default:
		return w.injectLoss(f, n)
	}
	return true
}

// rotRows lets some rows of the group's state rot, or, if there is only one group, of the node's.
func (w *world) rotRows(n *node, g *group, random *rand.Rand, count int, why string) {
	if d, real := n.disks.(*pebbleDisks); real {
		w.rotFile(n, d, random, why)
		return
	}
	d, ok := n.disks.(*memoryDisks)
	if !ok || !n.up {
		return
	}
	var rows [][]byte
	spans := []storage.Span{{}}
	if len(w.groups) > 1 {
		spans = keys.Spans(g.id)
	}
	var err error
	for _, s := range spans {
		it := d.engine.NewIterator(s.Lower, s.Upper)
		for ok := it.First(); ok; ok = it.Next() {
			rows = append(rows, bytes.Clone(it.Key()))
		}
		err = errors.Join(err, it.Error(), it.Close())
	}
	if err != nil || len(rows) == 0 || !w.mayDamage(n, why) {
		return
	}
	if n.damage.rows == nil {
		n.damage.rows = map[string]struct{}{}
	}
	for range count {
		n.damage.rows[string(rows[random.IntN(len(rows))])] = struct{}{}
	}
}

// rotEntries lets an entry of the group's log rot.
func (w *world) rotEntries(n *node, g *group, random *rand.Rand, why string) {
	d, ok := n.disks.(*memoryDisks)
	if !ok || !n.up {
		return
	}
	if g.of(n) == nil {
		return
	}
	id := consensus.GroupID(g.id)
	log := d.log.Group(id)
	first, last := log.First(), log.Last()
	if first > last || !w.mayDamage(n, why) {
		return
	}
	n.damage.entries = append(n.damage.entries, rottenEntry{id, first + consensus.Index(random.Uint64N(uint64(last-first)+1))})
}

func (d *damage) row(key []byte) error {
	if _, rotten := d.rows[string(key)]; rotten {
		return fmt.Errorf("%w: the checksum of the row at key %x does not match", storage.ErrCorrupt, key)
	}
	return nil
}

// between finds rotten rows in spans.
func (d *damage) between(spans []storage.Span) error {
	for key := range d.rows { // which one it names does not matter to anybody but readers
		for _, s := range spans {
			if key >= string(s.Lower) && key < string(s.Upper) {
				return fmt.Errorf("%w: the checksum of a row does not match", storage.ErrCorrupt)
			}
		}
	}
	return nil
}

// log finds rotten entries.
func (d *damage) log(group consensus.GroupID, lo, hi consensus.Index) error {
	for _, e := range d.entries {
		if e.group == group && e.index >= lo && e.index < hi {
			return fmt.Errorf("%w: the checksum of the record of entry %d does not match", storage.ErrCorrupt, e.index)
		}
	}
	return nil
}

// rottenLog is a group's log with rotten entries.
type rottenLog struct {
	storage.GroupLog
	group  consensus.GroupID
	damage *damage
}

func (l rottenLog) Entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	entries, err := l.GroupLog.Entries(lo, hi, maxBytes)
	if err == nil && len(entries) > 0 {
		err = l.damage.log(l.group, lo, entries[len(entries)-1].Index+1)
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

func (e *simEngine) Get(key, dst []byte) ([]byte, bool, error) {
	if err := e.node.damage.read(key); err != nil {
		return dst, false, err
	}
	return e.Engine.Get(key, dst)
}

func (e *simEngine) NewIterator(lower, upper []byte) storage.Iterator {
	return e.node.damage.iterator(e.Engine.NewIterator(lower, upper))
}

func (d *damage) iterator(it storage.Iterator) storage.Iterator {
	if len(d.rows) == 0 && d.unreadable == nil {
		return it
	}
	return &rottenIterator{Iterator: it, damage: d}
}

func (e *simEngine) NewSnapshot() storage.Snapshot {
	s := e.Engine.NewSnapshot()
	if d := &e.node.damage; len(d.rows) > 0 || d.unreadable != nil {
		s = &rottenSnapshot{s, &e.node.damage}
	}
	return &slowSnapshot{s, e.node}
}

func (e *simEngine) Export(ctx context.Context, s storage.Snapshot, spans []storage.Span, dir string, progress func(int64)) ([]string, error) {
	s = s.(*slowSnapshot).Snapshot
	if rotten, ok := s.(*rottenSnapshot); ok {
		s = rotten.Snapshot
	}
	if err := e.node.damage.readable(spans); err != nil {
		return nil, err
	}
	return e.Engine.Export(ctx, s, spans, dir, progress)
}

type rottenSnapshot struct {
	storage.Snapshot
	damage *damage
}

func (s *rottenSnapshot) Get(key, dst []byte) ([]byte, bool, error) {
	if err := s.damage.read(key); err != nil {
		return dst, false, err
	}
	return s.Snapshot.Get(key, dst)
}

func (s *rottenSnapshot) NewIterator(lower, upper []byte) storage.Iterator {
	return s.damage.iterator(s.Snapshot.NewIterator(lower, upper))
}

// rottenIterator stops at a rotten row.
type rottenIterator struct {
	storage.Iterator
	damage *damage
	err    error
}

func (it *rottenIterator) settle(found bool) bool {
	if it.err == nil && found {
		it.err = it.damage.read(it.Iterator.Key())
	}
	return found && it.err == nil
}

func (it *rottenIterator) First() bool            { return it.settle(it.Iterator.First()) }
func (it *rottenIterator) Last() bool             { return it.settle(it.Iterator.Last()) }
func (it *rottenIterator) SeekGE(key []byte) bool { return it.settle(it.Iterator.SeekGE(key)) }
func (it *rottenIterator) SeekLT(key []byte) bool { return it.settle(it.Iterator.SeekLT(key)) }
func (it *rottenIterator) Next() bool             { return it.settle(it.Iterator.Next()) }
func (it *rottenIterator) Prev() bool             { return it.settle(it.Iterator.Prev()) }
func (it *rottenIterator) Valid() bool            { return it.err == nil && it.Iterator.Valid() }
func (it *rottenIterator) Error() error           { return errors.Join(it.err, it.Iterator.Error()) }
