package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/kv"
)

// The objects at a target:
//
//	quorate-backups         whose backups these are
//	manifests/ID            what a backup consists of
//	unfinished/ID           what has been written of one so far
//	abandoned/ID            while one that is not finished is removed
//	keys/ID-ATTEMPT         of an encrypted one
//	data/ID/SHARD-N-ATTEMPT the data files; LEASES-N-ATTEMPT those with the leases
//
// An attempt is a run of a program that writes to a backup. Two that resume the same one write different objects; the first of their manifests counts.
const (
	ownerName     = "quorate-backups"
	manifestsDir  = "manifests/"
	unfinishedDir = "unfinished/"
	abandonedDir  = "abandoned/"
	keysDir       = "keys/"
	dataDir       = "data/"

	kindOwner      = "target"
	kindManifest   = "manifest"
	kindUnfinished = "unfinished"
	kindAbandoned  = "abandoned"
)

func manifestName(id string) string   { return manifestsDir + id }
func unfinishedName(id string) string { return unfinishedDir + id }
func abandonedName(id string) string  { return abandonedDir + id }
func keyName(key string) string       { return keysDir + key }

// Options say how backups are read and written.
type Options struct {
	// Identities open encrypted backups.
	Identities []age.Identity
	// FileBytes is about how large a data file gets. Default: 16 MiB.
	FileBytes int
	// SaveEvery is how many data files are written before it is noted what there is, for who resumes. Default: 16. It is noted at least once a minute, too,
	// as long as versions come.
	SaveEvery int
	// ReadAheadBytes is shared by the files that are read at once. Default: 64 MiB.
	ReadAheadBytes int
	Now            func() time.Time
	Random         func() uint32 // for names
}

// Vault is a target with backups of one cluster. Its methods may be called by several goroutines at once.
type Vault struct {
	target  target.Target
	options Options
}

// Open takes a target. It does not look at it.
func Open(t target.Target, options Options) *Vault {
	if options.FileBytes == 0 {
		options.FileBytes = 16 << 20
	}
	if options.SaveEvery == 0 {
		options.SaveEvery = 16
	}
	if options.ReadAheadBytes == 0 {
		options.ReadAheadBytes = 64 << 20
	}
	return &Vault{target: t, options: options}
}

// Backup is one that is finished.
type Backup struct {
	Manifest
	// Damage is set if the manifest cannot be used; then only its ID is known.
	Damage  error
	Sum     string // SHA-256 of the manifest
	content []byte
}

type owner struct {
	Cluster kv.ClusterID `json:"cluster_id,string"`
}

// Owner tells whose backups these are; ErrNotFound if there are none, ErrForeign if there is something else.
func (v *Vault) Owner(ctx context.Context) (kv.ClusterID, error) {
	content, err := v.read(ctx, ownerName)
	if errors.Is(err, target.ErrNotFound) {
		return 0, v.refuseOther(ctx)
	}
	if err != nil {
		return 0, err
	}
	var o owner
	if err := decodeDocument(kindOwner, content, &o); err != nil {
		return 0, fmt.Errorf("%s: %s: %w", v.target, ownerName, err)
	}
	return o.Cluster, nil
}

var errStop = errors.New("enough")

// refuseOther tells an empty target from one with something that is not ours.
func (v *Vault) refuseOther(ctx context.Context) error {
	other := ""
	err := v.target.List(ctx, "", func(name string, _ int64) error {
		other = name
		return errStop
	})
	switch {
	case other != "":
		return fmt.Errorf("%w: %s has no backups of Quorate, but %s; give a prefix, or a directory, of its own", ErrForeign, v.target, other)
	case err != nil && !errors.Is(err, target.ErrNotFound):
		return err
	}
	return fmt.Errorf("%w: %s is empty", ErrNotFound, v.target)
}

// claim makes the target the cluster's, or refuses.
func (v *Vault) claim(ctx context.Context, cluster kv.ClusterID) error {
	found, err := v.Owner(ctx)
	if errors.Is(err, ErrNotFound) {
		var content []byte
		if content, err = encodeDocument(kindOwner, owner{Cluster: cluster}, nil); err != nil {
			return err
		}
		if err = v.target.PutNew(ctx, ownerName, content); err != nil && !errors.Is(err, target.ErrExists) {
			return fmt.Errorf("%s: %w", v.target, err)
		}
		found, err = v.Owner(ctx)
	}
	if err != nil {
		return err
	}
	if found != cluster {
		return fmt.Errorf("%w: %s has backups of cluster %x, this one is %x; give a prefix, or a directory, of its own", ErrForeign, v.target, uint64(found), uint64(cluster))
	}
	return nil
}

