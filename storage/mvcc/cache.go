package mvcc

// cacheEntryBytes is what a cached meta costs besides its key: map slot, string header, meta.
const cacheEntryBytes = 96

// cache remembers the newest meta of keys written lately. It has two generations:
// when the younger one is full it becomes the older one, and what the older one held is
// forgotten. Lookups change nothing, so readers may share it.
type cache struct {
	young, old map[string]Meta
	youngBytes int64
	limitBytes int64 // of one generation
}

func newCache(limitBytes int64) cache {
	c := cache{limitBytes: limitBytes / 2}
	if limitBytes > 0 {
		c.young = map[string]Meta{}
	}
	return c
}

func (c *cache) get(key []byte) (Meta, bool) {
	if m, ok := c.young[string(key)]; ok {
		return m, true
	}
	m, ok := c.old[string(key)]
	return m, ok
}

func (c *cache) put(key string, m Meta) {
	if c.young == nil {
		return
	}
	before := len(c.young)
	c.young[key] = m
	if len(c.young) == before {
		return
	}
	c.youngBytes += cacheEntryBytes + int64(len(key))
	if c.youngBytes > c.limitBytes {
		c.old, c.young, c.youngBytes = c.young, make(map[string]Meta, len(c.young)/4), 0
	}
}

func (c *cache) len() int { return len(c.young) + len(c.old) }
