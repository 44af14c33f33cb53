package native

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

func transactionsExample() TransactionList {
	return TransactionList{
		Cluster: 1 << 63, Member: 7, Commit: "3pc",
		Transactions: []Transaction{
			{ID: kv.TransactionID{Anchor: 2, Term: 9, Number: 1 << 40}, AgeMilliseconds: 1500, Participants: []kv.ShardID{2, 3, 700}, Undecided: []kv.ShardID{3, 700}, AnchorLeader: 5},
			{ID: kv.TransactionID{Anchor: 1, Term: 1, Number: 1}},
		},
	}
}

func TestTransactionList(t *testing.T) {
	want := transactionsExample()
	encoded := want.Append(nil)
	if got, err := DecodeTransactionList(encoded); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	later := protowire.AppendString(protowire.AppendTag(bytes.Clone(encoded), 99, protowire.BytesType), "x")
	if got, err := DecodeTransactionList(later); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with what a later version adds: %+v, %v", got, err)
	}
	whole := 0
	for i := range encoded {
		if _, err := DecodeTransactionList(encoded[:i]); err == nil {
			whole++
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if whole != 5 {
		t.Errorf("%d prefixes are whole messages", whole)
	}
}

func FuzzDecodeTransactionList(f *testing.F) {
	list := transactionsExample()
	f.Add(list.Append(nil))
	f.Add([]byte{0x22, 2, 0x08, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := DecodeTransactionList(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		encoded := list.Append(nil)
		again, err := DecodeTransactionList(encoded)
		if err != nil || !bytes.Equal(again.Append(nil), encoded) {
			t.Fatalf("%+v reads back as %+v, %v", list, again, err)
		}
	})
}
