package storage

import "bytes"

type changeKind uint8

const (
	changeSet changeKind = iota
	changeDelete
	changeDeleteRange // key is the lower bound, value the upper
)

type change struct {
	kind       changeKind
	key, value []byte
}

// memoryBatch copies what it is given, as the engine on disk does.
type memoryBatch struct {
	changes []change
	bytes   int
}

func (b *memoryBatch) Set(key, value []byte) { b.add(changeSet, key, value) }
func (b *memoryBatch) Delete(key []byte)     { b.add(changeDelete, key, nil) }

func (b *memoryBatch) DeleteRange(lower, upper []byte) {
	if bytes.Compare(lower, upper) < 0 {
		b.add(changeDeleteRange, lower, upper)
	}
}

func (b *memoryBatch) add(kind changeKind, key, value []byte) {
	copied := make([]byte, len(key)+len(value))
	copy(copied, key)
	copy(copied[len(key):], value)
	b.changes = append(b.changes, change{kind, copied[:len(key):len(key)], copied[len(key):]})
	b.bytes += len(copied) + 1
}

func (b *memoryBatch) Count() int     { return len(b.changes) }
func (b *memoryBatch) SizeBytes() int { return b.bytes }
func (b *memoryBatch) Reset()         { b.changes, b.bytes = nil, 0 }
func (b *memoryBatch) Close()         { b.Reset() }
