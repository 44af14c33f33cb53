package etcdwire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

var deterministic = proto.MarshalOptions{Deterministic: true}

// checkRequest compares the two decoders on arbitrary bytes, and the encoder with both.
func checkRequest(t *testing.T, kind kv.Kind, in []byte) {
	t.Helper()
	twin := requestTwins[kind]
	message := twin.empty.ProtoReflect().New().Interface()
	want := proto.Unmarshal(in, message)
	got, err := DecodeBody(kind, in, Limits{})
	if errors.Is(err, ErrTooDeep) {
		return
	}
	if (want == nil) != (err == nil) {
		t.Fatalf("kind %d: protobuf says %v, we say %v, for %x", kind, want, err, in)
	}
	if err != nil {
		return
	}
	expected := twin.convert(message)
	expected.Kind = kind
	if !reflect.DeepEqual(got, expected) {
		t.Fatalf("kind %d: decoded %+v, want %+v, from %x", kind, got, expected, in)
	}
	got.Principal = "someone"
	again, err := DecodeRequest(AppendRequest([]byte("prefix"), got)[len("prefix"):], Limits{})
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Fatalf("kind %d: round trip gives %+v, %v; want %+v", kind, again, err, got)
	}
}

func checkResponse(t *testing.T, kind kv.Kind, in []byte) {
	t.Helper()
	twin := responseTwins[kind]
	message := twin.empty.ProtoReflect().New().Interface().(headed)
	want := proto.Unmarshal(in, message)
	got, err := DecodeAnswer(kind, in)
	if errors.Is(err, ErrTooDeep) {
		return
	}
	if (want == nil) != (err == nil) {
		t.Fatalf("kind %d: protobuf says %v, we say %v, for %x", kind, want, err, in)
	}
	if err != nil {
		return
	}
	expected := twin.convert(message)
	expected.Kind, expected.Revision = kind, kv.Revision(message.GetHeader().GetRevision())
	if !reflect.DeepEqual(got, expected) {
		t.Fatalf("kind %d: decoded %+v, want %+v, from %x", kind, got, expected, in)
	}
	checkAnswer(t, kind, got)
}

// checkAnswer compares what we write with what protobuf reads and would write itself.
func checkAnswer(t *testing.T, kind kv.Kind, r *kv.Response) {
	t.Helper()
	again, err := DecodeResponse(AppendResponse(nil, r))
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Fatalf("kind %d: round trip gives %+v, %v; want %+v", kind, again, err, r)
	}
	header := Header{ClusterID: 1 << 63, MemberID: 77, RaftTerm: 9}
	out := AppendAnswer(nil, header, r)
	if size := AnswerSize(header, r); kind <= kv.KindTxn && size != len(out) {
		t.Fatalf("kind %d: size %d, wrote %d bytes", kind, size, len(out))
	}
	twin := responseTwins[kind]
	message := twin.empty.ProtoReflect().New().Interface().(headed)
	if err := proto.Unmarshal(out, message); err != nil {
		t.Fatalf("kind %d: protobuf cannot read what we wrote: %v", kind, err)
	}
	h := message.GetHeader()
	if h.ClusterId != 1<<63 || h.MemberId != 77 || h.RaftTerm != 9 || h.Revision != int64(r.Revision) {
		t.Fatalf("kind %d: header %v", kind, h)
	}
	expected := twin.convert(message)
	expected.Kind, expected.Revision = kind, r.Revision
	if !reflect.DeepEqual(expected, r) {
		t.Fatalf("kind %d: protobuf reads %+v, want %+v", kind, expected, r)
	}
	if canonical, _ := deterministic.Marshal(message); !bytes.Equal(canonical, out) {
		t.Fatalf("kind %d: wrote\n%x, protobuf writes\n%x", kind, out, canonical)
	}
}

// mutate damages, repeats or extends a message, so that merging, unknown fields and errors all occur.
func mutate(rng *rand.Rand, in, other []byte) []byte {
	out := bytes.Clone(in)
	switch rng.Intn(7) {
	case 0:
		return append(out, other...) // proto3 defines concatenation as merging
	case 1:
		return out[:rng.Intn(len(out)+1)]
	case 2:
		if len(out) > 0 {
			out[rng.Intn(len(out))] = byte(rng.Intn(256))
		}
	case 3:
		if len(out) > 0 {
			out[rng.Intn(len(out))] ^= 1 << rng.Intn(8)
		}
	case 4:
		out = protowire.AppendTag(out, 1+protowire.Number(rng.Intn(70)), protowire.StartGroupType)
		out = protowire.AppendTag(out, 90, protowire.Fixed32Type)
		out = protowire.AppendFixed32(out, 5)
		out = protowire.AppendTag(out, 1+protowire.Number(rng.Intn(70)), protowire.EndGroupType)
	case 5:
		out = protowire.AppendTag(out, 1+protowire.Number(rng.Intn(70)), protowire.Type(rng.Intn(8)))
		out = protowire.AppendVarint(out, rng.Uint64()>>rng.Intn(64))
	}
	return out
}

