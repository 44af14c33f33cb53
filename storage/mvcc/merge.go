package mvcc

import (
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// merge walks the newest metas of an interval of keys, in key order, over all layers.
type merge struct {
	active, frozen cursor[dirtyMeta]
	bulk           cursor[bulkKey]
	effects        *bulk     // whose keys those are
	pending        dirtyMeta // made of an effect
	engine         storage.Iterator
	engineValid    bool
	enginePassed   bool // what the engine's iterator is at was returned, or is hidden by what was
	upper          []byte
	key            []byte     // of the current row; valid until next
	dirty          *dirtyMeta // the current row, if it is not from the engine
	values         *valueCursor
	keyBuffer      []byte
}

func (r *Reader) newMerge(lower, upper []byte, values bool) *merge {
	m := &merge{active: r.active.seek(text(lower)), frozen: r.frozen.seek(text(lower)), upper: upper}
	if r.bulk.committed {
		m.bulk, m.effects = r.bulk.keys.seek(text(lower)), &r.bulk
	}
	m.engine = r.source.NewIterator(r.bounds(keys.Latest, lower, upper))
	m.engineValid = m.engine.First()
	if values {
		m.values = newValueCursor(r, lower, upper)
	}
	return m
}

func (m *merge) close() {
	m.engine.Close()
	if m.values != nil {
		m.values.close()
	}
}

// head returns the key that a cursor is at, if it is in the interval.
func head[V any](m *merge, c *cursor[V]) (string, bool) {
	if !c.valid() {
		return "", false
	}
	key := c.entry().key
	return key, m.upper == nil || key < text(m.upper)
}

// next returns the next latest row, written or not, and sets key. ok is false at the end.
func (m *merge) next() (row latest, ok bool, err error) {
	if m.enginePassed {
		m.engineValid, m.enginePassed = m.engine.Next(), false
	}
	m.dirty = nil
	for m.bulk.valid() && m.bulk.entry().value.applied {
		m.bulk.next()
	}
	least, dirty := m.least()
	if m.engineValid {
		key := keys.UserKey(m.engine.Key())
		if !dirty || text(key) < least {
			m.key, m.enginePassed = key, true
			row, _, err = parseLatestRow(key, m.engine.Value())
			return row, err == nil, err
		}
		m.enginePassed = text(key) == least
	} else if err := m.engine.Error(); err != nil || !dirty {
		return latest{}, false, err
	}
	m.keyBuffer = append(m.keyBuffer[:0], least...)
	m.key = m.keyBuffer
	m.pass(least)
	return m.dirty.latest, true, nil
}

// least is the least key that is in memory.
func (m *merge) least() (least string, found bool) {
	least, found = head(m, &m.active)
	if key, in := head(m, &m.frozen); in && (!found || key < least) {
		least, found = key, true
	}
	if key, in := head(m, &m.bulk); in && (!found || key < least) {
		least, found = key, true
	}
	return least, found
}

// pass moves what is at the key, and sets dirty to what counts.
func (m *merge) pass(least string) {
	if key, in := head(m, &m.frozen); in && key == least {
		m.dirty = &m.frozen.entry().value
		m.frozen.next()
	}
	if key, in := head(m, &m.active); in && key == least {
		m.dirty = &m.active.entry().value
		m.active.next()
	}
	if key, in := head(m, &m.bulk); in && key == least {
		m.pending = m.effects.effect(m.bulk.entry().value.last).asDirty()
		m.dirty = &m.pending
		m.bulk.next()
	}
}

// value returns the value of the version that next returned, if it is kept by key, or empty. It is valid until next.
func (m *merge) value(row *latest) (value []byte, ok bool, err error) {
	switch {
	case row.ValueLen == 0:
		return nil, true, nil
	case m.dirty != nil:
		return m.dirty.value, m.dirty.byKey, nil
	case m.values == nil:
		return nil, false, nil
	}
	return m.values.value(m.key, row.At)
}
