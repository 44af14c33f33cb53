package main

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// begin looks at the fresh stores, and compacts them: before, etcd takes 0 and -1 for revisions that are not compacted.
func (d *differential) begin() {
	d.both(methodRange, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if !without("hash") {
		d.both(methodHashKV, &pb.HashKVRequest{})
	}
	d.both(methodCompact, &pb.CompactionRequest{Revision: 1})
	d.compacted = 1
}

// act does one random thing to both systems.
func (d *differential) act() {
	switch n := d.chance.IntN(100); {
	case n < 18:
		d.both(methodPut, d.put(d.anyLease))
	case n < 26:
		d.both(methodDeleteRange, d.deleteRange())
	case n < 42:
		d.both(methodRange, d.rangeRequest())
	case n < 46:
		d.rangeStream()
	case n < 60:
		d.txn()
	case n < 66:
		d.twice()
	case n < 69:
		if !without("compaction") {
			d.compact()
		}
	case n < 79:
		if !without("leases") {
			d.lease()
		}
	case n < 82:
		if !without("maintenance") {
			d.maintenance()
		}
	case n < 92:
		d.mutated()
	case n < 98:
		d.watches.act()
	default:
		d.watches.compare()
	}
}

var letters = []string{"a", "b", "c", "d", "aa", "ab", "a\x00", "b\xff", "\x00", "\xff", "\xff\xff", "k/1", "k/2", "k/3", "k/10", "é"}

// key is one of few, so that requests meet; rarely it is empty.
func (d *differential) key() []byte {
	if d.chance.IntN(60) == 0 {
		return nil
	}
	return []byte(letters[d.chance.IntN(len(letters))])
}

// end of a range that begins at key, in all the ways there are.
func (d *differential) end(key []byte) []byte {
	switch d.chance.IntN(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	case 4:
		return append(bytes.Clone(key), 0)
	case 5:
		return bytes.Clone(key)
	case 6:
		if len(key) == 0 {
			return nil
		}
		next := bytes.Clone(key)
		next[len(next)-1]++ // of 0xff this is before it
		return next
	}
	return d.key()
}

func (d *differential) value() []byte {
	switch n := d.chance.IntN(20); {
	case n == 0:
		size := 3000
		if d.flip(20) {
			size = 1<<20 + d.chance.IntN(1<<20) // around the limits
		}
		return bytes.Repeat([]byte{byte('x')}, size)
	case n < 4:
		return nil
	}
	return []byte{'v', byte('0' + d.chance.IntN(10))}
}

func (d *differential) flip(oneIn int) bool { return d.chance.IntN(oneIn) == 0 }

// at is a revision near what there is: compacted, past, present, future, or nonsense.
func (d *differential) at() int64 {
	switch d.chance.IntN(12) {
	case 0:
		return -1 - d.chance.Int64N(3)
	case 1:
		return d.revision + d.chance.Int64N(3)
	case 2:
		return d.compacted + d.chance.Int64N(3) - 1
	case 3, 4, 5:
		return d.compacted + d.chance.Int64N(max(1, d.revision-d.compacted+1))
	}
	return 0
}

// anyLease is no lease, one that exists, or one that does not.
func (d *differential) anyLease() int64 {
	switch n := d.chance.IntN(10); {
	case n < 6:
		return 0
	case n == 6:
		return []int64{-1, 1, 1 << 62, 77}[d.chance.IntN(4)]
	}
	return d.grantedLease()
}

// grantedLease is one that exists, or 0; the choice does not depend on the order of a map.
func (d *differential) grantedLease() int64 {
	if d.nextLease == 0 {
		return 0
	}
	for range 5 {
		if id := leaseBase + d.chance.Int64N(d.nextLease); d.leases[id] {
			return id
		}
	}
	return 0
}

const leaseBase = 1000

func (d *differential) put(lease func() int64) *pb.PutRequest {
	r := &pb.PutRequest{Key: d.key(), Value: d.value(), Lease: lease(), PrevKv: d.flip(3), IgnoreLease: d.flip(9)}
	if d.flip(9) {
		r.IgnoreValue = true
		if !d.flip(4) {
			r.Value = nil
		}
	}
	if r.IgnoreLease && !d.flip(4) {
		r.Lease = 0
	}
	return r
}

func (d *differential) deleteRange() *pb.DeleteRangeRequest {
	key := d.key()
	r := &pb.DeleteRangeRequest{Key: key, PrevKv: d.flip(2)}
	if !d.flip(3) {
		return r
	}
	r.RangeEnd = d.end(key)
	return r
}

func (d *differential) rangeRequest() *pb.RangeRequest {
	key := d.key()
	r := &pb.RangeRequest{Key: key, RangeEnd: d.end(key), Revision: d.at(), Serializable: d.flip(3), KeysOnly: d.flip(5), CountOnly: d.flip(7)}
	if d.flip(3) {
		r.Limit = d.chance.Int64N(6) - 1
	}
	if d.flip(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(d.chance.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(d.chance.IntN(5))
	}
	if d.flip(40) {
		r.SortOrder = pb.RangeRequest_SortOrder(d.chance.IntN(9) - 2)
		r.SortTarget = pb.RangeRequest_SortTarget(d.chance.IntN(9) - 2)
	}
	for _, filter := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if d.flip(12) {
			*filter = d.at()
		}
	}
	return r
}

// rangeStream leaves out what etcd does wrong: a target without an order is not refused, but each portion is sorted for itself.
func (d *differential) rangeStream() {
	r := d.rangeRequest()
	if r.SortOrder == pb.RangeRequest_NONE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	d.both(methodRangeStream, r)
}

func (d *differential) compact() {
	d.watches.compare() // nobody is still on the way through what is compacted now
	r := &pb.CompactionRequest{Revision: d.at(), Physical: d.flip(4)}
	etcd, quorate := d.both(methodCompact, r)
	if etcd.err == nil && quorate.err == nil {
		d.compacted = r.Revision
		d.withoutPrevious[r.Revision] = true
	}
}

func (d *differential) lease() {
	switch d.chance.IntN(8) {
	case 0, 1, 2:
		d.grant()
	case 3, 4:
		id := d.leaseOrNonsense()
		etcd, quorate := d.both(methodLeaseRevoke, &pb.LeaseRevokeRequest{ID: id})
		if etcd.err == nil && quorate.err == nil {
			delete(d.leases, id)
		}
	case 5:
		d.both(methodTimeToLive, &pb.LeaseTimeToLiveRequest{ID: d.leaseOrNonsense(), Keys: d.flip(2)})
	case 6:
		d.both(methodLeases, &pb.LeaseLeasesRequest{})
	case 7:
		d.both(methodKeepAlive, &pb.LeaseKeepAliveRequest{ID: d.leaseOrNonsense()})
	}
}

func (d *differential) leaseOrNonsense() int64 {
	if id := d.grantedLease(); id != 0 && !d.flip(4) {
		return id
	}
	return []int64{0, -1, 1, 1 << 62, leaseBase + 3}[d.chance.IntN(5)]
}

// grant gives every lease an ID, for those that the systems choose are random, and so much time that none ends by itself.
func (d *differential) grant() {
	r := &pb.LeaseGrantRequest{ID: leaseBase + d.nextLease, TTL: 5000 + d.chance.Int64N(1000)}
	switch d.chance.IntN(12) {
	case 0:
		r.ID = max(leaseBase, r.ID-1) // it exists, or did
	case 1:
		r.TTL = []int64{9_000_000_001, 1 << 62}[d.chance.IntN(2)]
	case 2:
		r.TTL = []int64{9_000_000_000, 8_999_999_999}[d.chance.IntN(2)]
	}
	etcd, quorate := d.both(methodLeaseGrant, r)
	if etcd.err == nil && quorate.err == nil {
		d.leases[r.ID] = true
		d.nextLease = max(d.nextLease, r.ID-leaseBase+1)
	}
}

func (d *differential) maintenance() {
	switch d.chance.IntN(8) {
	case 0, 1, 2:
		if without("hash") {
			return
		}
		d.both(methodHashKV, &pb.HashKVRequest{Revision: d.at()})
	case 3:
		d.both(methodDefragment, &pb.DefragmentRequest{})
	case 4:
		r := &pb.AlarmRequest{Action: pb.AlarmRequest_AlarmAction(d.chance.IntN(3)), Alarm: pb.AlarmType(d.chance.IntN(4)), MemberID: uint64(d.chance.IntN(2))}
		if r.Action == pb.AlarmRequest_ACTIVATE {
			r.Alarm = pb.AlarmType_NONE // others are refused here for members that are not there; real ones have other IDs in each system
		}
		d.both(methodAlarm, r)
		// An alarm that was raised refuses writes, of both.
		d.both(methodAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE})
		for member := range uint64(2) {
			for _, alarm := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
				d.both(methodAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: alarm, MemberID: member})
			}
		}
	case 5:
		d.both(methodAuthStatus, &pb.AuthStatusRequest{})
	case 6:
		d.both(methodAuthenticate, &pb.AuthenticateRequest{Name: "root", Password: "x"})
	case 7:
		d.both([]method{methodUnknown, methodUnknownServer}[d.chance.IntN(2)], &pb.PutRequest{Key: []byte("x")})
	}
}

