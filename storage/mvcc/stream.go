package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// RangeStream reads a span in chunks of about chunkBytes (0: Options.ChunkBytes). Each chunk but the last is given to fn, which
// owns it; none is empty. The last one is in the response, with More and Count: a reader that looks at the keys as they come must have all
// that belongs to the end of the list with the last of them. The response has no keys only if there are none at all.
//
// Keys come in their order, or ascending by the sort target; then the whole answer is in memory at once, as with Range. Other
// orders, and filters, are not possible, as in etcd.
//
// The tally (nil: nobody counts) has two chunks in it at most, or the whole answer if it is sorted: a chunk counts until fn returns.
func (r *Reader) RangeStream(q *kv.RangeRequest, chunkBytes int64, tally *kv.Tally, fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	if chunkBytes <= 0 {
		chunkBytes = r.options.ChunkBytes
	}
	list := func() (Portions, error) { return r.NewList(q) }
	return Stream(q, chunkBytes, tally, list, func() (*kv.RangeResponse, error) { return r.Range(q, tally) }, fn)
}

// Portions is what a stream in key order is made of: a List, or what stands for several of them.
type Portions interface {
	Next(bytes int64, tally *kv.Tally) ([]kv.KeyValue, error)
	Count(tally *kv.Tally) (int64, error)
	More() bool
}

// Stream is RangeStream for what somebody else lists in portions, or answers at once: whichever the request needs is called.
func Stream(q *kv.RangeRequest, chunkBytes int64, tally *kv.Tally, list func() (Portions, error), answer func() (*kv.RangeResponse, error),
	fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	if q.Filters() || q.SortOrder == kv.SortDescend || q.SortOrder == kv.SortAscend && q.SortTarget != kv.SortByKey {
		return nil, fmt.Errorf("stream a range: orders and revision filters need the whole range at once: %w", kv.ErrInvalidRequest)
	}
	before := tally.HeldBytes()
	var last *kv.RangeResponse
	var err error
	if InKeyOrder(q) {
		last, err = streamInKeyOrder(chunkBytes, tally, list, fn)
	} else {
		last, err = streamSorted(chunkBytes, answer, fn)
	}
	if err != nil {
		tally.Rewind(before)
		return nil, err
	}
	return last, nil
}

// streamInKeyOrder sends each portion of a list when it is known that it is not the last.
func streamInKeyOrder(chunkBytes int64, tally *kv.Tally, list func() (Portions, error), fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	l, err := list()
	if err != nil {
		return nil, err
	}
	var held []kv.KeyValue
	for {
		chunk, err := l.Next(chunkBytes, tally)
		if err != nil {
			return nil, err
		}
		if chunk == nil {
			count, err := l.Count(tally)
			return &kv.RangeResponse{KVs: held, Count: count, More: l.More()}, err
		}
		if held != nil {
			size := kv.MemoryBytes(held)
			if err := fn(held); err != nil {
				return nil, err
			}
			tally.Forget(size)
		}
		held = chunk
	}
}

// streamSorted streams an answer.
func streamSorted(chunkBytes int64, answer func() (*kv.RangeResponse, error), fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	response, err := answer()
	if err != nil {
		return nil, err
	}
	for {
		kvs := response.KVs
		n := chunkLength(len(kvs), chunkBytes, func(i int) int64 { return kv.KeyValueBytes + int64(len(kvs[i].Key)+len(kvs[i].Value)) })
		if n == len(kvs) {
			return response, nil
		}
		response.KVs = kvs[n:]
		if err := fn(kvs[:n:n]); err != nil {
			return nil, err
		}
	}
}

// chunkLength tells how many of n things make about chunkBytes.
func chunkLength(n int, chunkBytes int64, size func(i int) int64) int {
	sum := int64(0)
	for i := range n {
		if sum += size(i); sum >= chunkBytes {
			return i + 1
		}
	}
	return n
}
