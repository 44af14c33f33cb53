package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// Plan says what a backup is to be of.
type Plan struct {
	Cluster     kv.ClusterID
	Parent      *Backup // nil: it is full
	Revision    kv.Revision
	HistoryFrom kv.Revision // of a full one
	Taken       time.Time
	Cold        bool
	Source      string
	Writer      string
	Shards      []kv.ShardID
	StateHash   *StateHash // nil: there is none
	// Recipients are who can read it; none: everybody.
	Recipients []age.Recipient
}

// Writer writes a backup. Shards are written by several goroutines, each shard by one of them.
type Writer struct {
	vault   *Vault
	attempt string
	key     *key // nil: it is not encrypted

	mu       sync.Mutex
	manifest Manifest     // of what is written
	unsaved  int          // files
	noted    bool         // that this attempt is there
	saved    atomic.Int64 // when it was last noted what is written, in nanoseconds
	stored   int64        // bytes, that this attempt has written
}

// Begin begins a backup. The target is the cluster's already: see Create.
func (v *Vault) Begin(ctx context.Context, plan Plan) (*Writer, error) {
	now := v.options.Now()
	m := Manifest{ID: newID(now, plan.Revision, v.options.Random()), Cluster: plan.Cluster, Revision: plan.Revision, HistoryFrom: plan.HistoryFrom, Taken: plan.Taken.UTC(),
		Cold: plan.Cold, Source: plan.Source, Writer: plan.Writer, Began: now.UTC(), StateHash: plan.StateHash}
	if p := plan.Parent; p != nil {
		if p.Cluster != plan.Cluster || plan.Revision < p.Revision || p.Damage != nil {
			return nil, fmt.Errorf("backup: at revision %d it cannot follow %s, which is at revision %d", plan.Revision, p.ID, p.Revision)
		}
		m.Parent, m.ParentSum, m.HistoryFrom = p.ID, p.Sum, p.Revision
	}
	for _, shard := range plan.Shards {
		m.Shards = append(m.Shards, ShardFiles{Shard: shard})
	}
	return v.writer(ctx, m, plan.Recipients, false)
}

// Resume goes on with a backup that was begun: with what is written of it. Who can read it may be others than before. ErrAbandoned: it was removed, or files
// of it were.
func (v *Vault) Resume(ctx context.Context, begun *Manifest, recipients []age.Recipient) (*Writer, error) {
	if (len(begun.Keys) > 0) != (len(recipients) > 0) && len(begun.files()) > 0 {
		return nil, fmt.Errorf("backup: %s was begun %s; go on likewise, or begin another one", begun.ID, map[bool]string{true: "with --recipients", false: "without --recipients"}[len(begun.Keys) > 0])
	}
	if err := v.complete(ctx, begun); err != nil {
		return nil, err
	}
	m := *begun
	m.Shards = slices.Clone(begun.Shards)
	return v.writer(ctx, m, recipients, true)
}

// writer begins an attempt. noted: of a backup that somebody has begun.
func (v *Vault) writer(ctx context.Context, m Manifest, recipients []age.Recipient, noted bool) (*Writer, error) {
	w := &Writer{vault: v, attempt: fmt.Sprintf("%08x", v.options.Random()), manifest: m, noted: noted}
	if len(recipients) > 0 {
		if err := w.makeKey(ctx, recipients); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w, w.save(ctx)
}

func (w *Writer) makeKey(ctx context.Context, recipients []age.Recipient) (err error) {
	if w.key, err = newKey(); err != nil {
		return err
	}
	content, err := w.key.document(recipients)
	if err != nil {
		return err
	}
	name := w.manifest.ID + "-" + w.attempt
	w.manifest.Keys = append(slices.Clone(w.manifest.Keys), name)
	return w.put(ctx, keyName(name), content)
}

func (w *Writer) put(ctx context.Context, name string, content []byte) error {
	if err := w.vault.target.PutNew(ctx, name, content); err != nil {
		return fmt.Errorf("%s: write %s: %w", w.vault.target, name, err)
	}
	return nil
}

// touchInterval is how long nothing is noted while there is work. Who removes what nobody goes on with waits for longer: see AbandonOlder.
const touchInterval = time.Minute

// touch says now and then that somebody is at work.
func (w *Writer) touch(ctx context.Context) error {
	idle := func() bool { return w.vault.options.Now().UnixNano()-w.saved.Load() >= int64(touchInterval) }
	if !idle() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !idle() {
		return nil // another shard has said so
	}
	return w.save(ctx)
}

// save notes what is written, unless somebody has removed the backup. The lock is held.
func (w *Writer) save(ctx context.Context) error {
	if w.noted {
		if err := w.stillMine(ctx); err != nil {
			return err
		}
	}
	w.manifest.Changed = w.vault.options.Now().UTC()
	content, err := encodeDocument(kindUnfinished, &w.manifest, nil)
	if err != nil {
		return err
	}
	name := unfinishedName(w.manifest.ID)
	if err := w.vault.target.Put(ctx, name, content); err != nil {
		return fmt.Errorf("%s: write %s: %w", w.vault.target, name, err)
	}
	w.unsaved, w.noted = 0, true
	w.saved.Store(w.manifest.Changed.UnixNano())
	return nil
}

// Manifest is what is written so far.
func (w *Writer) Manifest() Manifest {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.manifest
	m.Shards = slices.Clone(m.Shards)
	return m
}

// StoredBytes is what was written in this attempt.
func (w *Writer) StoredBytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored
}