func TestRequestsAgainstProtobuf(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for kind, twin := range requestTwins {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			encoded := func() []byte {
				m := twin.empty.ProtoReflect().New()
				populate(rng, m, 6)
				b, err := proto.Marshal(m.Interface())
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			for range 1500 {
				b := encoded()
				checkRequest(t, kind, b)
				checkRequest(t, kind, mutate(rng, b, encoded()))
			}
		})
	}
}

func TestResponsesAgainstProtobuf(t *testing.T) {
	rng := rand.New(rand.NewSource(2))
	for kind, twin := range responseTwins {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			encoded := func() []byte {
				m := twin.empty.ProtoReflect().New()
				populate(rng, m, 5)
				b, err := proto.Marshal(m.Interface())
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			for range 1000 {
				b := encoded()
				checkResponse(t, kind, b)
				checkResponse(t, kind, mutate(rng, b, encoded()))
			}
		})
	}
}

// TestRequestsAreWrittenAsProtobufWritesThem checks bytes, for well-formed requests.
func TestRequestsAreWrittenAsProtobufWritesThem(t *testing.T) {
	txn := &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{
			{Target: etcdserverpb.Compare_VALUE, Key: []byte("k"), TargetUnion: &etcdserverpb.Compare_Value{}, RangeEnd: []byte("z")},
			{Target: etcdserverpb.Compare_LEASE, Result: etcdserverpb.Compare_NOT_EQUAL, Key: []byte("k"), TargetUnion: &etcdserverpb.Compare_Lease{}},
		},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: &etcdserverpb.TxnRequest{
			Failure: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: &etcdserverpb.PutRequest{Key: []byte("a"), Lease: -1}}}},
		}}}},
	}
	want, err := deterministic.Marshal(txn)
	if err != nil {
		t.Fatal(err)
	}
	// The generated code writes members of a oneof last; order is free on the wire, so read both.
	out := AppendTxn(nil, txnFromPB(txn))
	again := new(etcdserverpb.TxnRequest)
	if err := proto.Unmarshal(out, again); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(txn, again) || len(out) != len(want) {
		t.Fatalf("wrote %v, want %v", again, txn)
	}
}

