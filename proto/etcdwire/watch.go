package etcdwire

import "github.com/quoratedb/quorate/kv"

// AppendEvent writes an mvccpb.Event as the field "events" of a WatchResponse, tag and
// length included: encoded events are simply put behind one another, and one encoding serves every watcher
// that wants the same. withPrev says whether ev.Prev is written.
//
// Of a deletion only the key and the mod revision are written, as etcd does.
func AppendEvent(dst []byte, ev *kv.Event, withPrev bool) []byte {
	pair := ev.KV
	if ev.Type == kv.EventDelete {
		pair = kv.KeyValue{Key: ev.KV.Key, ModRevision: ev.KV.ModRevision}
	}
	n := kvSize(&pair)
	size := intSize(int64(ev.Type)) + messageSize(n)
	withPrev = withPrev && ev.Prev != nil
	prev := 0
	if withPrev {
		prev = kvSize(ev.Prev)
		size += messageSize(prev)
	}
	dst = appendHead(dst, fieldEvents, size)
	dst = appendInt(dst, 1, int64(ev.Type))
	dst = appendKV(appendHead(dst, 2, n), &pair)
	if withPrev {
		dst = appendKV(appendHead(dst, 3, prev), ev.Prev)
	}
	return dst
}

const fieldEvents = 11

// WatchResponse is all of an etcdserverpb.WatchResponse but its events.
type WatchResponse struct {
	Header          Header
	WatchID         int64
	Created         bool
	Canceled        bool
	CompactRevision kv.Revision
	CancelReason    string
	Fragment        bool // more parts of the same revisions follow
}

// AppendWatchResponse writes an etcdserverpb.WatchResponse with events that AppendEvent encoded; each
// slice may hold any number of them.
func AppendWatchResponse(dst []byte, r *WatchResponse, events ...[]byte) []byte {
	dst = r.Header.field(dst)
	dst = appendInt(dst, 2, r.WatchID)
	dst = appendBool(dst, 3, r.Created)
	dst = appendBool(dst, 4, r.Canceled)
	dst = appendInt(dst, 5, int64(r.CompactRevision))
	dst = appendBytes(dst, 6, r.CancelReason)
	dst = appendBool(dst, 7, r.Fragment)
	for _, e := range events {
		dst = append(dst, e...)
	}
	return dst
}

// WatchResponseSize is the number of bytes AppendWatchResponse writes without events.
func WatchResponseSize(r *WatchResponse) int {
	return r.Header.fieldSize() + intSize(r.WatchID) + boolSize(r.Created) + boolSize(r.Canceled) +
		intSize(int64(r.CompactRevision)) + bytesSize(len(r.CancelReason)) + boolSize(r.Fragment)
}
