package gateway

import (
	"context"

	"github.com/quoratedb/quorate/kv"
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
func (g *Gateway) HashKV(ctx context.Context, principal string, revision kv.Revision) (HashResult, error) {
	req := &kv.Request{Kind: kv.KindRange, Principal: principal,
		Range: &kv.RangeRequest{Span: kv.Span{Start: []byte{0}, End: []byte{0}}, Serializable: true}}
	l, err := g.admit(req)
	if err != nil {
		return HashResult{}, err
	}
	select {
	case g.hashing <- struct{}{}:
	case <-ctx.Done():
		return HashResult{}, ctx.Err()
	}
	defer func() { <-g.hashing }()
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
