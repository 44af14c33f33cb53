package shard

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// The ops of an entry, and the records that they carry. What an entry looks like is in codec.go.

func appendOp(buf []byte, p *op) []byte {
	buf = append(buf, byte(p.kind))
	switch p.kind {
	case opGrant:
		buf = binary.AppendVarint(buf, int64(p.lease))
		buf = binary.AppendUvarint(buf, uint64(p.ttl))
	case opRenew, opRevoke, opEnd, opDrop:
		buf = binary.AppendVarint(buf, int64(p.lease))
	case opExtend:
		buf = binary.AppendVarint(buf, int64(p.lease))
		buf = binary.AppendUvarint(buf, uint64(p.millis))
	case opCompact:
		buf = binary.AppendUvarint(buf, uint64(p.revision))
	case opAlarmRaise, opAlarmClear:
		buf = binary.AppendUvarint(buf, uint64(p.alarm.Node))
		buf = append(buf, byte(p.alarm.Type))
	case opNode:
		buf = appendNode(buf, p.node)
	case opReplica:
		buf = appendPlacement(buf, &p.replica)
	case opRoster:
		buf = appendRoster(buf, p.roster)
	case opStage:
		buf = appendPart(buf, p.part)
	case opBulk:
		buf = binary.AppendUvarint(buf, uint64(p.revision))
	case opRegister:
		buf = binary.AppendVarint(buf, int64(p.lease))
		buf = binary.AppendUvarint(buf, uint64(p.shard))
	case opNote:
		buf = binary.AppendVarint(buf, int64(p.lease))
		buf = binary.AppendUvarint(buf, p.incarnation)
	case opPrepare, opPromise, opAccept, opResolve, opFinished, opFinishedOpen:
		buf = appendCommitOp(buf, p)
	case opAuth, opMembers:
		buf = appendBytes(buf, p.encoded)
	case opTime:
		buf = binary.AppendUvarint(buf, uint64(p.time.Revision))
		buf = binary.AppendUvarint(buf, uint64(p.time.Time))
	}
	return buf
}

// appendPart writes the revision that the effects are encoded at, the position of the first one and how many there are, all of them uvarints; then the
// effects. Only the first of the bulk has flagNext.
func appendPart(buf []byte, p *bulkPart) []byte {
	for _, n := range [...]uint64{uint64(p.from), uint64(p.firstSub), uint64(p.count)} {
		buf = binary.AppendUvarint(buf, n)
	}
	return append(buf, p.encoded...)
}

// maxExtensionMillis is the most that a renewal of the longest lease writes.
const maxExtensionMillis = 2 * 1000 * MaxLeaseTTLSeconds

func (d *decoder) op(p *op) {
	p.kind = opKind(d.byte())
	switch p.kind {
	case opGrant:
		p.lease, p.ttl = kv.LeaseID(d.varint()), d.positive()
		if p.ttl > MaxLeaseTTLSeconds {
			d.fail("a lease of too many seconds")
		}
	case opRenew, opRevoke, opEnd, opDrop:
		p.lease = kv.LeaseID(d.varint())
	case opExtend:
		p.lease, p.millis = kv.LeaseID(d.varint()), d.positive()
		if p.millis > maxExtensionMillis {
			d.fail("a lease that ends too late")
		}
	case opCompact:
		p.revision = kv.Revision(d.positive())
	case opAlarmRaise, opAlarmClear:
		p.alarm = kv.Alarm{Node: kv.NodeID(d.uvarint()), Type: kv.AlarmType(d.byte())}
	case opNode:
		p.node = d.node()
	case opReplica:
		p.replica = d.placement()
	case opRoster:
		p.roster = d.roster()
	case opStage:
		p.part = d.part()
	case opBulk:
		p.revision = kv.Revision(d.positive())
	case opRegister:
		p.lease, p.shard = kv.LeaseID(d.varint()), kv.ShardID(d.uvarint())
		if p.shard == 0 {
			d.fail("a lease is registered with no shard")
		}
	case opNote:
		p.lease, p.incarnation = kv.LeaseID(d.varint()), d.uvarint()
		if p.incarnation == 0 {
			d.fail("a note of a lease without an incarnation")
		}
	case opPrepare, opPromise, opAccept, opResolve, opFinished, opFinishedOpen:
		p.record = d.commitOp(p.kind)
	case opAuth:
		p.auth = d.auth()
	case opMembers:
		p.list = d.members()
	case opTime:
		p.time = timeline.Point{Revision: kv.Revision(d.positive()), Time: timeline.Time(d.positive())}
		if !p.time.Valid() || p.time.Revision > maxRevision {
			d.fail("a time that makes no sense")
		}
	case opClock, opUnstage:
	default:
		d.fail(fmt.Sprintf("unknown op %d", p.kind))
	}
}

func (d *decoder) part() *bulkPart {
	p := &bulkPart{from: kv.Revision(d.positive()), firstSub: uint32(d.uvarint())}
	if p.from < 1 || p.from > maxRevision {
		d.fail("a part of a bulk that makes no sense")
	}
	at := mvcc.Locator{Rev: p.from, Sub: p.firstSub - 1}
	if p.firstSub == 0 {
		at = mvcc.Locator{Rev: p.from - 1}
	}
	p.count = d.count(2)
	p.effects = make([]mvcc.Effect, p.count)
	for i := range p.effects {
		d.effect(&p.effects[i], &at, i == 0 && p.firstSub == 0)
		if at.Rev != p.from {
			d.fail("a part of a bulk with more than one revision")
		}
	}
	if p.count == 0 {
		d.fail("a part of a bulk without effects")
	}
	return p
}

const nodeFormat = 1

func appendNode(buf []byte, n *kv.NodeRecord) []byte {
	buf = append(buf, nodeFormat)
	buf = binary.AppendUvarint(buf, uint64(n.ID))
	buf = appendString(buf, n.Name)
	for _, urls := range [][]string{n.PeerURLs, n.ClientURLs} {
		buf = binary.AppendUvarint(buf, uint64(len(urls)))
		for _, url := range urls {
			buf = appendString(buf, url)
		}
	}
	if n.Learner {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func (d *decoder) node() *kv.NodeRecord {
	if format := d.byte(); d.err == nil && format != nodeFormat {
		d.fail(fmt.Sprintf("node record of format %d, this version knows %d", format, nodeFormat))
	}
	n := &kv.NodeRecord{ID: kv.NodeID(d.uvarint()), Name: string(d.bytes())}
	n.PeerURLs, n.ClientURLs = d.strings(), d.strings()
	n.Learner = d.byte() != 0
	return n
}

func nodeSizeBytes(n *kv.NodeRecord) int {
	size := 32 + len(n.Name)
	for _, urls := range [][]string{n.PeerURLs, n.ClientURLs} {
		for _, url := range urls {
			size += len(url) + 4
		}
	}
	return size
}
