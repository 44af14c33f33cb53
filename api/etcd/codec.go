package etcd

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Messages that pass the codec without protobuf.

// inbound receives the bytes of a message. They are a copy of their own: what is decoded from them may outlive the call.
type inbound struct{ bytes []byte }

// answer is a response that is encoded when gRPC asks for it, on the goroutine that waited for it. It is
// sent once, for it lends its own memory to what is sent.
type answer struct {
	header   etcdwire.Header
	response *kv.Response
	parts    [1]mem.Buffer
	small    [64]byte // room for the usual answer to a write
}

// outbound is an encoded message in parts, which may be shared with other messages.
type outbound struct{ parts mem.BufferSlice }

// codec hands our message types through as bytes and everything else to the standard protobuf codec.
type codec struct{ standard encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Name is protobuf's: this is another implementation of the same format.
func (codec) Name() string { return proto.Name }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if in, ours := v.(*inbound); ours {
		in.bytes = data.Materialize()
		return nil
	}
	return c.standard.Unmarshal(data, v)
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *answer:
		return m.encode(), nil
	case *outbound:
		return m.parts, nil
	default:
		return c.standard.Marshal(v)
	}
}

// partBytes is the size of the largest buffers that gRPC's pool keeps.
const partBytes = 1 << 20

// encodeParts encodes a long list piece by piece, and lets go of what is encoded: the list is not in memory twice.
func (a *answer) encodeParts() (parts mem.BufferSlice) {
	pool := mem.DefaultBufferPool()
	for rest := a.response.Range; len(rest.KVs) > 0; {
		buffer := pool.Get(partBytes)
		*buffer = etcdwire.TakeRangeKeys((*buffer)[:0], rest)
		parts = append(parts, mem.NewBuffer(buffer, pool))
	}
	return append(parts, mem.SliceBuffer(etcdwire.AppendAnswer(nil, a.header, a.response)))
}

func (a *answer) encode() mem.BufferSlice {
	size := etcdwire.AnswerSize(a.header, a.response)
	switch {
	case size > 2*partBytes && a.response.Kind == kv.KindRange:
		return a.encodeParts()
	case size <= len(a.small):
		a.parts[0] = mem.SliceBuffer(etcdwire.AppendAnswer(a.small[:0], a.header, a.response))
	case mem.IsBelowBufferPoolingThreshold(size):
		a.parts[0] = mem.SliceBuffer(etcdwire.AppendAnswer(make([]byte, 0, size), a.header, a.response))
	default:
		pool := mem.DefaultBufferPool()
		buffer := pool.Get(size)
		*buffer = etcdwire.AppendAnswer((*buffer)[:0], a.header, a.response)
		a.parts[0] = mem.NewBuffer(buffer, pool)
	}
	return a.parts[:]
}
