package backup

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Chain gives a backup after its parents: the full one first.
func Chain(all []*Backup, b *Backup) (chain []*Backup, err error) {
	for {
		if b.Damage != nil {
			return nil, fmt.Errorf("backup %s: %w", b.ID, b.Damage)
		}
		chain = append(chain, b)
		if !b.incremental() {
			slices.Reverse(chain)
			return chain, nil
		}
		i := slices.IndexFunc(all, func(p *Backup) bool { return p.ID == b.Parent })
		switch {
		case i < 0:
			return nil, fmt.Errorf("%w: backup %s goes on from %s, which is not there", ErrMissingLink, b.ID, b.Parent)
		case all[i].Damage != nil:
			return nil, fmt.Errorf("%w: backup %s goes on from %s: %w", ErrMissingLink, b.ID, b.Parent, all[i].Damage)
		case all[i].Sum != b.ParentSum:
			return nil, fmt.Errorf("%w: backup %s goes on from another %s than is there", ErrMissingLink, b.ID, b.Parent)
		case all[i].Cluster != b.Cluster || all[i].Revision != b.HistoryFrom || len(chain) > len(all):
			return nil, fmt.Errorf("%w: backup %s does not go on from where %s ends", ErrMissingLink, b.ID, b.Parent)
		}
		b = all[i]
	}
}

// Covering gives the chain that a revision is restored from: the shortest one, and of these the newest.
func Covering(all []*Backup, revision kv.Revision) (best []*Backup, err error) {
	var broken error
	for _, b := range all {
		if b.Damage != nil || !b.covers(revision) {
			continue
		}
		chain, err := Chain(all, b)
		if err != nil {
			broken = err
			continue
		}
		if best == nil || len(chain) <= len(best) {
			best = chain
		}
	}
	switch {
	case best != nil:
		return best, nil
	case broken != nil:
		return nil, broken
	}
	return nil, fmt.Errorf("%w: revision %d; there are %s", ErrNotCovered, revision, coverage(all))
}

// Newest is the highest revision that any of the backups has.
func Newest(all []*Backup) (newest kv.Revision) {
	for _, b := range all {
		newest = max(newest, b.Revision)
	}
	return newest
}

// coverage says which revisions can be restored.
func coverage(all []*Backup) string {
	type interval struct{ from, to kv.Revision }
	var intervals []interval
	for _, b := range all {
		if b.Damage == nil {
			intervals = append(intervals, interval{b.HistoryFrom, b.Revision})
		}
	}
	if len(intervals) == 0 {
		return "none"
	}
	slices.SortFunc(intervals, func(a, b interval) int { return int(a.from - b.from) })
	joined := intervals[:1]
	for _, i := range intervals[1:] {
		if last := &joined[len(joined)-1]; i.from <= last.to {
			last.to = max(last.to, i.to)
		} else {
			joined = append(joined, i)
		}
	}
	text := ""
	for i, one := range joined {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d to %d", one.from, one.to)
	}
	return text
}
