package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
	"github.com/quoratedb/quorate/timeline/calendar"
)

// times are those that a backup itself has.
func (v *Vault) times(ctx context.Context, b *Backup, keys []*key) (all timeline.Series, err error) {
	for _, f := range b.Times {
		r, err := v.readWhole(ctx, f, keys)
		if err != nil {
			return all, err
		}
		series, err := r.times()
		if err != nil {
			return all, fmt.Errorf("%s: %w", f.Name, err)
		}
		all = timeline.Join(all, series)
	}
	return all, nil
}

// RevisionAt gives the revision that the store had at a time: as the newest point says that is not after it, or the newest backup that was taken by then, if
// that has a later revision. ErrNotCovered says which times are covered.
func (v *Vault) RevisionAt(ctx context.Context, all []*Backup, at time.Time) (kv.Revision, error) {
	var series timeline.Series
	var taken, first *Backup
	for _, b := range all {
		if b.Damage != nil {
			continue
		}
		if len(b.Times) > 0 {
			keys, err := v.keys(ctx, b)
			if err != nil {
				return 0, fmt.Errorf("backup %s: %w", b.ID, err)
			}
			own, err := v.times(ctx, b, keys)
			if err != nil {
				return 0, fmt.Errorf("backup %s: %w", b.ID, err)
			}
			series = timeline.Join(series, own)
		}
		if first == nil || b.Taken.Before(first.Taken) {
			first = b
		}
		if !b.Taken.After(at) && (taken == nil || taken.Revision < b.Revision) {
			taken = b
		}
	}
	revision := kv.Revision(0)
	if point, ok := series.At(calendar.Millis(at)); ok {
		revision = point.Revision
	}
	if taken != nil {
		revision = max(revision, taken.Revision)
	}
	if revision > 0 {
		return revision, nil
	}
	from := []time.Time{}
	if first != nil {
		from = append(from, first.Taken)
	}
	if p := series.First(); p.Valid() {
		from = append(from, calendar.Of(p.Time))
	}
	if len(from) == 0 {
		return 0, fmt.Errorf("%w: %s; there are no backups", ErrNotCovered, at.Format(time.RFC3339))
	}
	return 0, fmt.Errorf("%w: %s; times from %s on are, and of revisions there are %s", ErrNotCovered, at.Format(time.RFC3339),
		slices.MinFunc(from, time.Time.Compare).Format(time.RFC3339), coverage(all))
}
