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
func (r *Reader) RangeStream(q *kv.RangeRequest, chunkBytes int64, fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	at, err := r.readRevision(q.Revision)
	if err != nil {
		return nil, err
	}
	if hasFilters(q) || q.SortOrder == kv.SortDescend || q.SortOrder == kv.SortAscend && q.SortTarget != kv.SortByKey {
		return nil, fmt.Errorf("stream a range: orders and revision filters need the whole range at once: %w", kv.ErrInvalidRequest)
	}
	if q.CountOnly || q.Span.Empty() {
		count, err := r.CountAt(q.Span, at)
		return &kv.RangeResponse{Count: count}, err
	}
	if chunkBytes <= 0 {
		chunkBytes = r.options.ChunkBytes
	}
	s := stream{reader: r, request: q, chunkBytes: chunkBytes, fn: fn}
	if q.SortTarget != kv.SortByKey {
		return s.sorted()
	}
	return s.inKeyOrder(at)
}

// stream sends keys. It collects more of them than it sends at a time, because values of more keys
// together are read more nearly in sequence.
type stream struct {
	reader     *Reader
	request    *kv.RangeRequest
	chunkBytes int64
	fn         func([]kv.KeyValue) error
	found      int64
	held       []kv.KeyValue // the newest chunk: it may be the last
	rest       []byte        // first key that the limit cut off
}

func (s *stream) inKeyOrder(at kv.Revision) (*kv.RangeResponse, error) {
	r := s.reader
	lower, upper := s.request.Span.Bounds()
	limits := scanLimits{keys: r.options.ChunkKeys, bytes: max(s.chunkBytes, r.options.ChunkBytes), ready: s.chunkBytes, values: !s.request.KeysOnly}
	if err := r.scan(lower, upper, at, limits, s.add); err != nil {
		return nil, err
	}
	response := &kv.RangeResponse{KVs: s.held, Count: s.found, More: s.rest != nil}
	if s.rest != nil {
		after, err := r.count(s.rest, upper, at)
		if err != nil {
			return nil, err
		}
		response.Count += after
	}
	return response, nil
}

// add takes the next items of a scan.
func (s *stream) add(items []item) (bool, error) {
	if limit := s.request.Limit; limit > 0 && s.found+int64(len(items)) > limit {
		keep := limit - s.found
		s.rest, items = items[keep].key, items[:keep]
	}
	if !s.request.KeysOnly {
		if err := s.reader.load(items); err != nil {
			return false, err
		}
	}
	s.found += int64(len(items))
	for len(items) > 0 {
		n := chunkLength(len(items), s.chunkBytes, func(i int) int { return len(items[i].key) + len(items[i].value) })
		if err := s.hold(keyValues(items[:n], s.request.KeysOnly)); err != nil {
			return false, err
		}
		items = items[n:]
	}
	return s.rest == nil, nil
}

// sorted streams what Range answers.
func (s *stream) sorted() (*kv.RangeResponse, error) {
	response, err := s.reader.Range(s.request)
	if err != nil {
		return nil, err
	}
	for kvs := response.KVs; len(kvs) > 0; {
		n := chunkLength(len(kvs), s.chunkBytes, func(i int) int { return len(kvs[i].Key) + len(kvs[i].Value) })
		if err := s.hold(kvs[:n:n]); err != nil {
			return nil, err
		}
		kvs = kvs[n:]
	}
	response.KVs = s.held
	return response, nil
}

// hold sends the chunk before this one, which is not the last.
func (s *stream) hold(chunk []kv.KeyValue) error {
	before := s.held
	s.held = chunk
	if len(before) == 0 {
		return nil
	}
	return s.fn(before)
}

// chunkLength tells how many of n things make about chunkBytes.
func chunkLength(n int, chunkBytes int64, size func(i int) int) int {
	sum := int64(0)
	for i := range n {
		if sum += int64(size(i)); sum >= chunkBytes {
			return i + 1
		}
	}
	return n
}
