package watch

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/kv"
)

// mergers are those that some watch needs, one for a set of shards. Guarded by the hub's lock.
type mergers struct {
	hub    *Hub
	byKey  map[string]*merger
	allKey string // of the set of all shards
	key    []byte // scratch
}

func newMergers(h *Hub) mergers {
	l := mergers{hub: h, byKey: map[string]*merger{}}
	for _, s := range h.inOrder {
		l.key = appendID(l.key, s.id)
	}
	l.allKey = string(l.key)
	return l
}

func appendID(key []byte, id kv.ShardID) []byte { return binary.AppendUvarint(key, uint64(id)) }

// find returns the merger of the shards, or of all if there are enough mergers; or nil and what makes it.
func (l *mergers) find(shards []*Shard) (m *merger, open func() *feed) {
	all := l.hub.inOrder
	l.key = l.key[:0]
	for _, s := range shards {
		l.key = appendID(l.key, s.id)
	}
	if len(shards) == len(all) { // in whatever order
		l.key = append(l.key[:0], l.allKey...)
	}
	m = l.byKey[string(l.key)]
	if m == nil && len(l.byKey) >= l.hub.options.MaxMergers {
		shards, l.key = all, append(l.key[:0], l.allKey...)
		m = l.byKey[l.allKey]
	}
	key := string(l.key)
	return m, func() *feed {
		m := newMerger(l.hub, key, shards)
		l.byKey[key] = m
		return &m.feed
	}
}

// drop ends a merger that nobody needs any more.
func (l *mergers) drop(m *merger) {
	delete(l.byKey, m.key)
	m.drop()
}