// ShardWriter writes the versions of a shard. For one goroutine.
type ShardWriter struct {
	writer *Writer
	index  int // in the manifest
	shard  kv.ShardID
	file   *fileWriter
	number int          // of the next file
	first  mvcc.Locator // where the backup begins
	next   mvcc.Locator // where the shard goes on
}

// Shard gives the writer of a shard; done if there is nothing left to write.
func (w *Writer) Shard(shard kv.ShardID) (s *ShardWriter, done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.manifest.Shards, func(s ShardFiles) bool { return s.Shard == shard })
	if i < 0 {
		return nil, false, fmt.Errorf("backup: shard %d is none of those that the backup began with", shard)
	}
	files := w.manifest.Shards[i].Files
	s = &ShardWriter{writer: w, index: i, shard: shard, number: len(files), file: newFileWriter()}
	if w.manifest.incremental() {
		s.first = mvcc.Locator{Rev: w.manifest.HistoryFrom + 1}
	}
	if s.next = s.first; len(files) > 0 {
		s.next = behind(files[len(files)-1].Last.locator())
	}
	return s, w.manifest.Shards[i].Whole, nil
}

func behind(at mvcc.Locator) mvcc.Locator { return mvcc.Locator{Rev: at.Rev, Sub: at.Sub + 1} }

// Compacted says that the versions which follow are of a history that is compacted at a revision. What the backup covers cannot begin below that. If the
// shard's versions so far reach into what is compacted by now they do not fit: of what is to come, deletions are missing that ended them. Then the shard
// begins again.
func (s *ShardWriter) Compacted(at kv.Revision) error {
	w := s.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m := &w.manifest; {
	case m.incremental() && at > m.HistoryFrom:
		return fmt.Errorf("backup: the history since %s, at revision %d, is compacted up to %d: %w", m.Parent, m.HistoryFrom, at, kv.ErrCompacted)
	case at > m.Revision:
		return fmt.Errorf("backup: at revision %d, the history is compacted up to %d: %w", m.Revision, at, kv.ErrCompacted)
	case s.first.Less(s.next) && at > s.next.Rev:
		s.beginAgain()
	}
	w.manifest.HistoryFrom = max(w.manifest.HistoryFrom, at)
	return nil
}

// beginAgain forgets what there is of the shard. The lock is held.
func (s *ShardWriter) beginAgain() {
	one := &s.writer.manifest.Shards[s.index]
	for _, f := range one.Files {
		s.writer.manifest.Digest.exclude(f.Digest)
	}
	one.Files = nil
	s.file.reset()
	s.next = s.first
}

// Add adds the next version.
func (s *ShardWriter) Add(ctx context.Context, v *Version) error {
	if at := v.At(); at.Less(s.next) || at.Rev > s.writer.revision() {
		return fmt.Errorf("backup: shard %d, at revision %d: a version at revision %d comes where %d goes on: %w", s.shard, s.writer.revision(), at.Rev, s.next.Rev, ErrDamaged)
	}
	if err := s.writer.touch(ctx); err != nil {
		return err
	}
	s.next = behind(v.At())
	s.file.addVersion(v)
	if s.file.size() < s.writer.vault.options.FileBytes {
		return nil
	}
	return s.flush(ctx)
}

func (w *Writer) revision() kv.Revision { return w.manifest.Revision } // it does not change

func (s *ShardWriter) flush(ctx context.Context) error {
	if s.file.empty() {
		return nil
	}
	w := s.writer
	f, err := w.store(ctx, s.file, fmt.Sprintf("%d", s.shard), s.number)
	if err != nil {
		return err
	}
	s.number++
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &w.manifest.Shards[s.index]
	one.Files = append(slices.Clip(one.Files), f)
	w.manifest.Digest.Include(f.Digest)
	return w.added(ctx)
}

