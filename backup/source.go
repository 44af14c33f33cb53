package backup

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Source reads a chain of backups as the history of one store.
type Source struct {
	vault    *Vault
	chain    []*Backup
	keys     [][]*key // of each backup
	revision kv.Revision
	prefix   []byte
	held     map[kv.LeaseID]bool  // by keys that were given; nil: all leases are
	tap      func(*Version) error // nil: nobody listens
}

// Tap has fn see each version before it is given to whoever reads the history.
func (s *Source) Tap(fn func(*Version) error) { s.tap = fn }

// Source begins to read a chain: its history up to a revision, of the keys with a prefix. A revision that is not covered is refused.
func (v *Vault) Source(ctx context.Context, chain []*Backup, revision kv.Revision, prefix []byte) (*Source, error) {
	last := chain[len(chain)-1]
	if !last.covers(revision) {
		return nil, fmt.Errorf("%w: revision %d; backup %s has %s", ErrNotCovered, revision, last.ID, coverage(chain))
	}
	s := &Source{vault: v, chain: chain, revision: revision, prefix: prefix}
	for _, b := range chain {
		keys, err := v.keys(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", b.ID, err)
		}
		s.keys = append(s.keys, keys)
	}
	if len(prefix) > 0 {
		s.held = make(map[kv.LeaseID]bool)
	}
	return s, nil
}

// HistoryFrom is where the history begins.
func (s *Source) HistoryFrom() kv.Revision { return s.chain[0].HistoryFrom }

// Revision is where it ends.
func (s *Source) Revision() kv.Revision { return s.revision }

// ID says what is read: from the same backups the same is.
func (s *Source) ID() string {
	id := fmt.Sprintf("%d %q", s.revision, s.prefix)
	for _, b := range s.chain {
		id += " " + b.Sum
	}
	return id
}

// Versions gives the history to fn, in its order. position is that of the change within its revision, from 0 on. The version is fn's until it returns.
func (s *Source) Versions(ctx context.Context, fn func(v *Version, position int64) error) error {
	last, position := kv.Revision(0), int64(0)
	for i, b := range s.chain {
		err := s.vault.merge(ctx, b, s.keys[i], s.revision, func(v *Version) error {
			if !bytes.HasPrefix(v.Key, s.prefix) {
				return nil
			}
			if position++; v.ModRevision != last {
				last, position = v.ModRevision, 0
			}
			if s.held != nil && v.Lease != 0 {
				s.held[v.Lease] = true
			}
			if s.tap != nil {
				if err := s.tap(v); err != nil {
					return err
				}
			}
			return fn(v, position)
		})
		if err != nil {
			return fmt.Errorf("backup %s: %w", b.ID, err)
		}
	}
	return nil
}

// History, From and Granted are what is restored: see restore.Source.

// History is Versions, and tells the revision.
func (s *Source) History(ctx context.Context, fn func(v *kv.KeyValue, position int64) error) (kv.Revision, error) {
	return s.revision, s.Versions(ctx, func(v *Version, position int64) error { return fn(&v.KeyValue, position) })
}

// From is HistoryFrom; 0: the history is whole.
func (s *Source) From() kv.Revision {
	if from := s.HistoryFrom(); from > 1 {
		return from
	}
	return 0
}

// Granted is Leases.
func (s *Source) Granted(ctx context.Context, fn func(id kv.LeaseID, ttlSeconds int64) error) error {
	return s.Leases(ctx, func(l kv.Lease) error { return fn(l.ID, l.TTLSeconds) })
}

// Leases gives the leases that the last backup of the chain has to fn. With a prefix, after Versions, it gives those only that a version had.
func (s *Source) Leases(ctx context.Context, fn func(kv.Lease) error) error {
	last := len(s.chain) - 1
	return s.vault.leases(ctx, s.chain[last], s.keys[last], func(l kv.Lease) error {
		if s.held != nil && !s.held[l.ID] {
			return nil
		}
		return fn(l)
	})
}

func (v *Vault) leases(ctx context.Context, b *Backup, keys []*key, fn func(kv.Lease) error) error {
	for _, f := range b.Leases {
		r, err := v.readWhole(ctx, f, keys)
		if err != nil {
			return fmt.Errorf("backup %s: %w", b.ID, err)
		}
		for {
			_, lease, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil && lease == nil {
				err = damagedf("it has a version")
			}
			if err != nil {
				return fmt.Errorf("backup %s: %s: %w", b.ID, f.Name, err)
			}
			if err := fn(*lease); err != nil {
				return err
			}
		}
	}
	return nil
}

// minReadAhead is what is read of a file at once however many there are.
const minReadAhead = 256 << 10

// merge gives the versions of a backup in the order of the history, up to a revision.
func (v *Vault) merge(ctx context.Context, b *Backup, keys []*key, upTo kv.Revision, fn func(*Version) error) error {
	ahead := max(minReadAhead, v.options.ReadAheadBytes/max(1, len(b.Shards)))
	var shards merging
	for _, files := range b.Shards {
		s := &shardReader{vault: v, files: files.Files, keys: keys, ahead: ahead}
		if more, err := s.next(ctx); err != nil {
			return err
		} else if more {
			shards = append(shards, s)
		}
	}
	heap.Init(&shards)
	for len(shards) > 0 {
		s := shards[0]
		if s.version.ModRevision > upTo {
			return nil
		}
		if err := fn(s.version); err != nil {
			return err
		}
		more, err := s.next(ctx)
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&shards, 0)
		} else {
			heap.Pop(&shards)
		}
	}
	return nil
}

// shardReader reads the files of a shard, one after the other.
type shardReader struct {
	vault   *Vault
	files   []File
	keys    []*key
	ahead   int
	reader  *fileReader
	version *Version
}

// next tells whether there is another version.
func (s *shardReader) next(ctx context.Context) (bool, error) {
	for {
		if s.reader == nil {
			if len(s.files) == 0 {
				return false, nil
			}
			if err := ctx.Err(); err != nil {
				return false, err
			}
			var err error
			if s.reader, err = s.vault.openFile(ctx, s.files[0], s.keys, s.ahead); err != nil {
				return false, err
			}
		}
		version, lease, err := s.reader.next()
		switch {
		case err == nil && lease == nil:
			s.version = version
			return true, nil
		case err == nil:
			err = damagedf("it has a lease")
		case errors.Is(err, io.EOF):
			err = s.ended()
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.files[0].Name, err)
		}
		s.reader, s.files = nil, s.files[1:]
	}
}

// ended compares a file that was read with what the manifest says of it.
func (s *shardReader) ended() error {
	if found, said := s.reader.found, s.files[0]; found.Digest != said.Digest || positionOf(found.First) != said.First || positionOf(found.Last) != said.Last {
		return damagedf("it has other versions than the manifest says")
	}
	return nil
}

// merging is a heap of shards by their next versions.
type merging []*shardReader

func (m merging) Len() int { return len(m) }
func (m merging) Less(i, j int) bool {
	a, b := m[i].version, m[j].version
	return mvcc.CompareHistory(a.At(), a.Key, b.At(), b.Key) < 0
}
func (m merging) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merging) Push(any)     { panic("backup: shards are not added") }
func (m *merging) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
