package etcd

import (
	"context"
	"errors"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"github.com/quoratedb/quorate/proto/h2"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Lists are read while they are sent: a portion of them is in memory, however long they are and however slowly their client reads.

const (
	// firstPortionBytes is how much of a list is read before it is decided how it is sent: most end within.
	firstPortionBytes = 4 << 20
	portionBytes      = 1 << 20
	// surePortionBytes is a portion when memory is scarce. It is small, so that it may come of the last of the budget.
	surePortionBytes = 12 << 10
	// pieceBytes is how much of a portion is encoded at a time.
	pieceBytes = 64 << 10
	// memoryPatience is how long a list that has begun waits for memory, and memoryPause how often it looks. The first is as long as a client may
	// take nothing of what is sent: who has the memory has been cut off by then.
	memoryPatience = time.Minute
	memoryPause    = 20 * time.Millisecond
	// maxMessageBytes is what etcd's client takes.
	maxMessageBytes = math.MaxInt32
)

// lists tells whether a request is answered in portions.
func lists(r *kv.RangeRequest) bool { return !r.Span.Single() && mvcc.InKeyOrder(r) }

// portionMemory is the memory of a portion.
type portionMemory struct {
	call  *rpc.Call
	amply bool // only while there is plenty
}

// Reserve implements kv.Memory.
func (m *portionMemory) Reserve(bytes int64) bool {
	if m.amply {
		return m.call.ReserveAmply(bytes)
	}
	return m.call.Reserve(bytes)
}

// Release implements kv.Memory.
func (m *portionMemory) Release(bytes int64) { m.call.Release(bytes) }

// list is a list that is being sent.
type list struct {
	gateway.Listing
	ctx    context.Context
	memory portionMemory
	tally  kv.Tally
	begun  bool // its client has got a part of it
}

func (s *Service) openList(ctx context.Context, call *rpc.Call, request *kv.Request) (*list, error) {
	listing, err := s.options.Gateway.OpenRange(ctx, request)
	if err != nil {
		return nil, err
	}
	call.LimitStalls = true // the state is kept for it
	l := &list{Listing: listing, ctx: ctx, memory: portionMemory{call: call}}
	l.tally = kv.NewTally(&l.memory)
	return l, nil
}

// next returns the next portion, a small one if there is no memory for more. The one before is not held any more. A list whose client has got
// nothing yet is refused if there is no memory at all; later on it waits, holding nothing, for its client has no use for half of it.
func (l *list) next(bytes int64) ([]kv.KeyValue, error) {
	l.tally.Release()
	l.memory.amply = true
	kvs, err := l.Next(bytes, &l.tally)
	for deadline := time.Now().Add(memoryPatience); errors.Is(err, kv.ErrTooManyRequests); {
		l.memory.amply = false
		l.tally.Release()
		if kvs, err = l.Next(surePortionBytes, &l.tally); err == nil || !l.begun || time.Now().After(deadline) {
			break
		}
		select {
		case <-l.ctx.Done():
			return nil, context.Cause(l.ctx)
		case <-time.After(memoryPause):
		}
	}
	return kvs, err
}

// measure returns what the keys that are still to come take in the answer. It ends when nobody waits for that any more: there may be many keys.
func (l *list) measure(keysOnly bool) (size int, err error) {
	l.memory.amply = false
	err = l.Measure(&l.tally, func(key []byte, m mvcc.Meta) error {
		if l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
		valueBytes := int(m.ValueLen)
		if keysOnly {
			valueBytes = 0
		}
		rest := kv.KeyValue{CreateRevision: m.Create, ModRevision: m.At.Rev, Version: m.Version, Lease: m.Lease}
		size += etcdwire.RangeKeySize(&rest, len(key), valueBytes)
		return nil
	})
	return size, err
}

// sendList answers a Range. An answer of more than one portion is begun with its size, which a look at the rest of the keys tells, and goes on
// with what is read next.
func (s *Service) sendList(call *rpc.Call, asked *gateway.Call) error {
	if asked.RequireLeader && !s.hasLeader() {
		return kv.ErrNoLeader
	}
	l, err := s.openList(call.Context(), call, asked.Req)
	if err != nil {
		return err
	}
	defer l.Close()
	kvs, err := l.next(firstPortionBytes)
	if err != nil {
		return err
	}
	rest, err := l.measure(asked.Req.Range.KeysOnly)
	if err != nil {
		return err
	}
	end := &kv.RangeResponse{More: l.More()}
	if end.Count, err = l.Count(&l.tally); err != nil {
		return err
	}
	header := s.header()
	header.Revision = l.Revision()
	if rest == 0 {
		end.KVs = kvs
		call.Last(h2.Message{Bytes: etcdwire.AppendRangeResponse(make([]byte, 0, etcdwire.RangeResponseSize(header, end)), header, end)})
		return nil
	}
	whole := etcdwire.RangeResponseSize(header, &kv.RangeResponse{KVs: kvs, Count: end.Count, More: end.More}) + rest
	if whole > maxMessageBytes {
		return status.Errorf(codes.ResourceExhausted, "the answer has %d bytes, a message has %d at most: ask for it in pages (limit), or use RangeStream", whole, maxMessageBytes)
	}
	// The fields of a message may come in any order.
	if err := call.Queue(h2.Message{Bytes: etcdwire.AppendRangeResponse(nil, header, end), WholeBytes: whole}); err != nil {
		return err
	}
	for l.begun = true; len(kvs) > 0; {
		if err := sendKeys(call, kvs); err != nil {
			return err
		}
		if kvs, err = l.next(portionBytes); err != nil {
			return err
		}
	}
	return nil
}

// sendKeys sends keys as a part of a RangeResponse, and lets go of them.
func sendKeys(call *rpc.Call, kvs []kv.KeyValue) error {
	for part := (&kv.RangeResponse{KVs: kvs}); len(part.KVs) > 0; {
		piece := etcdwire.TakeRangeKeys(make([]byte, 0, pieceBytes), part)
		if err := call.Send(h2.Message{Bytes: piece, Rest: true}); err != nil {
			return err
		}
	}
	return nil
}

// streamList answers a RangeStream, a portion with each message.
func (s *Service) streamList(ctx context.Context, call *rpc.Call, request *kv.Request) error {
	l, err := s.openList(ctx, call, request)
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		kvs, err := l.next(portionBytes)
		if err != nil {
			return err
		}
		ended, err := l.Ended()
		if err != nil {
			return err
		}
		part := &kv.RangeResponse{KVs: kvs}
		if !ended {
			l.begun = true
			if err := call.HandOver(chunk(nil, part), l.tally.Release); err != nil {
				return err
			}
			call.Flush()
			continue
		}
		header := s.header()
		header.Revision, part.More = l.Revision(), l.More()
		if part.Count, err = l.Count(&l.tally); err != nil {
			return err
		}
		call.Last(chunk(&header, part))
		return nil
	}
}

func chunk(header *etcdwire.Header, part *kv.RangeResponse) h2.Message {
	return h2.Message{Bytes: etcdwire.AppendRangeChunk(make([]byte, 0, etcdwire.RangeChunkSize(header, part)), header, part)}
}
