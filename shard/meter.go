package shard

import (
	"unsafe"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// What things take in memory beside their bytes, for a request's tally. A list that grows is counted twice: while it is copied both are there.
const (
	liveKeyBytes   = 2 * int64(unsafe.Sizeof(liveKey{}))
	overlaidBytes  = 2 * int64(unsafe.Sizeof(overlaid{}))
	attachedBytes  = 2 * int64(unsafe.Sizeof([]byte{}))
	responseBytes  = int64(unsafe.Sizeof(kv.OpResponse{}))
	pathBytes      = 2 * int64(unsafe.Sizeof(path{}))
	leaseEndBytes  = int64(unsafe.Sizeof(leaseEnd{}))
	leaseIDBytes   = int64(unsafe.Sizeof(kv.LeaseID(0)))
	locatorBytes   = 2 * int64(unsafe.Sizeof(mvcc.Locator{}))
	changeRowBytes = 256 // a change in the overlay with its indexes, and once more as it is encoded
)

// opAnswerBytes is about what the answer of one operation takes beside keys and values.
const opAnswerBytes = responseBytes + 64

// payForChange makes room for a change with so many bytes of key and value.
func (ev *evaluation) payForChange(bytes int) error {
	return ev.tally.Add(changeRowBytes + int64(bytes))
}

// payForLeaseIDs makes room for a list of so many leases, and for what sorting it takes.
func payForLeaseIDs(n int, tally *kv.Tally) error {
	return tally.Add(int64(n) * (2*leaseEndBytes + leaseIDBytes))
}

// rowBytes is what the version of a key takes in an answer.
func rowBytes(key []byte, meta mvcc.Meta) int64 {
	return kv.KeyValueBytes + int64(len(key)) + int64(meta.ValueLen)
}

// effectBytes is what an effect takes in an answer. The bytes may be shared with the request that wrote them, but the answer
// keeps them when that one is gone.
func effectBytes(e *mvcc.Effect) int64 { return kv.KeyValueBytes + int64(len(e.Key)+len(e.Value)) }
