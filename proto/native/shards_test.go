package native

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func example() ShardList {
	return ShardList{
		Cluster: 1 << 63, Member: 7, Protocol: "raft", Partition: "--initial-shards=2",
		Shards: []Shard{
			{ID: 1, Upper: []byte("m"), Leader: 9, Term: 3, Applied: 1 << 40, Keys: 5, Bytes: 6 << 30, Reads: 0.5, Writes: 1e6, Closed: 12, State: "member"},
			{ID: 2, Lower: []byte("m"), FirstSlot: 8192, EndSlot: 16384, State: "has stopped"},
			{ID: 3, Upper: []byte{}},
		},
	}
}

func TestShardList(t *testing.T) {
	want := example()
	encoded := want.Append(nil)
	got, err := DecodeShardList(encoded)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	// What a later version adds is passed over, whatever its type.
	for _, more := range [][]byte{
		protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 5),
		protowire.AppendFixed32(protowire.AppendTag(nil, 99, protowire.Fixed32Type), 5),
		protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "x"),
	} {
		if got, err := DecodeShardList(append(bytes.Clone(encoded), more...)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%x: %+v, %v", more, got, err)
		}
	}
	// A message that was cut is refused, unless it was cut between two fields.
	whole := 0
	for i := range encoded {
		if _, err := DecodeShardList(encoded[:i]); err == nil {
			whole++
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if whole != 7 {
		t.Errorf("%d prefixes are whole messages", whole)
	}
}

func FuzzDecodeShardList(f *testing.F) {
	list := example()
	f.Add(list.Append(nil))
	f.Add([]byte{0x2a, 2, 0x08, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := DecodeShardList(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		encoded := list.Append(nil)
		again, err := DecodeShardList(encoded)
		if err != nil || !bytes.Equal(again.Append(nil), encoded) {
			t.Fatalf("%+v reads back as %+v, %v", list, again, err)
		}
	})
}
