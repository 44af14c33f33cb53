package wal

import "github.com/quoratedb/quorate/consensus"

// cache remembers in which order entries came into memory, and lets the oldest go.
type cache struct {
	limit, bytes int
	items        []cached // a queue: items[first:]
	first        int
}

type cached struct {
	group *group
	index consensus.Index
	bytes int
}

func (c *cache) add(g *group, index consensus.Index, bytes int) {
	bytes += 64 // what an entry costs beside its data
	c.items = append(c.items, cached{g, index, bytes})
	c.bytes += bytes
}

func (c *cache) evict() {
	for c.bytes > c.limit {
		item := c.items[c.first]
		c.items[c.first] = cached{}
		c.first++
		c.bytes -= item.bytes
		if s := item.group.slot(item.index); s != nil {
			s.data = nil
		}
	}
	if c.first > 1024 && c.first > len(c.items)/2 {
		c.items = append(c.items[:0], c.items[c.first:]...)
		c.first = 0
	}
}