func TestTxnLimits(t *testing.T) {
	put := kv.Op{Put: &kv.PutRequest{Key: []byte("k")}}
	nest := func(depth int) *kv.TxnRequest {
		r := &kv.TxnRequest{Success: []kv.Op{put}}
		for range depth - 1 {
			r = &kv.TxnRequest{Success: []kv.Op{{Txn: r}}}
		}
		return r
	}
	many := func(n int) *kv.TxnRequest { return &kv.TxnRequest{Failure: make([]kv.Op, n)} }
	for name, c := range map[string]struct {
		request *kv.TxnRequest
		limits  Limits
		want    error
	}{
		"deepest":               {nest(DefaultTxnDepth), Limits{}, nil},
		"too deep":              {nest(DefaultTxnDepth + 1), Limits{}, ErrTooDeep},
		"own depth":             {nest(3), Limits{TxnDepth: 2}, ErrTooDeep},
		"enough ops":            {many(128), Limits{TxnOps: 128}, nil},
		"too many ops":          {many(129), Limits{TxnOps: 128}, kv.ErrTooManyOps},
		"too many compares":     {&kv.TxnRequest{Compare: make([]kv.Compare, 3)}, Limits{TxnOps: 2}, kv.ErrTooManyOps},
		"nested ops fit":        {nest(4), Limits{TxnOps: 4}, nil},
		"nested ops do not fit": {nest(4), Limits{TxnOps: 3}, kv.ErrTooManyOps},
		"nested by far":         {nest(9), Limits{TxnOps: 3}, kv.ErrTooManyOps},
	} {
		t.Run(name, func(t *testing.T) {
			var out kv.TxnRequest
			if err := DecodeTxn(AppendTxn(nil, c.request), &out, c.limits); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// counted is a Memory with a limit that counts.
type counted struct{ used, limit int64 }

func (c *counted) Reserve(n int64) bool {
	if c.used+n > c.limit {
		return false
	}
	c.used += n
	return true
}

func (c *counted) Release(n int64) { c.used -= n }

// TestDecodedMemory: a small request that becomes large in memory is reserved for before it does, and no more is allocated than that.
func TestDecodedMemory(t *testing.T) {
	ranges := &kv.TxnRequest{Compare: make([]kv.Compare, 120), Success: make([]kv.Op, 120)}
	for i := range ranges.Success {
		ranges.Success[i].Range = &kv.RangeRequest{Span: kv.Span{Start: []byte("k")}}
	}
	outer := &kv.TxnRequest{Success: make([]kv.Op, 120)}
	for i := range outer.Success {
		outer.Success[i].Txn = ranges
	}
	in := AppendTxn(nil, outer)
	decode := func(limit int64) (allocated uint64, reserved int64, err error) {
		memory := &counted{limit: limit}
		tally := kv.NewTally(memory)
		var out kv.TxnRequest
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = DecodeTxn(in, &out, Limits{TxnOps: 240, Memory: &tally})
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(&out)
		return after.TotalAlloc - before.TotalAlloc, memory.used, err
	}
	allocated, reserved, err := decode(1 << 30)
	if err != nil || reserved < 20*int64(len(in)) || allocated > uint64(reserved)*5/4 {
		t.Errorf("%d bytes become %d, %d are reserved, %v", len(in), allocated, reserved, err)
	}
	allocated, reserved, err = decode(1 << 20)
	if !errors.Is(err, kv.ErrTooManyRequests) || allocated > 5<<18 {
		t.Errorf("with 1 MiB: %d bytes are allocated, %d are reserved, %v", allocated, reserved, err)
	}
}

// TestHostileMergesCostNoMoreThanTheirSize: a oneof repeated many times merges; exact
// reservations at every merge would be quadratic.
func TestHostileMergesCostNoMoreThanTheirSize(t *testing.T) {
	merged := AppendTxn(nil, &kv.TxnRequest{Success: []kv.Op{{}}})
	var op []byte
	for range 200_000 {
		op = append(appendHead(op, 4, len(merged)), merged...)
	}
	in := append(appendHead(nil, 2, len(op)), op...)
	var out kv.TxnRequest
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := DecodeTxn(in, &out, Limits{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if len(out.Success[0].Txn.Success) != 200_000 {
		t.Fatal("lost operations")
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > uint64(100*len(in)) {
		t.Fatalf("%d bytes of input allocate %d", len(in), allocated)
	}
}

func TestErrorsTravel(t *testing.T) {
	for code := kv.Code(1); kv.ErrorOf(code) != nil; code++ {
		sentinel := kv.ErrorOf(code)
		hints := Hints{Compacted: 1 << 40, Leader: 1 << 63}
		for _, sent := range []error{sentinel, fmt.Errorf("put %q: %w", "key", sentinel)} {
			got, gotHints, err := DecodeError(AppendError(nil, sent, hints))
			if err != nil || !errors.Is(got, sentinel) || got.Error() != sent.Error() || gotHints != hints || kv.CodeOf(got) != code {
				t.Fatalf("code %d: got %v %v %v", code, got, gotHints, err)
			}
		}
	}
	got, _, err := DecodeError(AppendError(nil, errors.New("odd"), Hints{}))
	if err != nil || got.Error() != "odd" || kv.CodeOf(got) != 0 {
		t.Fatalf("an error without a code: %v, %v", got, err)
	}
	newer, _, err := DecodeError(append([]byte{250, 0, 0}, "from the future"...))
	if err != nil || newer.Error() != "from the future" {
		t.Fatalf("an error of a newer version: %v, %v", newer, err)
	}
	for _, in := range [][]byte{nil, {1}, {1, 0x80}, {1, 0}} {
		if _, _, err := DecodeError(in); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%x: %v", in, err)
		}
	}
}

func TestUnknownKinds(t *testing.T) {
	for _, kind := range []byte{0, byte(kv.KindPublishNode) + 1, 255} {
		if _, err := DecodeRequest([]byte{kind, 0}, Limits{}); !errors.Is(err, ErrUnknownKind) {
			t.Fatalf("request kind %d: %v", kind, err)
		}
		if _, err := DecodeResponse([]byte{kind}); !errors.Is(err, ErrUnknownKind) {
			t.Fatalf("response kind %d: %v", kind, err)
		}
	}
}

func TestDecodedSlicesAreClipped(t *testing.T) {
	in := AppendPut(nil, &kv.PutRequest{Key: []byte("key"), Value: []byte("value")})
	var put kv.PutRequest
	if err := mergePut(in, &put); err != nil {
		t.Fatal(err)
	}
	_ = append(put.Key, "overwritten?"...)
	if string(put.Value) != "value" {
		t.Fatal("appending to a decoded key changed its neighbour")
	}
}

func TestWatchResponse(t *testing.T) {
	prev := kv.KeyValue{Key: []byte("k"), Value: []byte(strings.Repeat("p", 300)), CreateRevision: 2, ModRevision: 2, Version: 1}
	events := []kv.Event{
		{KV: kv.KeyValue{Key: []byte("k"), Value: []byte("v"), CreateRevision: 2, ModRevision: 3, Version: 2, Lease: 7}, Prev: &prev},
		{Type: kv.EventDelete, KV: kv.KeyValue{Key: []byte("k"), ModRevision: 4, Value: []byte("must not appear")}},
	}
	want := &etcdserverpb.WatchResponse{
		Header:  &etcdserverpb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 4, RaftTerm: 3},
		WatchId: -1, Created: true, Canceled: true, CompactRevision: 9, CancelReason: "because", Fragment: true,
		Events: []*mvccpb.Event{
			{Kv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v"), CreateRevision: 2, ModRevision: 3, Version: 2, Lease: 7}},
			{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: 4}},
		},
	}
	head := &WatchResponse{Header: Header{1, 2, 4, 3}, WatchID: -1, Created: true, Canceled: true, CompactRevision: 9, CancelReason: "because", Fragment: true}
	for _, withPrev := range []bool{false, true} {
		if withPrev {
			want.Events[0].PrevKv = &mvccpb.KeyValue{Key: prev.Key, Value: prev.Value, CreateRevision: 2, ModRevision: 2, Version: 1}
		}
		first, second := AppendEvent(nil, &events[0], withPrev), AppendEvent(nil, &events[1], withPrev)
		out := AppendWatchResponse(nil, head, first, second)
		if n := WatchResponseSize(head) + len(first) + len(second); n != len(out) {
			t.Fatalf("size %d, wrote %d", n, len(out))
		}
		if canonical, _ := deterministic.Marshal(want); !bytes.Equal(canonical, out) {
			t.Fatalf("wrote\n%x, protobuf writes\n%x", out, canonical)
		}
	}
}

func TestTakenKeysMergeIntoTheWhole(t *testing.T) {
	whole := kv.RangeResponse{Count: 9, More: true}
	for i := range 20 {
		whole.KVs = append(whole.KVs, kv.KeyValue{Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte{'v'}, i*i), ModRevision: 5})
	}
	header := Header{ClusterID: 1, MemberID: 2, Revision: 3, RaftTerm: 4}
	want := AppendRangeResponse(nil, header, &whole)
	var message []byte
	parts, announced := 0, 0
	kvs := whole.KVs
	for i := range kvs {
		rest := kv.KeyValue{ModRevision: kvs[i].ModRevision}
		announced += RangeKeySize(&rest, len(kvs[i].Key), len(kvs[i].Value))
	}
	for rest := &whole; len(rest.KVs) > 0; parts++ {
		part := TakeRangeKeys(make([]byte, 0, 100), rest)
		message = append(message, part...)
	}
	if announced != len(message) {
		t.Errorf("%d bytes were announced, %d came", announced, len(message))
	}
	if parts < 10 || parts >= 20 {
		t.Fatalf("20 keys were taken in %d parts", parts)
	}
	for i := range kvs {
		if kvs[i].Key != nil || kvs[i].Value != nil {
			t.Fatalf("key %d is still held", i)
		}
	}
	message = AppendRangeResponse(message, header, &whole)
	var merged etcdserverpb.RangeResponse
	if err := proto.Unmarshal(message, &merged); err != nil {
		t.Fatal(err)
	}
	if got, _ := deterministic.Marshal(&merged); !bytes.Equal(got, want) {
		t.Fatalf("merged\n%x, want\n%x", got, want)
	}
}

func TestRangeChunksMergeIntoTheWhole(t *testing.T) {
	pair := func(i int) kv.KeyValue {
		return kv.KeyValue{Key: fmt.Appendf(nil, "k%d", i), Value: []byte("v"), ModRevision: 5}
	}
	whole := &kv.RangeResponse{KVs: []kv.KeyValue{pair(1), pair(2), pair(3)}, Count: 9, More: true}
	header := Header{ClusterID: 1, MemberID: 2, Revision: 3, RaftTerm: 4}
	stream := AppendRangeChunk(nil, nil, &kv.RangeResponse{KVs: whole.KVs[:2], Count: 77, More: true})
	stream = AppendRangeChunk(stream, &header, &kv.RangeResponse{KVs: whole.KVs[2:], Count: 9, More: true})
	if n := RangeChunkSize(nil, &kv.RangeResponse{KVs: whole.KVs[:2]}) + RangeChunkSize(&header, &kv.RangeResponse{KVs: whole.KVs[2:], Count: 9, More: true}); n != len(stream) {
		t.Fatalf("size %d, wrote %d", n, len(stream))
	}
	var merged etcdserverpb.RangeStreamResponse
	if err := proto.Unmarshal(stream, &merged); err != nil {
		t.Fatal(err)
	}
	got, _ := deterministic.Marshal(merged.RangeResponse)
	if want := AppendRangeResponse(nil, header, whole); !bytes.Equal(got, want) {
		t.Fatalf("merged\n%x, want\n%x", got, want)
	}
}
