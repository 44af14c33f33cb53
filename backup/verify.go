package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/kv"
)

// Verify re-reads everything that a backup consists of, and compares it with its manifest. Its parents are not read: see Chain. progress is told the bytes
// that were read. All that is wrong is reported, one error for each object.
func (v *Vault) Verify(ctx context.Context, b *Backup, progress func(bytes int64)) (wrong []error, err error) {
	if b.Damage != nil {
		return []error{fmt.Errorf("manifest: %w", b.Damage)}, nil
	}
	keys, err := v.keys(ctx, b)
	if err != nil {
		if errors.Is(err, ErrDamaged) {
			return []error{err}, nil
		}
		return nil, err
	}
	for _, shard := range b.Shards {
		for _, f := range shard.Files {
			err := v.verifyFile(ctx, f, keys, func(version *Version) error {
				if version.ModRevision > b.Revision || b.incremental() && version.ModRevision <= b.HistoryFrom {
					return damagedf("it has a version at revision %d, and the backup is from %d to %d", version.ModRevision, b.HistoryFrom, b.Revision)
				}
				return nil
			})
			if wrong, err = sift(wrong, err); err != nil {
				return wrong, err
			}
			progress(f.Bytes)
		}
	}
	leases := int64(0)
	err = v.leases(ctx, b, keys, func(kv.Lease) error {
		leases++
		return nil
	})
	if err == nil && leases != b.LeaseCount {
		err = damagedf("it has %d leases, and the manifest says %d", leases, b.LeaseCount)
	}
	if wrong, err = sift(wrong, err); err != nil {
		return wrong, err
	}
	_, err = v.users(ctx, b, keys)
	if wrong, err = sift(wrong, err); err != nil {
		return wrong, err
	}
	_, err = v.times(ctx, b, keys)
	if wrong, err = sift(wrong, err); err != nil {
		return wrong, err
	}
	for _, f := range slices.Concat(b.Leases, b.Users, b.Times) {
		progress(f.Bytes)
	}
	return wrong, nil
}

// sift keeps what is damaged apart from what hinders looking.
func sift(wrong []error, err error) ([]error, error) {
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewerFormat) {
		return append(wrong, err), nil
	}
	return wrong, err
}

func (v *Vault) verifyFile(ctx context.Context, f File, keys []*key, fn func(*Version) error) error {
	r, err := v.readWhole(ctx, f, keys)
	if err != nil {
		return err
	}
	s := &shardReader{reader: r, files: []File{f}}
	for {
		version, lease, err := r.next()
		if errors.Is(err, io.EOF) {
			err = s.ended()
			if err == nil {
				return nil
			}
		}
		if err == nil && lease != nil {
			err = damagedf("it has a lease")
		}
		if err == nil {
			err = fn(version)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
}

// VerifyRest looks at what a target has besides finished backups: what it says whose they are, and backups that were begun.
func (v *Vault) VerifyRest(ctx context.Context) (wrong []error, err error) {
	if _, err = v.Owner(ctx); err != nil {
		return sift(nil, err)
	}
	ids, err := v.names(ctx, unfinishedDir)
	if err != nil {
		return nil, err
	}
	abandoned, err := v.names(ctx, abandonedDir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if slices.Contains(abandoned, id) {
			continue // it is half removed
		}
		if wrong, err = sift(wrong, v.verifyUnfinished(ctx, id)); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// verifyUnfinished looks at what has been written of a backup. Without an identity an encrypted one is compared byte by byte only.
func (v *Vault) verifyUnfinished(ctx context.Context, id string) error {
	var m Manifest
	content, err := v.read(ctx, unfinishedName(id))
	if errors.Is(err, target.ErrNotFound) {
		return nil // it was finished meanwhile
	}
	if err == nil {
		err = decodeDocument(kindUnfinished, content, &m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", unfinishedName(id), err)
	}
	for _, name := range m.Keys {
		if _, err := v.openKey(ctx, name); err != nil && !errors.Is(err, ErrKey) {
			return err
		}
	}
	for _, f := range m.files() {
		if _, err := v.bytesOf(ctx, f); err != nil {
			return err
		}
	}
	return nil
}
