package gateway

import (
	"context"
	"errors"
	"slices"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Backup is the store at one revision: all keys, their history, and the leases. It must be closed: until then nothing that it has is deleted from the disk. It
// is one of the calls in flight. For one goroutine.
type Backup struct {
	gateway   *Gateway
	states    []*mvcc.View
	revision  kv.Revision
	compacted kv.Revision
	history   kv.Revision // where it begins
	leases    []kv.Lease
	users     *auth.State // nil: there never were any
}

// OpenBackup takes the store at a revision that is not below any that was answered before the call. Like a read of everything it needs the leaders of all
// shards.
func (g *Gateway) OpenBackup(ctx context.Context, principal string) (*Backup, error) {
	req := &kv.Request{Kind: kv.KindRange, Principal: principal, AuthVersion: kv.Unjudged, Range: &kv.RangeRequest{Span: kv.Everything()}}
	from, links, err := g.admitReader(req)
	if err != nil {
		return nil, err
	}
	b, opened := &Backup{gateway: g}, false
	defer func() {
		if !opened { // also when the goroutine ends while it waits
			b.Close()
		}
	}()
	if err := b.freeze(ctx, req, from, links); err != nil {
		return nil, err
	}
	opened = true
	return b, nil
}

// freeze takes the leases before and after the state: they have no revisions. A lease that keys of the state have is in one of the two, unless it lived for no
// longer than that took.
func (b *Backup) freeze(ctx context.Context, req *kv.Request, from *leaderLink, links []*leaderLink) error {
	before, err := b.gateway.grants(ctx)
	if err != nil {
		return err
	}
	if links == nil {
		state, err := from.freeze(ctx, req)
		if err != nil {
			return err
		}
		b.states, b.revision = []*mvcc.View{state.View}, state.Revision()
	} else {
		states, read, err := b.gateway.freezeMany(ctx, req, links)
		if err != nil {
			return err
		}
		b.states, b.revision = states, read.At.Revision
	}
	b.compacted = gather.Compacted(b.states)
	for _, state := range b.states {
		b.history = max(b.history, state.HistoryFrom())
	}
	after, err := b.gateway.grants(ctx)
	if err != nil {
		return err
	}
	b.leases = union(before, after)
	b.users = b.gateway.users()
	return nil
}

// union merges two lists, each in the order of the leases.
func union(a, b []kv.Lease) []kv.Lease {
	all := slices.Concat(b, a) // of a lease that was revoked and granted again, the later
	slices.SortStableFunc(all, func(a, b kv.Lease) int {
		switch {
		case uint64(a.ID) < uint64(b.ID):
			return -1
		case uint64(a.ID) > uint64(b.ID):
			return 1
		}
		return 0
	})
	return slices.CompactFunc(all, func(a, b kv.Lease) bool { return a.ID == b.ID })
}

// grants lists all leases as they were granted, from the state here, once that has come to where its leader was.
func (g *Gateway) grants(ctx context.Context) (grants []kv.Lease, err error) {
	if err := g.CatchUp(ctx, kv.SystemShard); err != nil {
		return nil, err
	}
	local := g.links.byShard[kv.SystemShard].local
	all, err := local.Read(&kv.Request{Kind: kv.KindLeaseLeases, AuthVersion: kv.Unjudged})
	if err != nil {
		return nil, err
	}
	for _, id := range all.LeaseLeases.IDs {
		one, err := local.Read(&kv.Request{Kind: kv.KindLeaseTimeToLive, AuthVersion: kv.Unjudged, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id}})
		if errors.Is(err, kv.ErrLeaseNotFound) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		if ttl := one.LeaseTimeToLive.GrantedTTLSeconds; ttl > 0 {
			grants = append(grants, kv.Lease{ID: id, TTLSeconds: ttl})
		}
	}
	return grants, nil
}

// Revision is that of the state.
func (b *Backup) Revision() kv.Revision { return b.revision }

// Compacted is where the history begins that clients see; 0: it is whole.
func (b *Backup) Compacted() kv.Revision { return b.compacted }

// HistoryFrom is where the history begins that an Export has: not above Compacted. See mvcc.Reader.HistoryFrom.
func (b *Backup) HistoryFrom() kv.Revision { return b.history }

// Leases are the leases as they were granted, in the order of their IDs taken as unsigned numbers.
func (b *Backup) Leases() []kv.Lease { return b.leases }

// Users are users and roles, as new as the leases; nil: there never were any.
func (b *Backup) Users() *auth.State { return b.users }

// Versions gives the history to fn, in its order, and of what was before it what was live where it begins. position is that of the change within its revision.
func (b *Backup) Versions(fn func(e *mvcc.Effect, position int64) error) error {
	return gather.Versions(b.states, b.revision, fn)
}

// Close lets go of the state.
func (b *Backup) Close() {
	closeViews(b.states)
	b.states = nil
	b.gateway.calls.Add(-1)
}
