package mvcc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// A value of up to Options.ByKeyBytes is on disk once. As long as its version is the newest of the key, it is in the row by key, or in memory
// and in the log while that row is not written yet; lists read it there. When a newer version takes that place, the value moves behind the row of
// its own version: Apply puts it there if it is still in memory, FlushChunk if it is in the row that the flush replaces. In either case
// both rows change in one batch, so that one of them has it at every moment.

// keepsByKey tells whether the value of the effect is kept by key.
func (o *Options) keepsByKey(e *Effect) bool {
	return e.Version != 0 && len(e.Value) > 0 && len(e.Value) <= o.ByKeyBytes
}

// dirtyValue returns the value of a version that is in memory.
func (r *Reader) dirtyValue(key []byte, at Locator) ([]byte, bool) {
	return dirtyValue(key, at, &r.active, &r.frozen)
}

func dirtyValue(key []byte, at Locator, active, frozen *tree[dirtyMeta]) ([]byte, bool) {
	for _, t := range [...]*tree[dirtyMeta]{active, frozen} {
		if e, ok := t.get(text(key)); ok && e.value.byKey && e.value.At == at {
			return e.value.value, true
		}
	}
	return nil, false
}

// valueByKey reads the row by key, if it is of the version.
func (r *Reader) valueByKey(key []byte, at Locator) ([]byte, bool, error) {
	row, found, err := r.source.Get(keys.AppendRow(nil, r.options.Rows.Home, keys.Value, key), nil)
	if err != nil || !found {
		return nil, false, err
	}
	of, value, err := parseValueRow(key, row)
	return value, err == nil && of == at, err
}

// newestValue looks for the value of a version that is or was the newest of its key, where it is without having moved.
func (r *Reader) newestValue(key []byte, at Locator) ([]byte, bool, error) {
	if value, ok := r.dirtyValue(key, at); ok {
		return value, true, nil
	}
	return r.valueByKey(key, at)
}

// movedValue reads the value behind a version row.
func (r *Reader) movedValue(at Locator) ([]byte, bool, error) {
	return r.source.Get(r.appendVersionValueKey(nil, at), nil)
}

// fill reads the value of a version that does not have it in its row.
func (r *Reader) fill(v *version) error {
	if !v.byKey {
		return nil
	}
	value, ok, err := r.newestValue(v.key, v.at)
	if err == nil && !ok {
		value, ok, err = r.movedValue(v.at)
	}
	return v.filled(value, ok, err)
}

func (v *version) filled(value []byte, ok bool, err error) error {
	switch {
	case err != nil:
		return err
	case !ok || len(value) != int(v.valueLen):
		return fmt.Errorf("the value of version %d.%d of key %q, of %d bytes, is not there: %w", v.at.Rev, v.at.Sub, v.key, v.valueLen, storage.ErrCorrupt)
	}
	v.value, v.byKey = value, false
	return nil
}

// unwritten are the keys of the map of a flush in progress that are not written yet.
func (r *Reader) unwritten() cursor[dirtyMeta] {
	c := r.frozen.seek(r.flushedTo)
	if c.valid() && r.flushedTo != "" && c.entry().key == r.flushedTo {
		c.next()
	}
	return c
}

// pendingValues are versions whose value is neither in their row nor behind it, put off so that what is by key is read in key order.
type pendingValues struct {
	reader   *Reader
	versions []pendingValue
	arena    arena
}

type pendingValue struct {
	version
	ref reference
}

// maxPendingValues bounds how many are put off.
const maxPendingValues = 4096

// add puts off a version; when there are many, all of them are given to fn.
func (p *pendingValues) add(v *version, ref reference, fn func(reference, *version) error) error {
	p.put(v, ref)
	if len(p.versions) < maxPendingValues {
		return nil
	}
	return p.resolve(fn)
}

func (p *pendingValues) put(v *version, ref reference) {
	own := *v
	own.key = p.arena.copy(v.key)
	p.versions = append(p.versions, pendingValue{own, ref})
}

// resolve gives all of them to fn, in key order, with their values. What it gives is valid only during the call.
func (p *pendingValues) resolve(fn func(reference, *version) error) error {
	if len(p.versions) == 0 {
		return nil
	}
	order := p.inKeyOrder()
	first, last := p.versions[order[0]].key, p.versions[order[len(order)-1]].key
	rows := newValueCursor(p.reader, first, append(slices.Clone(last), 0))
	defer rows.close()
	for _, i := range order {
		v := &p.versions[i]
		value, ok := p.reader.dirtyValue(v.key, v.at)
		if !ok {
			var err error
			if value, ok, err = rows.value(v.key, v.at); err != nil {
				return err
			}
		}
		if err := v.filled(value, ok, nil); err != nil {
			return err
		}
		if err := fn(v.ref, &v.version); err != nil {
			return err
		}
	}
	p.versions, p.arena = p.versions[:0], arena{}
	return nil
}

// inKeyOrder are the places of the versions in the order of their keys: places are moved more quickly than versions.
func (p *pendingValues) inKeyOrder() []int32 {
	order := make([]int32, len(p.versions))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(text(p.versions[a].key), text(p.versions[b].key)) })
	return order
}

// valueCursor reads value rows in key order.
type valueCursor struct {
	rows  storage.Iterator
	home  keys.Lineage
	begun bool
	key   []byte
}

func newValueCursor(r *Reader, lower, upper []byte) *valueCursor {
	return &valueCursor{rows: r.source.NewIterator(r.bounds(keys.Value, lower, upper)), home: r.options.Rows.Home}
}

func (c *valueCursor) close() { c.rows.Close() }

// find returns the row of a key, which is not before the one asked for last. The value is valid until the next call.
func (c *valueCursor) find(key []byte) (of Locator, value []byte, ok bool, err error) {
	c.key = keys.AppendRow(c.key[:0], c.home, keys.Value, key)
	found := seekForward(c.rows, c.key, !c.begun)
	c.begun = true
	if !found {
		return Locator{}, nil, false, c.rows.Error()
	}
	of, value, err = parseValueRow(key, c.rows.Value())
	return of, value, err == nil, err
}

// value returns the value of a version, if the row has it.
func (c *valueCursor) value(key []byte, at Locator) (value []byte, ok bool, err error) {
	of, value, ok, err := c.find(key)
	return value, ok && of == at, err
}
