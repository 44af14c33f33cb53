package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// What a backup says of times. The model is what was seen at all nodes: a time that a node has of a revision it has for good, and all nodes have the same one
// (checkTimes). A revision belongs to a time if it is the newest that had a point, or a backup, by then.

// knownTimes are the times that were known before a backup asked for them, and up to where they were compacted when it was answered.
type knownTimes struct {
	points    map[kv.Revision]timeline.Time
	compacted kv.Revision
}

// timed is what a backup has to say.
type timed struct {
	revision kv.Revision
	at       timeline.Time
	taken    bool // at is when a backup was taken, and not of a point
}

// seen are all times that a node ever had.
func (w *world) seenTimes() map[kv.Revision]timeline.Time {
	for _, n := range w.nodes {
		p := n.partOf(consensus.GroupID(kv.SystemShard))
		if !n.up || p == nil || p.replica == nil {
			continue
		}
		for _, point := range p.replica.Times().Points() {
			w.recorded[point.Revision] = point.Time
		}
	}
	return w.recorded
}

// Series implements backup.Timekeeper, as a server does.
func (o *backedUp) Series(context.Context) (series timeline.Series, err error) {
	o.times = knownTimes{}
	p := o.node.backupGateway()
	if p == nil || !o.b.w.plan.Times {
		return series, nil
	}
	points := maps.Clone(o.b.w.seenTimes())
	life := o.node.life
	if err := p.gateway.CatchUp(o.node.patient(), kv.SystemShard); err != nil {
		return series, err
	}
	if !o.node.up || o.node.life != life {
		return series, kv.ErrStopped
	}
	replica := o.node.partOf(consensus.GroupID(kv.SystemShard)).replica
	o.b.w.seenTimes()
	o.times = knownTimes{points, replica.Compacted()}
	return replica.Times(), nil
}

// carries notes what a backup that is made has to say of times.
func (b *backups) carries(made *backup.Backup, known knownTimes) {
	b.timed = append(b.timed, timed{made.Revision, timeline.Time(made.Taken.UnixMilli()), true})
	for revision, at := range known.points {
		if revision >= known.compacted && revision <= made.Revision && (made.Parent == "" || revision > made.HistoryFrom) {
			b.timed = append(b.timed, timed{revision, at, false})
			b.w.mark("backup with times")
		}
	}
}

// belongs is the revision that belongs to a time, by those that are known.
func belongs(known []timed, at timeline.Time) (revision kv.Revision) {
	for _, one := range known {
		if one.at <= at {
			revision = max(revision, one.revision)
		}
	}
	return revision
}

// movedForward is what backups have to say at the latest: a point of a clock that goes back, when those before it are compacted, is moved forward to where one
// before it is that an older backup has.
func (b *backups) movedForward(possible []timed) (certain []timed) {
	for _, one := range b.timed {
		for _, before := range possible {
			if !one.taken && !before.taken && before.revision < one.revision {
				one.at = max(one.at, before.at)
			}
		}
		certain = append(certain, one)
	}
	return certain
}

// compareTimes asks the backups which revision belonged to times, and restores what they say of one.
func (b *backups) compareTimes(ctx context.Context, v *backup.Vault, all []*backup.Backup) error {
	// What was recorded while a backup was made, or was in one whose end nobody heard of, may be there.
	possible := slices.Clone(b.timed)
	for revision, at := range b.w.seenTimes() {
		if revision <= backup.Newest(all) {
			possible = append(possible, timed{revision, at, false})
		}
	}
	for _, one := range all {
		possible = append(possible, timed{one.Revision, timeline.Time(one.Taken.UnixMilli()), true})
	}
	certain := b.movedForward(possible)
	var times []timeline.Time
	for _, one := range possible {
		times = append(times, one.at-1, one.at, one.at+1)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	restored := b.random.IntN(len(times))
	for i, at := range times {
		least, most := belongs(certain, at), belongs(possible, at)
		revision, err := v.RevisionAt(ctx, all, time.UnixMilli(int64(at)))
		switch {
		case errors.Is(err, backup.ErrNotCovered) && least == 0:
			b.w.mark("time before all backups")
			continue
		case err != nil:
			return fmt.Errorf("at time %d: %w", at, err)
		case revision < least || revision > most:
			return fmt.Errorf("at time %d the backups have revision %d, and the store had %d, or up to %d", at, revision, least, most)
		case i < restored:
			continue
		}
		chain, err := backup.Covering(all, revision)
		if err == nil && i == restored {
			err = b.compareAt(ctx, v, chain, revision)
			b.w.mark("backup restored to a time")
		}
		if err != nil {
			return fmt.Errorf("at time %d, restored at revision %d: %w", at, revision, err)
		}
	}
	return nil
}
