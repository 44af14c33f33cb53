package history

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// keysAsked is an answer that tells the keys of a lease, if there are several shards. Those of one shard must be all that the lease had there at one moment
// between the request and the answer, before the lease had ended. The moments of two shards may differ.
type keysAsked struct {
	operation *Operation
	until     kv.Revision
	told      map[string][][]byte // the keys of the answer, by shard
	// wrong are the shards where the lease had other keys at all revisions that were looked at.
	wrong map[string]struct{}
}

func (c *checker) sortKeysAsked(o *Operation) {
	if !c.Sparse || o.Request.Kind != kv.KindLeaseTimeToLive || !o.tellsKeys() {
		return
	}
	from := max(1, c.times.floor(o.Invoke))
	until := max(from, c.times.ceiling(o.Return))
	c.keysAsked[from] = append(c.keysAsked[from], &keysAsked{operation: o, until: until, told: c.byShard(o.Response.LeaseTimeToLive.Keys)})
}

// byShard takes keys apart by shard. Where they are is not always known: then each is looked at for itself.
func (c *checker) byShard(keys [][]byte) map[string][][]byte {
	shards := map[string][][]byte{}
	for _, key := range keys {
		name := string(key)
		if c.ShardOf != nil {
			name = fmt.Sprint(c.ShardOf(key))
		}
		shards[name] = append(shards[name], key)
	}
	return shards
}

// tryKeysAsked looks which answers are right at the revision that the model is at.
func (c *checker) tryKeysAsked(at kv.Revision) {
	for _, one := range c.keysAsked[at] {
		had := c.byShard(attached(c.model, one.operation.Response.LeaseTimeToLive.ID))
		one.wrong = map[string]struct{}{}
		for _, shards := range []map[string][][]byte{one.told, had} {
			for shard := range shards {
				if !one.right(shard, had) {
					one.wrong[shard] = struct{}{}
				}
			}
		}
		c.keysOpen = append(c.keysOpen, one)
	}
	c.keysOpen = slices.DeleteFunc(c.keysOpen, func(one *keysAsked) bool {
		id := one.operation.Response.LeaseTimeToLive.ID
		if life := c.leases.life(id); len(one.wrong) > 0 && (len(life.grants) != 1 || life.ended == 0) {
			had := c.byShard(attached(c.model, id))
			maps.DeleteFunc(one.wrong, func(shard string, _ struct{}) bool { return one.right(shard, had) })
		}
		if len(one.wrong) > 0 && at >= one.until {
			c.keysWrong(one)
		}
		return len(one.wrong) == 0 || at >= one.until
	})
}

func (k *keysAsked) right(shard string, had map[string][][]byte) bool {
	return slices.EqualFunc(k.told[shard], had[shard], bytes.Equal)
}

func (c *checker) keysWrong(one *keysAsked) {
	shards := slices.Sorted(maps.Keys(one.wrong))
	c.problem("%s was answered that keys %q are attached; what that says of shards %q was not so at any revision while the lease lived and was asked about (the last is %d)",
		one.operation.name(), one.operation.Response.LeaseTimeToLive.Keys, shards, one.until)
}

func (c *checker) endKeysAsked() {
	for _, one := range c.keysOpen {
		c.keysWrong(one)
	}
}
