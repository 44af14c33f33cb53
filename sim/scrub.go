package sim

import (
	"time"
)

// Nodes read their disks again often enough for several passes in a run, and slowly enough for a pass to take many pieces.
const (
	scrubInterval       = 4 * time.Second
	scrubBytesPerSecond = 64 << 10
)

// mustScrub tells whether the node is left to find out by itself that its disks are rotten, after everything else was healed: nobody may
// be reading there. The cluster has not settled before it has, so it takes the scrub at most the run's patience. Not so where too much is lost to come
// back, where a lying sync has been at work as well, on the real engine, in whose files the flipped bit may be where nothing is, and where the node gets other
// disks in any case: what is rotten may be deleted before it is read.
func (w *world) mustScrub(n *node) bool {
	return n.rotten() && !n.damage.lied && !w.plan.LoseQuorum && !n.lacksGroups()
}

// rotten tells whether something on the node's disks is rotten that is still there to be read.
func (n *node) rotten() bool {
	d, ok := n.disks.(*memoryDisks)
	if !ok {
		return false
	}
	for key := range n.damage.rows {
		if _, found, err := d.engine.Get([]byte(key), nil); found && err == nil {
			return true
		}
	}
	for _, e := range n.damage.entries {
		if rotten, err := d.log.Group(e.group).Entries(e.index, e.index+1, 1); err == nil && len(rotten) > 0 && rotten[0].Index == e.index {
			return true
		}
	}
	return false
}
