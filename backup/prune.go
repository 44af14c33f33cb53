package backup

import (
	"context"
	"fmt"
	"slices"
)

// Prunable gives what can go if the newest so many full backups are kept, with all that goes on from them or a later one. What a kept backup needs is kept.
func Prunable(all []*Backup, keep int) (kept, removed []*Backup, err error) {
	if keep < 1 {
		return nil, nil, fmt.Errorf("backup: at least one full backup is kept, not %d", keep)
	}
	full := 0
	first := len(all) // of the backups that are kept
	for i := len(all) - 1; i >= 0 && full < keep; i-- {
		if first = i; all[i].Damage == nil && !all[i].incremental() {
			full++
		}
	}
	needed := make(map[string]bool)
	for _, b := range all[first:] {
		needed[b.ID] = true
		if b.Damage != nil {
			continue // it may need what it cannot say: it is for people to remove it
		}
		chain, err := Chain(all, b)
		if err != nil {
			return nil, nil, fmt.Errorf("%w; nothing was removed: verify the backups first", err)
		}
		for _, parent := range chain {
			needed[parent.ID] = true
		}
	}
	for _, b := range all {
		if needed[b.ID] {
			kept = append(kept, b)
		} else {
			removed = append(removed, b)
		}
	}
	return kept, removed, nil
}

// Remove removes a backup: its manifest first, so that it never looks whole while it is not. One that another goes on from is refused.
func (v *Vault) Remove(ctx context.Context, all []*Backup, b *Backup) error {
	if i := slices.IndexFunc(all, func(o *Backup) bool { return o.Parent == b.ID }); i >= 0 {
		return fmt.Errorf("backup %s: %s goes on from it; remove that first", b.ID, all[i].ID)
	}
	if err := v.target.Delete(ctx, manifestName(b.ID)); err != nil {
		return fmt.Errorf("%s: remove %s: %w", v.target, manifestName(b.ID), err)
	}
	return v.Abandon(ctx, b.ID)
}
