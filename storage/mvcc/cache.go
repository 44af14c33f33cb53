package mvcc

// cacheEntryBytes is what a cached meta costs besides its key: map slot, string header, meta.
const cacheEntryBytes = 96

// cache remembers the newest meta of keys written lately. It has two generations:
// when the younger one is full it becomes the older one, and what the older one held is
// forgotten. Lookups change nothing, so readers may share it.
type cache struct {
	young, old           map[string]Meta
	youngBytes, oldBytes int64
	limitBytes           int64 // of one generation
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
		c.turn()
	}
}

// turn forgets the older generation and begins a new one.
func (c *cache) turn() {
	c.old, c.oldBytes = c.young, c.youngBytes
	c.young, c.youngBytes = make(map[string]Meta, len(c.young)/4), 0
}

// shrink gives memory back: that of the older generation, or of all there is.
func (c *cache) shrink() {
	if c.old == nil || c.oldBytes == 0 {
		c.old, c.young, c.oldBytes, c.youngBytes = nil, map[string]Meta{}, 0, 0
		return
	}
	c.old, c.oldBytes = nil, 0
}

func (c *cache) len() int { return len(c.young) + len(c.old) }
