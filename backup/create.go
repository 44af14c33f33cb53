package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// Origin is a store that is backed up.
type Origin interface {
	// Present tells what a backup of the store as it is now would be of.
	Present(ctx context.Context) (*Present, error)
	// Export gives the versions of a shard from a place in its history on, up to a revision, to fn, and before the first of them tells begun where the
	// history is compacted, by which they were chosen. kv.ErrCompacted: that is above the revision. An error of fn or begun ends it, and is returned.
	Export(ctx context.Context, shard kv.ShardID, from mvcc.Locator, upTo kv.Revision, begun func(compacted kv.Revision) error, fn func(*Version) error) error
}

// Present is a store at a revision.
type Present struct {
	Cluster   kv.ClusterID
	Revision  kv.Revision
	Compacted kv.Revision
	Time      time.Time
	Source    string
	Shards    []PresentShard // by number
	Leases    []kv.Lease
	Users     []kv.UserRow // users and roles; nil: there never were any
}

// PresentShard is one of its shards. Bytes is about how much there is to read.
type PresentShard struct {
	Shard kv.ShardID
	Bytes int64
}

// Timekeeper is an Origin that knows when the store had which revisions.
type Timekeeper interface {
	Series(ctx context.Context) (timeline.Series, error)
}

// Holder is an Origin that can keep its history while it is backed up.
type Holder interface {
	// Hold has it kept until release is called, and returns when it is, wherever it can be.
	Hold(ctx context.Context, notice func(string)) (release func() HoldEnd)
}

// HoldEnd says what became of a Hold. Over: it ended before it was released, by a limit of the store; 0: there history is not held at all.
type HoldEnd struct {
	Over  bool
	Limit time.Duration
}

// explain says of an error what the end of the hold has to do with it.
func (e HoldEnd) explain(err error) error {
	if err == nil || !e.Over || !errors.Is(err, kv.ErrCompacted) {
		return err
	}
	if e.Limit == 0 {
		return fmt.Errorf("%w. Nodes do not hold back the deletion of compacted history (--backup-hold-limit=0)", err)
	}
	return fmt.Errorf("%w. Nodes hold back the deletion of compacted history for %v (--backup-hold-limit), and the backup took longer: give it a higher --rate-limit, "+
		"or the nodes a longer time", err, e.Limit)
}

// hold has the origin keep its history, if it can.
func hold(ctx context.Context, origin Origin, options CreateOptions) (release func() HoldEnd) {
	if holder, ok := origin.(Holder); ok {
		return holder.Hold(ctx, options.Notice)
	}
	return func() HoldEnd { return HoldEnd{} }
}

// CreateOptions say how a backup is made.
type CreateOptions struct {
	// Incremental goes on from a backup: Parent, or the newest one if that is empty.
	Incremental bool
	Parent      string
	Cold        bool
	Writer      string
	Recipients  []age.Recipient
	// WithoutUsers leaves users and roles out.
	WithoutUsers bool
	// Parallel is how many shards are read at once. Default: 4. With 1 no goroutine is started.
	Parallel int
	// Hash asks the origin for the hash of its state, if it is a Hasher. Without an answer the backup is made all the same.
	Hash bool
	// Fresh does not go on with one that was begun.
	Fresh bool
	// Present goes on only with one of the revision that the store has now: nothing is written meanwhile.
	Present bool
	// Wait is asked to wait before so many bytes are taken; nil: never.
	Wait func(ctx context.Context, bytes int) error
	// Retry is asked whether to go on after an export has failed, and waits until then. failures is how often it has failed since the last version came.
	// Nil: never.
	Retry func(ctx context.Context, failures int, err error) error
	// Progress is told about once in a data file how far it is; nil: nobody is. From one goroutine at a time.
	Progress func(Progress)
	// Notice is told what a person would like to know.
	Notice func(string)
}

// Progress is how far a backup is.
type Progress struct {
	ID         string
	Shards     int // all
	Done       int // of them
	ReadBytes  int64
	TotalBytes int64 // about
	Stored     int64
}

// maxRestarts is how often a backup begins again because the history was compacted above its revision.
const maxRestarts = 3