// mutated sends what was a request until some of its bytes were changed. Whatever it means now must mean the same to both.
func (d *differential) mutated() {
	var m method
	var request proto.Message
	switch d.chance.IntN(5) {
	case 0:
		m, request = methodRange, d.rangeRequest()
	case 1:
		m, request = methodPut, d.put(d.anyLease)
	case 2:
		m, request = methodDeleteRange, d.deleteRange()
	case 3:
		m, request = methodTxn, d.txnRequest(0)
	case 4:
		if without("leases") {
			return
		}
		m, request = methodTimeToLive, &pb.LeaseTimeToLiveRequest{ID: d.leaseOrNonsense(), Keys: d.flip(2)}
	}
	in := d.mutate(d.encode(request))
	meant := request.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(in, meant); err == nil {
		if t, ok := meant.(*pb.TxnRequest); ok && panicsEtcd(t) {
			return
		}
	}
	d.bothRaw(m, meant, in, m.name+" of the bytes "+quoted(in))
}

func (d *differential) mutate(in []byte) []byte {
	for range 1 + d.chance.IntN(3) {
		at := d.chance.IntN(len(in) + 1)
		switch d.chance.IntN(6) {
		case 0: // a bit
			if at < len(in) {
				in[at] ^= 1 << d.chance.IntN(8)
			}
		case 1: // cut off
			in = in[:at]
		case 2: // a byte more
			in = append(in[:at:at], append([]byte{byte(d.chance.IntN(256))}, in[at:]...)...)
		case 3: // a byte less
			if at < len(in) {
				in = append(in[:at:at], in[at+1:]...)
			}
		case 4: // twice: fields are merged
			in = append(in, in...)
		case 5: // a field that nobody knows
			field := [][]byte{{0xf8, 0x07, 1}, {0xfa, 0x07, 2, 'h', 'i'}, {0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8}, {0xfd, 0x07, 1, 2, 3, 4}, {0xfb, 0x07, 0xfc, 0x07}, {0, 1}, {0xfb, 0x07}}
			in = append(in, field[d.chance.IntN(len(field))]...)
		}
	}
	return in[:min(len(in), 1<<20)]
}
