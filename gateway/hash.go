package gateway

import (
	"context"
	"slices"

	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// HashResult is the answer to HashKV.
type HashResult struct {
	Hash         uint32
	HashRevision kv.Revision // the revision that was hashed
	Revision     kv.Revision // of the state, for the header
	Compacted    kv.Revision // where history began that was hashed
}

// HashKV sums up the local state at a revision (0: the newest). It is equal on all nodes. One hash is
// computed at a time; the others wait. A revision at which history was compacted keeps the hash that it had before.
//
// Of several shards the hash is the one that a single shard would have. The replicas here have to have come to the revision; without one, or if
// they have not, it is asked what that takes, and waited for.
func (g *Gateway) HashKV(ctx context.Context, principal string, revision kv.Revision) (HashResult, error) {
	req := &kv.Request{Kind: kv.KindRange, Principal: principal, AuthVersion: kv.Unjudged,
		Range: &kv.RangeRequest{Span: kv.Everything(), Serializable: true}}
	l, err := g.admit(req)
	links, many := g.gathering(req, err)
	if err != nil && !many {
		return HashResult{}, err
	}
	select {
	case g.hashing <- struct{}{}:
	case <-ctx.Done():
		return HashResult{}, ctx.Err()
	}
	defer func() { <-g.hashing }()
	if many {
		return g.hashMany(ctx, req, links, revision)
	}
	if err := l.local.Readable(); err != nil {
		return HashResult{}, err
	}
	view := l.local.View()
	defer view.Close()
	if revision > 0 && revision <= view.Compacted() {
		hash, compacted, found, err := l.local.CompactionHash(ctx, revision)
		if found || err != nil {
			return HashResult{Hash: hash.Fold(), HashRevision: revision, Revision: view.Revision(), Compacted: compacted}, err
		}
	}
	hash, err := view.Hash(revision)
	result := HashResult{Hash: hash, HashRevision: revision, Revision: view.Revision(), Compacted: view.Compacted()}
	if revision == 0 {
		result.HashRevision = view.Revision()
	}
	return result, err
}

// hashMany is HashKV of several shards.
func (g *Gateway) hashMany(ctx context.Context, req *kv.Request, links []*leaderLink, revision kv.Revision) (HashResult, error) {
	states, newest, err := g.freezeForHash(ctx, req, links, revision)
	if err != nil {
		return HashResult{}, err
	}
	defer closeViews(states)
	if revision > newest {
		return HashResult{}, kv.ErrFutureRevision
	}
	result := HashResult{HashRevision: revision, Revision: newest, Compacted: gather.Compacted(states)}
	at := revision
	switch {
	case revision <= 0: // of the newest state; a negative one comes back, as from etcd
		at = newest
		if revision == 0 {
			result.HashRevision = newest
		}
	case revision <= result.Compacted:
		kept := make([]gather.KeptHash, len(links))
		for i, l := range links {
			k := &kept[i]
			if k.Sum, k.From, k.Found, err = l.local.CompactionHash(ctx, revision); err != nil {
				return HashResult{}, err
			}
			// It was kept of a compaction that the state, which was frozen before, does not have: then the state is as good.
			k.Found = k.Found && states[i].Compacted() >= revision
		}
		if slices.ContainsFunc(kept, func(k gather.KeptHash) bool { return k.Found }) {
			result.Hash, result.Compacted, err = gather.CompactionHash(states, kept, revision)
			return result, err
		}
	}
	result.Hash, err = gather.Hash(states, at)
	return result, err
}

// freezeForHash returns states that are complete up to a revision (0: the newest), if that was issued, and the newest one that is known.
func (g *Gateway) freezeForHash(ctx context.Context, req *kv.Request, links []*leaderLink, revision kv.Revision) ([]*mvcc.View, kv.Revision, error) {
	behind := func(l *leaderLink) bool { return l.local.Readable() != nil || l.local.Revision() < revision }
	if revision > 0 && !slices.ContainsFunc(links, behind) {
		views, newest := make([]*mvcc.View, len(links)), g.options.Revisions.Known()
		for i, l := range links {
			views[i] = l.local.View()
			newest = max(newest, views[i].Revision())
		}
		return views, newest, nil
	}
	linearizable := *req.Range
	linearizable.Serializable = false
	asked := *req
	asked.Range = &linearizable
	states, read, err := g.freezeMany(ctx, &asked, links)
	if err != nil {
		return nil, 0, err
	}
	return states, read.At.Revision, nil
}
