package backup

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// latest keeps the newest version of each key while versions go by in the order of the history. What it keeps is in an engine, so memory is bounded.
type latest struct {
	engine  storage.Engine
	batch   storage.Batch
	side    byte                   // the first byte of its keys there
	pending map[string]*latestInfo // in the batch
	bytes   int                    // of the keys of pending
}

// latestInfo is what is kept of a version.
type latestInfo struct {
	mod, create kv.Revision
	number      int64 // 0: a deletion
	valueBytes  int64
	sum         uint64       // see Digest
	hash        mvcc.HashSum // as the store has it
}

// What is written at once.
const (
	latestBatchRows  = 4096
	latestBatchBytes = 4 << 20
)

func newLatest(engine storage.Engine, side byte) *latest {
	return &latest{engine: engine, batch: engine.NewBatch(), side: side, pending: make(map[string]*latestInfo)}
}

func infoOf(v *Version) *latestInfo {
	var d Digest
	d.Add(v)
	return &latestInfo{mod: v.ModRevision, create: v.CreateRevision, number: v.Version, valueBytes: int64(len(v.Value)), sum: d.Sum, hash: mvcc.HashOf(&v.KeyValue, v.At())}
}

// digest is that of the version alone.
func (i *latestInfo) digest(key []byte) Digest {
	return Digest{Versions: 1, Bytes: int64(len(key)) + i.valueBytes, Sum: i.sum}
}

func (i *latestInfo) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(i.mod))
	b = binary.AppendUvarint(b, uint64(i.create))
	b = binary.AppendUvarint(b, uint64(i.number))
	b = binary.AppendUvarint(b, uint64(i.valueBytes))
	b = binary.AppendUvarint(b, i.sum)
	return binary.AppendUvarint(b, uint64(i.hash))
}

func decodeLatest(row []byte) (*latestInfo, error) {
	d := decoding{rest: row}
	n := func() uint64 { return d.uvarint(1<<64 - 1) }
	i := &latestInfo{mod: kv.Revision(n()), create: kv.Revision(n()), number: int64(n()), valueBytes: int64(n()), sum: n(), hash: mvcc.HashSum(n())}
	if d.failed || len(d.rest) > 0 {
		return nil, damagedf("the scratch store has a row that cannot be read")
	}
	return i, nil
}

// find gives the newest version of a key; nil if there was none.
func (l *latest) find(key []byte) (*latestInfo, error) {
	if i := l.pending[string(key)]; i != nil {
		return i, nil
	}
	row, found, err := l.engine.Get(append([]byte{l.side}, key...), nil)
	if err != nil || !found {
		return nil, err
	}
	return decodeLatest(row)
}

// put keeps a version.
func (l *latest) put(key []byte, i *latestInfo) error {
	l.batch.Set(append([]byte{l.side}, key...), i.append(nil))
	l.pending[string(key)] = i
	if l.bytes += len(key); len(l.pending) < latestBatchRows && l.bytes < latestBatchBytes {
		return nil
	}
	return l.write()
}

func (l *latest) write() error {
	err := l.engine.Apply(l.batch)
	l.batch.Reset()
	clear(l.pending)
	l.bytes = 0
	return err
}

func (l *latest) close() { l.batch.Close() }

// latestCursor goes through the keys that live, in their order.
type latestCursor struct {
	rows storage.Iterator
	key  []byte // nil: at the end
	info *latestInfo
}

// cursor begins at the first key. The caller closes it.
func (l *latest) cursor() (*latestCursor, error) {
	if err := l.write(); err != nil {
		return nil, err
	}
	c := &latestCursor{rows: l.engine.NewIterator([]byte{l.side}, []byte{l.side + 1})}
	return c, c.settle(c.rows.First())
}

func (c *latestCursor) next() error { return c.settle(c.rows.Next()) }

func (c *latestCursor) settle(ok bool) (err error) {
	for ; ok; ok = c.rows.Next() {
		if c.info, err = decodeLatest(c.rows.Value()); err != nil {
			return err
		}
		if c.info.number > 0 {
			c.key = c.rows.Key()[1:]
			return nil
		}
	}
	c.key, c.info = nil, nil
	return c.rows.Error()
}

func (c *latestCursor) close() { _ = c.rows.Close() } // it was only read
