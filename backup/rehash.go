package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// StateHash is what the nodes of the cluster said of its state before a backup was made: etcd's HashKV. So a backup can be held against the store that it is of,
// and not only against what the backup itself says that it has.
type StateHash struct {
	// Revision is what was hashed, with the history from Compacted on.
	Revision  kv.Revision `json:"revision"`
	Compacted kv.Revision `json:"compacted"`
	Hash      uint32      `json:"hash"`
}

// Hasher is an Origin that tells the hash of its newest state. It costs the node about as much as reading everything.
type Hasher interface {
	Hash(ctx context.Context) (*StateHash, error)
}

// ErrNoHash: the backup has nothing to compare with.
var ErrNoHash = errors.New("the backup carries no hash of the cluster's")

// Recount follows the history that a chain has, and tells what a store has to have that is restored from it. It also looks whether the versions of each key
// follow on each other. Memory is bounded: the newest version of each key is in a scratch engine.
type Recount struct {
	chain  []*Backup
	from   kv.Revision // where the history begins
	states *latest

	at   kv.Revision // of the last version
	kept Digest      // what a store has up to there whose history begins at from
	live mvcc.HashSum
	all  mvcc.HashSum

	marks []recountMark // ascending
	wrong []error       // the first ones
	more  int           // of them
}

// recountMark is a revision at which it is noted how far things are.
type recountMark struct {
	revision  kv.Revision
	kept      Digest
	live, all mvcc.HashSum
}

// maxRecountErrors is how many contradictions are told one by one.
const maxRecountErrors = 10

// NewRecount begins with an empty engine, whose rows are left there.
func NewRecount(chain []*Backup, scratch storage.Engine) *Recount {
	r := &Recount{chain: chain, from: chain[0].HistoryFrom, states: newLatest(scratch, 0)}
	for _, b := range chain {
		r.mark(b.Revision)
		if h := b.StateHash; h != nil {
			r.mark(h.Revision)
			r.mark(h.Compacted)
		}
	}
	return r
}

// mark has a revision noted.
func (r *Recount) mark(revision kv.Revision) {
	at := 0
	for at < len(r.marks) && r.marks[at].revision < revision {
		at++
	}
	if at < len(r.marks) && r.marks[at].revision == revision {
		return
	}
	r.marks = append(r.marks[:at], append([]recountMark{{revision: revision}}, r.marks[at:]...)...)
}

// Add takes the next version, in the order of the history.
func (r *Recount) Add(v *Version) error {
	r.pass(v.ModRevision)
	before, err := r.states.find(v.Key)
	if err != nil {
		return err
	}
	if text := contradiction(v, before, r.from); text != "" {
		r.contradicts(fmt.Errorf("key %q at revision %d: %s", v.Key, v.ModRevision, text))
	}
	now := infoOf(v)
	r.all += now.hash
	if now.number > 0 {
		r.live += now.hash
	}
	if before != nil && before.number > 0 {
		r.live -= before.hash
	}
	// A compaction at from leaves what is of from and later, and what is older and lived there.
	if before != nil && before.number > 0 && before.mod < r.from && v.ModRevision <= r.from {
		r.kept.exclude(before.digest(v.Key))
	}
	if v.ModRevision >= r.from || now.number > 0 {
		r.kept.Include(now.digest(v.Key))
	}
	return r.states.put(v.Key, now)
}

// pass notes how far things are at the marks before a revision.
func (r *Recount) pass(revision kv.Revision) {
	if revision == r.at {
		return
	}
	for i := range r.marks {
		if m := &r.marks[i]; r.at <= m.revision && m.revision < revision {
			m.kept, m.live, m.all = r.kept, r.live, r.all
		}
	}
	r.at = revision
}

func (r *Recount) contradicts(err error) {
	if len(r.wrong) == maxRecountErrors {
		r.more++
		return
	}
	r.wrong = append(r.wrong, err)
}

// contradiction tells why a version does not follow on the one before it; "": it does. What was compacted away, before a revision, may be missing.
func contradiction(v *Version, before *latestInfo, from kv.Revision) string {
	lived := before != nil && before.number > 0
	switch {
	case v.Version == 0 && !lived && v.ModRevision > from:
		return "it is deleted, and was not there"
	case v.Version == 0:
		return ""
	case v.CreateRevision > v.ModRevision || v.Version == 1 && v.CreateRevision < v.ModRevision,
		v.Version > 1 && v.CreateRevision == v.ModRevision && !(lived && before.mod == v.ModRevision || before == nil && v.ModRevision <= from): // within a revision a key may change more than once
		return fmt.Sprintf("version %d was created at revision %d", v.Version, v.CreateRevision)
	case v.Version == 1 && lived:
		return fmt.Sprintf("it is created, and was there since revision %d", before.create)
	case v.Version > 1 && lived && (before.number != v.Version-1 || before.create != v.CreateRevision):
		return fmt.Sprintf("version %d follows on version %d, of revision %d", v.Version, before.number, before.mod)
	case v.Version > 1 && !lived && (before != nil || v.ModRevision > from):
		return fmt.Sprintf("the version before version %d is missing", v.Version)
	}
	return ""
}

// Restored is what a store has at a revision whose history begins where that of the chain does.
type Restored struct {
	Revision kv.Revision
	Digest   Digest
}

// Finish ends the history. It gives what a restored store has at the revision of each backup, in their order, and what is wrong.
func (r *Recount) Finish() (restored []Restored, wrong []error) {
	const end = kv.Unnumbered
	r.pass(end)
	r.states.close()
	wrong = r.wrong
	if r.more > 0 {
		wrong = append(wrong, fmt.Errorf("%d more versions do not follow on those before them", r.more))
	}
	for _, b := range r.chain {
		restored = append(restored, Restored{b.Revision, r.find(b.Revision).kept})
	}
	return restored, wrong
}

func (r *Recount) find(revision kv.Revision) *recountMark {
	for i := range r.marks {
		if r.marks[i].revision == revision {
			return &r.marks[i]
		}
	}
	return &recountMark{} // before everything
}

// Compare holds what was read against the hash that a backup of the chain carries; after Finish. ErrNoHash: it has none, or one of history that is not in the
// chain.
func (r *Recount) Compare(b *Backup) error {
	h := b.StateHash
	if h == nil {
		return ErrNoHash
	}
	if max(1, h.Compacted) < r.from {
		return fmt.Errorf("%w that can be compared: it was of the history from revision %d on, which here begins at %d", ErrNoHash, h.Compacted, r.from)
	}
	compacted, end := r.find(h.Compacted), r.find(h.Revision)
	if got := (compacted.live + end.all - compacted.all).Fold(); got != h.Hash {
		return damagedf("at revision %d its hash is %08x, and that of the cluster was %08x: it is not what the cluster had", h.Revision, got, h.Hash)
	}
	return nil
}
