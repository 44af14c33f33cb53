package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/restore"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// What backups are good for: all of them are restored in the end, into stores of other shapes, and compared with what happened.

// check restores revisions of the backups into other shards, and compares them with what happened.
func (b *backups) check() {
	if b == nil || b.w.verdict != "" {
		return
	}
	b.objects.Intercept = nil
	if err := b.compare(context.Background()); err != nil {
		b.w.fail(Correctness, "backups: %v", err)
	}
}

func (b *backups) compare(ctx context.Context) error {
	v := b.vault()
	all, err := v.List(ctx)
	if err != nil {
		return err
	}
	wrong, err := v.VerifyRest(ctx)
	if err = errors.Join(append(wrong, err)...); err != nil {
		return err
	}
	for _, one := range all {
		wrong, err := v.Verify(ctx, one, func(int64) {})
		if err = errors.Join(append(wrong, err)...); err != nil {
			return fmt.Errorf("%s: %w", one.ID, err)
		}
	}
	for _, one := range all {
		revisions := []kv.Revision{one.Revision, one.HistoryFrom, one.HistoryFrom + kv.Revision(b.random.Int64N(int64(one.Revision-one.HistoryFrom)+1))}
		for _, revision := range revisions {
			chain, err := backup.Covering(all, revision)
			if err != nil {
				return err
			}
			if err := b.compareAt(ctx, v, chain, revision); err != nil {
				return fmt.Errorf("%s, restored at revision %d: %w", chain[len(chain)-1].ID, revision, err)
			}
		}
	}
	if b.w.plan.Times {
		return b.compareTimes(ctx, v, all)
	}
	return nil
}

// compareAt compares what a chain has up to a revision.
func (b *backups) compareAt(ctx context.Context, v *backup.Vault, chain []*backup.Backup, revision kv.Revision) error {
	source, err := v.Source(ctx, chain, revision, nil)
	if err != nil {
		return err
	}
	from := source.HistoryFrom()
	events := b.w.groups[0].truth.events
	if b.w.shared() {
		events = b.w.storeEvents()
	}
	before, err := b.compareVersions(ctx, source, events, from, revision)
	if err != nil {
		return err
	}
	if err := sameKeys(before, liveAt(events, from)); err != nil {
		return fmt.Errorf("what was live at revision %d, where its history begins: %w", from, err)
	}
	restored, err := b.restore(ctx, source)
	if err != nil {
		return fmt.Errorf("restore it: %w", err)
	}
	for _, at := range []kv.Revision{revision, max(from, revision-kv.Revision(b.random.Int64N(3)))} {
		found, err := restored.keys(at)
		if err == nil {
			err = sameKeys(found, liveAt(events, at))
		}
		if err != nil {
			return fmt.Errorf("of the restored store at revision %d: %w", at, err)
		}
	}
	b.w.mark("backup restored")
	return nil
}

// compareVersions compares the history, change by change, and returns what was live where it begins.
func (b *backups) compareVersions(ctx context.Context, source *backup.Source, events []kv.Event, from, upTo kv.Revision) (map[string]kv.KeyValue, error) {
	live := map[string]kv.KeyValue{}
	i := 0
	for i < len(events) && events[i].KV.ModRevision <= from {
		i++
	}
	err := source.Versions(ctx, func(v *backup.Version, _ int64) error {
		if v.ModRevision <= from {
			delete(live, string(v.Key))
			if v.Version != 0 {
				live[string(v.Key)] = cloneOf(&v.KeyValue)
			}
			return nil
		}
		if i == len(events) || !sameVersion(&v.KeyValue, &events[i].KV) {
			return fmt.Errorf("it has %q=%q at revision %d, version %d, which is not what happened next", v.Key, v.Value, v.ModRevision, v.Version)
		}
		i++
		return nil
	})
	if err == nil && i < len(events) && events[i].KV.ModRevision <= upTo {
		err = fmt.Errorf("it lacks %q=%q at revision %d", events[i].KV.Key, events[i].KV.Value, events[i].KV.ModRevision)
	}
	return live, err
}