// Create makes a backup of what a store has now. If one like it was begun, of a revision whose history is still there, it goes on with that.
func (v *Vault) Create(ctx context.Context, origin Origin, options CreateOptions) (*Backup, error) {
	options.Parallel = cmp.Or(options.Parallel, 4)
	for restarts := 0; ; restarts++ {
		release := hold(ctx, origin, options)
		b, err := v.createOnce(ctx, origin, options)
		err = release().explain(err)
		if err == nil || options.Incremental || !errors.Is(err, kv.ErrCompacted) || restarts == maxRestarts {
			return b, err
		}
		options.Notice(fmt.Sprintf("%v; beginning again", err))
		options.Fresh = true
	}
}

func (v *Vault) createOnce(ctx context.Context, origin Origin, options CreateOptions) (*Backup, error) {
	hash, err := stateHash(ctx, origin, options)
	if err != nil {
		return nil, err
	}
	present, err := origin.Present(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.claim(ctx, present.Cluster); err != nil {
		return nil, err
	}
	parent, err := v.parent(ctx, present, options)
	if err != nil {
		return nil, err
	}
	if hash != nil && (hash.Revision > present.Revision || hash.Revision < 1) {
		hash = nil // of a node that is ahead of who was asked for the rest
	}
	w, err := v.beginOrResume(ctx, present, parent, hash, options)
	if err != nil {
		return nil, err
	}
	if err := w.export(ctx, origin, present, options); err != nil {
		return nil, err
	}
	if err := w.SetLeases(ctx, present.Leases); err != nil {
		return nil, err
	}
	if options.WithoutUsers {
		present.Users = nil
	}
	if err := w.SetUsers(ctx, present.Users); err != nil {
		return nil, err
	}
	if err := w.addTimes(ctx, origin, options); err != nil {
		return nil, err
	}
	return w.Finish(ctx)
}

// addTimes asks when the store had which revisions. Without an answer the backup has none.
func (w *Writer) addTimes(ctx context.Context, origin Origin, options CreateOptions) error {
	keeper, ok := origin.(Timekeeper)
	if !ok {
		return nil
	}
	series, err := keeper.Series(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		options.Notice(fmt.Sprintf("the backup will not say when its revisions were written: %v", err))
		return nil
	}
	return w.SetTimes(ctx, series)
}

// parent is the backup that an incremental one goes on from; nil for a full one.
func (v *Vault) parent(ctx context.Context, present *Present, options CreateOptions) (*Backup, error) {
	if !options.Incremental {
		return nil, nil
	}
	all, err := v.List(ctx)
	if err != nil {
		return nil, err
	}
	parent, err := Find(all, cmp.Or(options.Parent, "latest"))
	if err != nil {
		return nil, fmt.Errorf("%w to go on from; make a full one first", err)
	}
	if _, err := Chain(all, parent); err != nil {
		return nil, fmt.Errorf("%w; make a full one", err)
	}
	switch {
	case present.Revision < parent.Revision && options.Cold:
		return nil, fmt.Errorf("backup: the data directory is complete up to revision %d, and backup %s is at %d: take a node that has come further", present.Revision, parent.ID,
			parent.Revision)
	case present.Revision < parent.Revision:
		return nil, fmt.Errorf("backup: the store is at revision %d, and backup %s at %d: it is not the store that was backed up, or has lost writes", present.Revision,
			parent.ID, parent.Revision)
	case present.Compacted > parent.Revision:
		return nil, fmt.Errorf("backup: the history since backup %s, at revision %d, is compacted up to %d: make a full one, and incremental ones more often than it is compacted: %w",
			parent.ID, parent.Revision, present.Compacted, kv.ErrCompacted)
	}
	return parent, nil
}

// stateHash asks for the hash of what there is before the backup: it must not be later.
func stateHash(ctx context.Context, origin Origin, options CreateOptions) (*StateHash, error) {
	hasher, ok := origin.(Hasher)
	if !options.Hash || !ok {
		return nil, nil
	}
	hash, err := hasher.Hash(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		options.Notice(fmt.Sprintf("the backup will carry no hash of the cluster's: %v", err))
		return nil, nil
	}
	return hash, nil
}

func (v *Vault) beginOrResume(ctx context.Context, present *Present, parent *Backup, hash *StateHash, options CreateOptions) (*Writer, error) {
	plan := Plan{Cluster: present.Cluster, Parent: parent, Revision: present.Revision, HistoryFrom: max(1, present.Compacted), Taken: present.Time, Cold: options.Cold,
		Source: present.Source, Writer: options.Writer, Recipients: options.Recipients, StateHash: hash}
	for _, s := range present.Shards {
		plan.Shards = append(plan.Shards, s.Shard)
	}
	if !options.Fresh {
		begun, err := v.Unfinished(ctx)
		if err != nil {
			return nil, err
		}
		for _, m := range slices.Backward(begun) {
			if plan.continues(m, present) && (!options.Present || m.Revision == present.Revision) {
				w, err := v.Resume(ctx, m, options.Recipients)
				if errors.Is(err, ErrAbandoned) {
					options.Notice(err.Error())
					continue
				}
				if err == nil {
					options.Notice(fmt.Sprintf("going on with %s, of revision %d", m.ID, m.Revision))
				}
				return w, err
			}
		}
	}
	return v.Begin(ctx, plan)
}

// continues tells whether a backup that was begun is what is planned, at an earlier revision whose history is there.
func (p *Plan) continues(m *Manifest, present *Present) bool {
	parent := ""
	if p.Parent != nil {
		parent = p.Parent.ID
	}
	same := slices.EqualFunc(m.Shards, p.Shards, func(a ShardFiles, b kv.ShardID) bool { return a.Shard == b })
	encrypted := len(m.Keys) > 0
	return same && m.Cluster == p.Cluster && m.Parent == parent && m.Cold == p.Cold && m.Revision <= present.Revision && m.Revision >= present.Compacted &&
		encrypted == (len(p.Recipients) > 0)
}

// export reads the shards, several at once.
func (w *Writer) export(ctx context.Context, origin Origin, present *Present, options CreateOptions) error {
	var read atomic.Int64
	total := int64(0)
	for _, s := range present.Shards {
		total += s.Bytes
	}
	progress := make(chan struct{}, 1) // held by who reports
	report := func() {
		if options.Progress == nil {
			return
		}
		progress <- struct{}{}
		defer func() { <-progress }()
		m := w.Manifest()
		p := Progress{ID: m.ID, Shards: len(m.Shards), ReadBytes: read.Load(), TotalBytes: total, Stored: w.StoredBytes()}
		for _, s := range m.Shards {
			if s.Whole {
				p.Done++
			}
		}
		options.Progress(p)
	}
	one := func(ctx context.Context, shard kv.ShardID) error {
		s, done, err := w.Shard(shard)
		if err != nil || done {
			return err
		}
		defer report()
		if err := s.export(ctx, origin, w.revision(), options, func(bytes int) { read.Add(int64(bytes)) }, report); err != nil {
			return fmt.Errorf("shard %d: %w", shard, err)
		}
		return s.Finish(ctx)
	}
	if options.Parallel == 1 {
		for _, s := range present.Shards {
			if err := one(ctx, s.Shard); err != nil {
				return err
			}
		}
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(options.Parallel)
	for _, s := range present.Shards {
		group.Go(func() error { return one(ctx, s.Shard) })
	}
	return group.Wait()
}

// errAgain ends an export that has to begin elsewhere.
var errAgain = errors.New("begin again")

// export reads a shard, as often as it takes.
func (s *ShardWriter) export(ctx context.Context, origin Origin, revision kv.Revision, options CreateOptions, read func(bytes int), report func()) error {
	for failures := 0; ; {
		from := s.next
		err := origin.Export(ctx, s.shard, from, revision, func(compacted kv.Revision) error {
			if err := s.Compacted(compacted); err != nil {
				return err
			}
			if s.next != from {
				return errAgain
			}
			return nil
		}, func(v *Version) error {
			bytes := len(v.Key) + len(v.Value)
			if options.Wait != nil {
				if err := options.Wait(ctx, bytes); err != nil {
					return err
				}
			}
			read(bytes)
			files := s.number
			if err := s.Add(ctx, v); err != nil {
				return err
			}
			if s.number > files {
				report()
			}
			return nil
		})
		if s.next != from {
			failures = 0
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errAgain):
		case options.Retry == nil:
			return err
		default:
			if err := s.writer.touch(ctx); err != nil {
				return err
			}
			if err := options.Retry(ctx, failures, err); err != nil {
				return err
			}
			failures++
		}
	}
}