// List gives the backups that are finished, in the order of their revisions. One whose manifest is damaged is among them.
func (v *Vault) List(ctx context.Context) (all []*Backup, err error) {
	if _, err := v.Owner(ctx); err != nil {
		return nil, err
	}
	ids, err := v.names(ctx, manifestsDir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		b, err := v.load(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	slices.SortStableFunc(all, func(a, b *Backup) int { return cmp.Compare(revisionOf(a.ID), revisionOf(b.ID)) })
	return all, nil
}

func (v *Vault) names(ctx context.Context, dir string) (names []string, err error) {
	err = v.target.List(ctx, dir, func(name string, _ int64) error {
		names = append(names, name[len(dir):])
		return nil
	})
	slices.Sort(names)
	return names, err
}

func (v *Vault) load(ctx context.Context, id string) (*Backup, error) {
	content, err := v.read(ctx, manifestName(id))
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	b := &Backup{content: content, Damage: err}
	if err == nil {
		b.Damage = b.decode(id)
	}
	if b.Damage != nil {
		b.Manifest = Manifest{ID: id}
	}
	return b, nil
}

func (b *Backup) decode(id string) error {
	if err := decodeDocument(kindManifest, b.content, &b.Manifest); err != nil {
		return err
	}
	if b.ID != id {
		return damagedf("it is the manifest of %s", b.ID)
	}
	sum := sha256.Sum256(b.content)
	b.Sum = hex.EncodeToString(sum[:])
	return b.check()
}

// Find gives the backup with an ID, or the newest if that is "latest".
func Find(all []*Backup, id string) (*Backup, error) {
	if len(all) > 0 && id == "latest" {
		return all[len(all)-1], nil
	}
	for _, b := range all {
		if b.ID == id {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// read gives a whole object.
func (v *Vault) read(ctx context.Context, name string) ([]byte, error) {
	size, err := v.target.Size(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", v.target, name, err)
	}
	if size > maxDocumentBytes {
		return nil, fmt.Errorf("%s: %w", name, damagedf("it has %d bytes", size))
	}
	content := make([]byte, size)
	if n, err := v.target.ReadAt(ctx, name, content, 0); int64(n) < size {
		if err == nil || errors.Is(err, io.EOF) {
			err = damagedf("it is shorter than it was")
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

// object is one of the target, as age and the reader of data files want it.
type object struct {
	ctx    context.Context
	target target.Target
	name   string
}

func (o object) ReadAt(p []byte, offset int64) (int, error) {
	return o.target.ReadAt(o.ctx, o.name, p, offset)
}

// openFile begins to read a data file.
func (v *Vault) openFile(ctx context.Context, f File, keys []*key, ahead int) (*fileReader, error) {
	size, err := v.target.Size(ctx, f.Name)
	switch {
	case errors.Is(err, target.ErrNotFound):
		return nil, fmt.Errorf("%s: %w", f.Name, damagedf("it is missing"))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	case size != f.Bytes:
		return nil, fmt.Errorf("%s: %w", f.Name, damagedf("it has %d bytes, and had %d", size, f.Bytes))
	}
	return openContent(f, object{ctx, v.target, f.Name}, keys, ahead)
}

func openContent(f File, content io.ReaderAt, keys []*key, ahead int) (r *fileReader, err error) {
	size := f.Bytes
	if len(keys) > 0 {
		content, size, err = age.DecryptReaderAt(content, size, identitiesOf(keys)...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, damagedf("it does not decrypt: %v", err))
		}
	}
	if r, err = newFileReader(content, size, ahead); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return r, nil
}

// readWhole gives a data file whose bytes are those that were written.
func (v *Vault) readWhole(ctx context.Context, f File, keys []*key) (*fileReader, error) {
	content, err := v.bytesOf(ctx, f)
	if err != nil {
		return nil, err
	}
	return openContent(f, bytes.NewReader(content), keys, 0)
}

func (v *Vault) bytesOf(ctx context.Context, f File) ([]byte, error) {
	content, err := v.read(ctx, f.Name)
	if errors.Is(err, target.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", f.Name, damagedf("it is missing"))
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(content)) != f.Bytes {
		return nil, fmt.Errorf("%s: %w", f.Name, damagedf("its bytes are not those that were written"))
	}
	return content, nil
}