func cloneOf(v *kv.KeyValue) kv.KeyValue {
	c := *v
	c.Key, c.Value = bytes.Clone(v.Key), bytes.Clone(v.Value)
	return c
}

func sameVersion(a, b *kv.KeyValue) bool {
	return bytes.Equal(a.Key, b.Key) && a.ModRevision == b.ModRevision && a.Version == b.Version &&
		(a.Version == 0 || bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision && a.Lease == b.Lease)
}

// liveAt are the keys at a revision.
func liveAt(events []kv.Event, revision kv.Revision) map[string]kv.KeyValue {
	live := map[string]kv.KeyValue{}
	for i := range events {
		switch e := &events[i]; {
		case e.KV.ModRevision > revision:
			return live
		case e.Type == kv.EventDelete:
			delete(live, string(e.KV.Key))
		default:
			live[string(e.KV.Key)] = e.KV
		}
	}
	return live
}

func sameKeys(found, want map[string]kv.KeyValue) error {
	keys := map[string]bool{}
	for key := range found {
		keys[key] = true
	}
	for key := range want {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		a, b := found[key], want[key]
		if !sameVersion(&a, &b) {
			return fmt.Errorf("%q is %q of revision %d, and was %q of revision %d", key, a.Value, a.ModRevision, b.Value, b.ModRevision)
		}
	}
	return nil
}

// restoredStore is what a store of other shards has.
type restoredStore []*shard.Machine

// restore makes a store of a backup, divided in another way, and opens it as a node does after a restart.
func (b *backups) restore(ctx context.Context, source *backup.Source) (restoredStore, error) {
	scheme := partition.Scheme{Kind: partition.Range, Shards: 1 + b.random.IntN(5)}
	if b.random.IntN(2) == 0 && scheme.Shards > 1 {
		scheme.Kind, scheme.HashPrefix = partition.Hash, b.random.IntN(2)
	} else {
		for _, i := range b.random.Perm(len(splitKeys))[:scheme.Shards-1] {
			scheme.SplitKeys = append(scheme.SplitKeys, []byte(splitKeys[i]))
		}
		slices.SortFunc(scheme.SplitKeys, bytes.Compare)
	}
	table, err := partition.New(scheme)
	if err != nil {
		return nil, err
	}
	engine := storage.NewMemory(storage.MemoryOptions{})
	seed := b.random.Uint64()
	into := restore.Options{Table: table, Sequenced: scheme.Shards > 1, MinLeaseTTLSeconds: 1, Members: consensus.Config{Voters: []consensus.ReplicaID{1}},
		Rand: func() *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }, FlushRows: int(seed % 40), TableBytes: int(seed % 3)}
	filled, err := restore.Fill(ctx, engine, source, 0, into)
	if err != nil {
		return nil, err
	}
	if filled.Revision != source.Revision() {
		return nil, fmt.Errorf("it goes on from revision %d", filled.Revision)
	}
	var store restoredStore
	for _, id := range scheme.ShardIDs() {
		m, err := shard.Open(engine, shard.Options{Shard: id, Sequenced: into.Sequenced, Rand: into.Rand(), MinLeaseTTLSeconds: 1})
		if err != nil {
			return nil, err
		}
		store = append(store, m)
	}
	return store, nil
}

// keys are all keys at a revision.
func (s restoredStore) keys(at kv.Revision) (map[string]kv.KeyValue, error) {
	all := map[string]kv.KeyValue{}
	for _, m := range s {
		view := m.View()
		answer, err := m.Read(view, 0, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything(), Revision: at}})
		_ = view.Close() // it was only read
		if err != nil {
			return nil, err
		}
		for _, row := range answer.Range.KVs {
			all[string(row.Key)] = row
		}
	}
	return all, nil
}
