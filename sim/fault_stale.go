package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/driver"
)

// FaultStaleDisk puts an older image of Node's own disks back, with the same disk ID: a snapshot of a machine that was restored. The image is
// taken when the fault begins, and put back after Duration, when all other nodes have on disk that the node has written more since
// (docs/decisions/0012-lost-replicas.md, "Marks", says why it takes that). If Amount is below 0.3 only the log goes back, not the state.
const FaultStaleDisk FaultKind = "stale-disk"

func (w *world) injectStale(f *Fault, n *node, _ *rand.Rand) bool {
	if f.Kind != FaultStaleDisk {
		return false
	}
	d, ok := n.disks.(*memoryDisks)
	if !ok || n.damage.why != "" || n.hurt {
		return true
	}
	image := &memoryDisks{node: n, log: d.log.Image(), staged: d.staged}
	if f.Amount >= 0.3 {
		image.engine = d.engine.Image(engineFiles{d.staged})
	}
	w.after(max(f.Duration, time.Millisecond), func() { w.putBack(n, image, n.diskID, 30) })
	return true
}

// putBack looks several times, for as long as the others may take to know.
func (w *world) putBack(n *node, image *memoryDisks, disk uint64, attempts int) {
	switch {
	case w.ended || n.diskID != disk || n.damage.why != "" || attempts == 0:
		return
	case w.mixed() || !w.remembered(n, driver.Position(image.log)) || w.hurtBeside(n) > 0 || !w.mayDamage(n, "its disks are as they were earlier"):
		w.after(100*time.Millisecond, func() { w.putBack(n, image, disk, attempts-1) })
		return
	}
	w.mark("disk went back in time")
	if w.reading() {
		w.line("node %d gets its disks back as they were after write %d", n.id, driver.Position(image.log))
	}
	w.takeDown(n)
	d := n.disks.(*memoryDisks)
	if image.engine == nil {
		image.engine = d.engine
	}
	n.disks = image
	n.damage.stale, n.damage.former = true, true
	w.after(n.restartLatency(), n.start)
}

// remembered tells whether every other node runs, and has on disk that the node has written more than that.
func (w *world) remembered(n *node, position uint64) bool {
	for _, other := range w.others(n, 0) {
		if !other.up {
			return false
		}
		if other.store.Witnessed(n.id, n.diskID) <= position {
			return false
		}
	}
	return true
}

// takeDown cuts the node's power, and does not start it again.
func (w *world) takeDown(n *node) {
	if n.up {
		n.end()
		n.disks.crash(nil)
	}
	n.crashPlan = crashPlan{}
}
