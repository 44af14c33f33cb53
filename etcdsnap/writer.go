package etcdsnap

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"

	"github.com/quoratedb/quorate/kv"
)

// MaxBytes is how large a snapshot may become: what etcd suggests as the greatest size of its store.
const MaxBytes = 8 << 30

// StorageVersion is the version of etcd's schema that is written, and the newest one that is read.
const StorageVersion = "3.7.0"

// HashSize is how many bytes of hash are behind the file.
const HashSize = sha256.Size

// A transaction of bbolt keeps in memory what it writes. These bound one.
const (
	maxBatchRows  = 10_000
	maxBatchBytes = 4 << 20
)

// Writer writes a snapshot into a file of its own, which is gone when the writer is closed.
type Writer struct {
	path     string
	maxBytes int64
	db       *bbolt.DB
	tx       *bbolt.Tx // the one under way; nil: none
	rows     int       // in it
	bytes    int
}

// Create begins a snapshot at a path where there is nothing yet. ErrTooLarge comes as soon as it has more than maxBytes.
func Create(path string, maxBytes int64) (*Writer, error) {
	// Nothing of it outlives the process that writes it, so nothing is synced.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		OpenFile: openNew})
	if err != nil {
		return nil, fmt.Errorf("begin a snapshot in %s: %w", path, err)
	}
	w := &Writer{path: path, maxBytes: maxBytes, db: db}
	for _, name := range append([]string{bucketKey, bucketMeta, bucketLease, "cluster"}, emptyBuckets...) {
		if err := w.write(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte(name)); return err }, len(name)); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// openNew refuses to create a file that is there.
func openNew(name string, flag int, mode os.FileMode) (*os.File, error) {
	if flag&os.O_CREATE != 0 {
		flag |= os.O_EXCL
	}
	return os.OpenFile(name, flag, mode)
}

// write has a row written, and ends the transaction under way if that has become large.
func (w *Writer) write(fn func(*bbolt.Tx) error, bytes int) (err error) {
	if w.tx == nil {
		if w.tx, err = w.db.Begin(true); err != nil {
			return fmt.Errorf("write a snapshot: %w", err)
		}
	}
	if err := fn(w.tx); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if w.rows, w.bytes = w.rows+1, w.bytes+bytes; w.rows < maxBatchRows && w.bytes < maxBatchBytes {
		return nil
	}
	return w.commit()
}

func (w *Writer) commit() error {
	if w.tx == nil {
		return nil
	}
	tx := w.tx
	w.tx, w.rows, w.bytes = nil, 0, 0
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	var size int64
	if err := w.db.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if size > w.maxBytes {
		return fmt.Errorf("%w: it takes more than %d MiB. Compact the history, which it holds whole, or copy the keys: etcdctl make-mirror does",
			ErrTooLarge, w.maxBytes>>20)
	}
	return nil
}

func (w *Writer) put(bucket string, key, value []byte) error {
	return w.write(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		b.FillPercent = 0.9 // rows come in their order
		return b.Put(key, value)
	}, len(key)+len(value))
}

// Put adds a version. Versions come in the order of the history.
func (w *Writer) Put(v *Version) error {
	// bbolt keeps what it is given until the transaction ends.
	return w.put(bucketKey, appendRevision(nil, v.ModRevision, v.Position, v.Deleted), appendKeyValue(nil, v))
}

// PutLease adds a lease.
func (w *Writer) PutLease(l kv.Lease) error {
	return w.put(bucketLease, binary.BigEndian.AppendUint64(nil, uint64(l.ID)), appendLease(nil, l))
}

// Finish says where the history is compacted (0: never), and ends the file.
func (w *Writer) Finish(compacted kv.Revision) error {
	one := binary.BigEndian.AppendUint64(nil, 1) // etcd takes 0 for unknown
	rows := []struct {
		bucket, key string
		value       []byte
	}{
		{bucketMeta, rowIndex, one}, {bucketMeta, rowTerm, one}, {bucketMeta, rowStorageVersion, []byte(StorageVersion)},
		{"cluster", rowClusterVersion, []byte(StorageVersion)},
	}
	if compacted > 0 {
		at := appendRevision(nil, compacted, 0, false)
		rows = append(rows, rows[0], rows[0])
		rows[len(rows)-2].key, rows[len(rows)-2].value = rowScheduled, at
		rows[len(rows)-1].key, rows[len(rows)-1].value = rowFinished, at
	}
	for _, r := range rows {
		if err := w.put(r.bucket, []byte(r.key), r.value); err != nil {
			return err
		}
	}
	return w.commit()
}

// Send gives the finished file to fn, piece by piece, and then its hash. left is how many bytes come behind a piece, without the hash. A piece is valid only
// during the call.
func (w *Writer) Send(pieceBytes int, fn func(piece []byte, left int64) error) error {
	tx, err := w.db.Begin(false)
	if err != nil {
		return fmt.Errorf("read a snapshot: %w", err)
	}
	defer tx.Rollback()
	out := &sender{left: tx.Size(), piece: make([]byte, 0, pieceBytes), fn: fn}
	hash := sha256.New()
	if _, err := tx.WriteTo(io.MultiWriter(hash, out)); err != nil {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	return fn(hash.Sum(nil), 0)
}

// sender cuts what is written into pieces.
type sender struct {
	left  int64
	piece []byte
	fn    func(piece []byte, left int64) error
}

func (s *sender) Write(p []byte) (n int, err error) {
	for n < len(p) {
		took := min(len(p)-n, cap(s.piece)-len(s.piece))
		s.piece = append(s.piece, p[n:n+took]...)
		if n += took; len(s.piece) == cap(s.piece) {
			if err := s.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (s *sender) flush() error {
	if len(s.piece) == 0 {
		return nil
	}
	s.left -= int64(len(s.piece))
	err := s.fn(s.piece, s.left)
	s.piece = s.piece[:0]
	return err
}

// Close removes the file.
func (w *Writer) Close() error {
	var errs []error
	if w.tx != nil {
		errs = append(errs, w.tx.Rollback())
		w.tx = nil
	}
	return errors.Join(append(errs, w.db.Close(), os.Remove(w.path))...)
}
