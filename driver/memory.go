package driver

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/storage/mvcc"
)

// Each machine knows what it holds in memory. The driver adds up what those of all groups hold, and decides which of them give some up when it is
// too much: a node with many groups needs no more than one with few.

// reckonMemory is called whenever the machine may hold more or less than before, and when it is another one. A replica that is not part of the rounds does
// not count.
func (r *driven) reckonMemory() {
	if !r.counts() {
		return
	}
	held := r.machine.Memory()
	r.driver.memory = r.driver.memory.Plus(held).Minus(r.memory)
	r.memory = held
}

// relieveMemory has groups give memory up if all of them together hold too much.
func (d *Driver) relieveMemory() {
	for d.memory.CacheBytes > d.opts.CacheBytes {
		r := slices.MaxFunc(d.order, func(a, b *driven) int { return cmp.Compare(a.memory.CacheBytes, b.memory.CacheBytes) })
		r.mu.Lock()
		r.machine.ShrinkCache()
		r.mu.Unlock()
		r.reckonMemory()
	}
	if d.memory.DirtyBytes > d.opts.MaxDirtyBytes && d.memory.FrozenBytes < d.opts.MaxDirtyBytes {
		d.flushDirtiest(d.memory.DirtyBytes - d.opts.MaxDirtyBytes/2)
	}
	d.metrics.dirtyBytes.Store(d.memory.DirtyBytes + d.memory.FrozenBytes)
	d.metrics.cacheBytes.Store(d.memory.CacheBytes)
}

// flushDirtiest has the groups flushed that have the most in memory, as many as together have so much. Several at once share the flush of the engine.
func (d *Driver) flushDirtiest(bytes int64) {
	var dirty []*driven
	for _, r := range d.order {
		if r.memory.DirtyBytes > 0 && r.mayFlush() {
			dirty = append(dirty, r)
		}
	}
	slices.SortStableFunc(dirty, func(a, b *driven) int { return cmp.Compare(b.memory.DirtyBytes, a.memory.DirtyBytes) })
	for _, r := range dirty {
		if bytes <= 0 {
			return
		}
		bytes -= r.memory.DirtyBytes
		r.flush.asked = true
		d.needsMaintenance(r)
	}
}

// checkMemory verifies that what was reckoned is what the machines hold.
func (d *Driver) checkMemory() error {
	sum := mvcc.Memory{}
	for _, r := range d.order {
		switch held := r.machine.Memory(); {
		case held != r.memory:
			return fmt.Errorf("group %d holds %+v in memory, and was reckoned with %+v", r.group, held, r.memory)
		case held.FrozenBytes != 0 && !r.flush.running, held.DirtyBytes != 0 && r.machine.DirtyRows() == 0:
			return fmt.Errorf("group %d has given nothing back of what it held in memory: %+v", r.group, held)
		}
		sum = sum.Plus(r.memory)
	}
	if sum != d.memory {
		return fmt.Errorf("the groups hold %+v in memory together, and the node reckons with %+v", sum, d.memory)
	}
	return nil
}
