package etcdwire

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/kv"
)

// What nodes tell each other about leases with keys in other shards. etcd has no such message.

// bindingField is the number of a binding in a LeaseTimeToLiveResponse between nodes.
const bindingField = 15

func appendBinding(dst []byte, b *kv.LeaseBinding) []byte {
	dst = appendInt(appendInt(appendInt(dst, 1, int64(b.Lease)), 2, int64(b.Incarnation)), 3, int64(b.Shard))
	if len(b.Shards) > 0 {
		dst = appendHead(dst, 4, shardsSize(b.Shards))
		for _, id := range b.Shards {
			dst = binary.AppendUvarint(dst, uint64(id))
		}
	}
	return dst
}

func bindingSize(b *kv.LeaseBinding) int {
	size := intSize(int64(b.Lease)) + intSize(int64(b.Incarnation)) + intSize(int64(b.Shard))
	if len(b.Shards) > 0 {
		size += messageSize(shardsSize(b.Shards))
	}
	return size
}

func decodeBinding(in []byte, out *kv.LeaseBinding) error {
	*out = kv.LeaseBinding{}
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireVarint:
			out.Lease = kv.LeaseID(c.int64())
		case 2<<3 | wireVarint:
			out.Incarnation = uint64(c.int64())
		case 3<<3 | wireVarint:
			out.Shard = kv.ShardID(c.int64())
		case 4<<3 | wireBytes:
			out.Shards, err = decodeShards(c.bytes(), Limits{})
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}
