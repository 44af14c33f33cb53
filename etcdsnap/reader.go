package etcdsnap

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// Reader reads a snapshot.
type Reader struct {
	pages   *pages
	buckets map[string][]byte // by name: where its rows are
	// Hash is the SHA-256 of the file.
	Hash []byte
	// Compacted is where the history is compacted; 0: it never was. What was live there is in it, and may be something that was not.
	Compacted kv.Revision
	// AuthEnabled: users have to log in. AuthRevision counts the changes of users and roles; 0: there is none.
	AuthEnabled  bool
	AuthRevision uint64
}

// sectorSize divides the size of a page: what is left over is a hash (hasChecksum of etcdutl).
const sectorSize = 512

// Open looks at a snapshot of so many bytes: whether it is whole, and what it is. skipHash: it need not have a hash, and that is not compared.
func Open(file io.ReaderAt, size int64, skipHash bool) (*Reader, error) {
	hashed := size%sectorSize == HashSize
	if hashed {
		size -= HashSize
	}
	r := &Reader{buckets: make(map[string][]byte)}
	sum := sha256.New()
	_, err := io.Copy(sum, io.NewSectionReader(file, 0, size))
	if err != nil {
		return nil, fmt.Errorf("read the snapshot: %w", err)
	}
	r.Hash = sum.Sum(nil)
	if !skipHash {
		if err := r.checkHash(file, size, hashed); err != nil {
			return nil, err
		}
	}
	if r.pages, err = openPages(file, size); err != nil {
		return nil, err
	}
	if err := r.loadBuckets(); err != nil {
		return nil, err
	}
	return r, r.loadMeta()
}

func (r *Reader) checkHash(file io.ReaderAt, size int64, hashed bool) error {
	if !hashed {
		if _, err := openPages(file, size); err != nil {
			return err // the better reason
		}
		return fmt.Errorf("%w: it is a copy of a store, perhaps (member/snap/db), or was cut off; --skip-hash-check takes it as it is", ErrNoHash)
	}
	var found [HashSize]byte
	if _, err := file.ReadAt(found[:], size); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the snapshot's hash: %w", err)
	}
	if !bytes.Equal(r.Hash, found[:]) {
		return fmt.Errorf("%w (%x, and %x behind it); take another one", ErrWrongHash, r.Hash[:8], found[:8])
	}
	return nil
}

func (r *Reader) loadBuckets() error {
	w := &walk{pages: r.pages, fn: func(e element) error {
		if e.flags&leafBucket == 0 {
			return damagedf("a row is outside of all buckets")
		}
		r.buckets[string(e.key)] = bytes.Clone(e.value)
		return nil
	}}
	if err := w.page(r.pages.root, 0); err != nil {
		return err
	}
	for _, name := range []string{bucketKey, bucketMeta} {
		if r.buckets[name] == nil {
			return fmt.Errorf("%w: it is a file of bbolt without the bucket %q", ErrNotBolt, name)
		}
	}
	return nil
}

// each gives the rows of a bucket to fn; none if there is no such bucket.
func (r *Reader) each(bucket string, fn func(key, value []byte) error) error {
	where := r.buckets[bucket]
	if where == nil {
		return nil
	}
	return r.pages.rows(where, func(e element) error {
		if e.flags&leafBucket != 0 {
			return damagedf("bucket %q has buckets", bucket)
		}
		return fn(e.key, e.value)
	})
}

func (r *Reader) loadMeta() error {
	err := r.each(bucketMeta, func(key, value []byte) error {
		switch string(key) {
		case rowScheduled, rowFinished:
			rev, _, _, err := parseRevision(value)
			if err != nil {
				return damagedf("%s: %v", key, err)
			}
			r.Compacted = max(r.Compacted, rev)
		case rowStorageVersion:
			return checkVersion(string(value))
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = r.each(bucketAuth, func(key, value []byte) error {
		switch {
		case string(key) == rowAuthEnabled:
			r.AuthEnabled = bytes.Equal(value, []byte{1})
		case string(key) == rowAuthRevision && len(value) == 8:
			r.AuthRevision = binary.BigEndian.Uint64(value)
		}
		return nil
	})
	return err
}

// checkVersion refuses a schema above StorageVersion. None is that of etcd 3.5 or before.
func checkVersion(text string) error {
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	switch {
	case err1 != nil || err2 != nil:
		return damagedf("%q is no version of etcd's storage", text)
	case a > 3 || a == 3 && b > 7:
		return fmt.Errorf("%w: version %s of its storage, and this version of Quorate reads up to %s", ErrNewer, text, StorageVersion)
	}
	return nil
}

// Versions gives all versions to fn, in the order of the history, and returns the greatest revision. A version is valid only during the call. After a
// compaction that was interrupted there may be some that were not live where history is compacted.
func (r *Reader) Versions(fn func(*Version) error) (last kv.Revision, err error) {
	last = max(1, r.Compacted)
	var v Version
	err = r.each(bucketKey, func(key, value []byte) error {
		rev, position, tombstone, err := parseRevision(key)
		if err != nil {
			return damagedf("%v", err)
		}
		if v.KeyValue, err = parseKeyValue(value); err != nil {
			return damagedf("the version at %d.%d: %v", rev, position, err)
		}
		last = max(last, rev)
		if len(v.Key) == 0 {
			return nil // of a restore that raised the revision
		}
		v.Position, v.Deleted = position, tombstone
		if tombstone {
			v.KeyValue = kv.KeyValue{Key: v.Key, ModRevision: rev}
		}
		if rev < 2 || v.ModRevision != rev || !tombstone && (v.Version < 1 || v.CreateRevision < 2 || v.CreateRevision > rev) {
			return damagedf("the version at %d.%d makes no sense: %d of its key, created at %d, changed at %d",
				rev, position, v.Version, v.CreateRevision, v.ModRevision)
		}
		return fn(&v)
	})
	return last, err
}

// Leases gives all leases to fn.
func (r *Reader) Leases(fn func(kv.Lease) error) error {
	return r.each(bucketLease, func(key, value []byte) error {
		l, err := parseLease(value)
		if err != nil || len(key) != 8 || l.ID == 0 || l.TTLSeconds < 1 {
			return damagedf("the lease %x makes no sense", key)
		}
		return fn(l)
	})
}
