package etcdwire

import (
	"reflect"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestBindings: what nodes tell each other about leases is read as it was written.
func TestBindings(t *testing.T) {
	for _, b := range []kv.LeaseBinding{{}, {Lease: -5, Incarnation: 1 << 63, Shard: 3}, {Lease: 7, Shard: 1 << 40}, {Lease: 7, Incarnation: 2, Shards: []kv.ShardID{1, 2, 300}}} {
		for _, kind := range []kv.Kind{kv.KindLeaseAttach, kv.KindLeaseRelease, kv.KindLeaseKeys} {
			r := &kv.Request{Kind: kind, LeaseBinding: &b}
			got, err := decodeRareBody(kind, AppendBody(nil, r))
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("request of kind %d: %+v, %v; want %+v", kind, got.LeaseBinding, err, b)
			}
		}
		for _, kind := range []kv.Kind{kv.KindLeaseAttach, kv.KindLeaseKeys, kv.KindLeaseTimeToLive} {
			r := &kv.Response{Kind: kind, Revision: 9, LeaseTimeToLive: &kv.LeaseTimeToLiveResponse{ID: 4, TTLSeconds: 3, Keys: [][]byte{[]byte("k")}, Binding: &b}}
			got, err := DecodeAnswer(kind, AppendAnswer(nil, Header{}, r))
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("answer of kind %d: %+v, %v; want %+v", kind, got, err, r)
			}
		}
	}
	if got, err := DecodeAnswer(kv.KindLeaseRelease, AppendAnswer(nil, Header{}, &kv.Response{Kind: kv.KindLeaseRelease, Revision: 9})); err != nil || got.Revision != 9 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzBinding(f *testing.F) {
	f.Add(appendBinding(nil, &kv.LeaseBinding{Lease: 7, Incarnation: 8, Shard: 9}))
	f.Add(appendBinding(nil, &kv.LeaseBinding{Lease: 7, Incarnation: 8, Shards: []kv.ShardID{1, 300}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		var b, again kv.LeaseBinding
		if decodeBinding(in, &b) != nil {
			return
		}
		written := appendBinding(nil, &b)
		if err := decodeBinding(written, &again); err != nil || !sameBinding(again, b) || len(written) != bindingSize(&b) {
			t.Errorf("%x is read as %+v, and written as %x (%d bytes) again: %+v, %v", in, b, written, bindingSize(&b), again, err)
		}
	})
}

func sameBinding(a, b kv.LeaseBinding) bool {
	return a.Lease == b.Lease && a.Incarnation == b.Incarnation && a.Shard == b.Shard && slices.Equal(a.Shards, b.Shards)
}