// added counts a file that is in the manifest. The lock is held.
func (w *Writer) added(ctx context.Context) error {
	if w.unsaved++; w.unsaved < w.vault.options.SaveEvery {
		return nil
	}
	return w.save(ctx)
}

// Finish says that the shard has no more versions.
func (s *ShardWriter) Finish(ctx context.Context) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	s.writer.manifest.Shards[s.index].Whole = true
	return s.writer.added(ctx)
}

// store writes a data file.
func (w *Writer) store(ctx context.Context, file *fileWriter, what string, number int) (File, error) {
	content, end := file.finish()
	if w.key != nil {
		var err error
		if content, err = encrypt(content, w.key.identity.Recipient()); err != nil {
			return File{}, err
		}
	}
	name := fmt.Sprintf("%s%s/%s-%06d-%s", dataDir, w.manifest.ID, what, number, w.attempt)
	if err := w.put(ctx, name, content); err != nil {
		return File{}, err
	}
	file.reset()
	sum := sha256.Sum256(content)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stored += int64(len(content))
	return File{Name: name, Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Digest: end.Digest, First: positionOf(end.First), Last: positionOf(end.Last)}, nil
}

// SetLeases writes the leases, in place of those of an attempt before.
func (w *Writer) SetLeases(ctx context.Context, leases []kv.Lease) error {
	files, err := storeAll(ctx, w, "leases", leases, (*fileWriter).addLease)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.manifest.Leases, w.manifest.LeaseCount = files, int64(len(leases))
	return nil
}

// storeAll writes a list into as many files as it takes. add puts one of it into the file.
func storeAll[T any](ctx context.Context, w *Writer, kind string, list []T, add func(*fileWriter, T)) (files []File, err error) {
	file := newFileWriter()
	for i, one := range list {
		add(file, one)
		if file.size() < w.vault.options.FileBytes && i < len(list)-1 {
			continue
		}
		f, err := w.store(ctx, file, kind, len(files))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// pointsPerBlock is how many points are in a block.
const pointsPerBlock = 4096

// SetTimes writes when the store had the revisions of the backup, in place of those of an attempt before.
func (w *Writer) SetTimes(ctx context.Context, series timeline.Series) error {
	if series = series.UpTo(w.revision()); w.manifest.incremental() {
		series = series.From(w.manifest.HistoryFrom + 1)
	}
	var files []File
	if points := series.Points(); len(points) > 0 {
		file := newFileWriter()
		for len(points) > 0 {
			some := points[:min(pointsPerBlock, len(points))]
			points = points[len(some):]
			file.addTimes(some)
		}
		f, err := w.store(ctx, file, "times", 0)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.manifest.Times = files
	return nil
}

// Finish makes the backup one: it writes the manifest. If it, or a file of it, was removed meanwhile that is ErrAbandoned.
//
// Whoever removes it says so, and then looks for a manifest (Abandon). This writes a manifest, and then looks whether somebody says so. So if both happen at
// once at least one of them sees the other: there is no manifest without its files.
func (w *Writer) Finish(ctx context.Context) (*Backup, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.stillMine(ctx); err != nil {
		return nil, err
	}
	if err := w.vault.complete(ctx, &w.manifest); err != nil {
		return nil, err
	}
	w.manifest.Finished, w.manifest.Changed = w.vault.options.Now().UTC(), time.Time{}
	if err := w.manifest.check(); err != nil {
		return nil, fmt.Errorf("backup %s: %w", w.manifest.ID, err)
	}
	var secret []byte
	if w.key != nil {
		secret = w.key.secret
	}
	content, err := encodeDocument(kindManifest, &w.manifest, secret)
	if err != nil {
		return nil, err
	}
	id := w.manifest.ID
	err = w.vault.target.PutNew(ctx, manifestName(id), content)
	if errors.Is(err, target.ErrExists) {
		return nil, fmt.Errorf("backup %s: somebody else has gone on with it, and finished it", id)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: write %s: %w", w.vault.target, manifestName(id), err)
	}
	if gone, err := w.abandoned(ctx); err != nil {
		return nil, fmt.Errorf("backup %s is finished; whether somebody was removing it is not known, so verify it: %w", id, err)
	} else if gone {
		return nil, errors.Join(fmt.Errorf("backup %s: %w; begin another one", id, ErrAbandoned), w.vault.target.Delete(ctx, manifestName(id)))
	}
	if err := w.vault.target.Delete(ctx, unfinishedName(id)); err != nil {
		return nil, fmt.Errorf("backup %s is finished; remove %s: %w", id, unfinishedName(id), err)
	}
	b := &Backup{content: content}
	return b, b.decode(id)
}
