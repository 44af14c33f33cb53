package mvcc

import (
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// merge walks the newest metas of an interval of keys, in key order, over all layers.
type merge struct {
	active, frozen cursor[dirtyMeta]
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

func (m *merge) head(c *cursor[dirtyMeta]) (string, bool) {
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
	active, inActive := m.head(&m.active)
	frozen, inFrozen := m.head(&m.frozen)
	least := active
	if !inActive || inFrozen && frozen < least {
		least = frozen
	}
	if m.engineValid {
		key := keys.UserKey(m.engine.Key())
		if !inActive && !inFrozen || text(key) < least {
			m.key, m.enginePassed = key, true
			row, _, err = parseLatestRow(key, m.engine.Value())
			return row, err == nil, err
		}
		m.enginePassed = text(key) == least
	} else if err := m.engine.Error(); err != nil || !inActive && !inFrozen {
		return latest{}, false, err
	}
	m.keyBuffer = append(m.keyBuffer[:0], least...)
	m.key = m.keyBuffer
	if inFrozen && frozen == least {
		m.dirty = &m.frozen.entry().value
		m.frozen.next()
	}
	if inActive && active == least {
		m.dirty = &m.active.entry().value
		m.active.next()
	}
	return m.dirty.latest, true, nil
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
