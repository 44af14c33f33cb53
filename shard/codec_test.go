package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

func randomEffects(random *rand.Rand, base kv.Revision) ([]mvcc.Effect, kv.Revision) {
	at := mvcc.Locator{Rev: base}
	var list []mvcc.Effect
	for i := range random.IntN(20) {
		if i == 0 || random.IntN(2) == 0 {
			at = mvcc.Locator{Rev: at.Rev + 1}
		} else {
			at.Sub++
		}
		e := mvcc.Effect{Key: randomBytes(random, 1), At: at}
		if random.IntN(2) == 0 {
			e.Prev = mvcc.Locator{Rev: 1 + kv.Revision(random.Int64N(int64(at.Rev)-1)), Sub: random.Uint32()}
			e.PrevLive = random.IntN(3) > 0
			if e.PrevLive && random.IntN(2) == 0 {
				e.PrevLease = kv.LeaseID(random.Uint64())
			}
		}
		if e.PrevLive && random.IntN(3) == 0 {
			list = append(list, e)
			continue
		}
		e.Value, e.Version, e.Create = randomBytes(random, 0), 1, at.Rev
		if e.PrevLive {
			e.Version, e.Create = 2+random.Int64N(1<<40), 1+kv.Revision(random.Int64N(int64(at.Rev)))
		}
		switch random.IntN(3) {
		case 0:
			e.Lease = kv.LeaseID(random.Uint64())
		case 1:
			e.Lease = e.PrevLease
		}
		list = append(list, e)
	}
	return list, at.Rev
}

func randomBytes(random *rand.Rand, least int) []byte {
	b := make([]byte, least+random.IntN(300))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func randomOps(random *rand.Rand) (list []op) {
	for range random.IntN(10) {
		p := op{kind: opKind(1 + random.IntN(int(opExtend)))}
		if random.IntN(4) == 0 {
			p.kind = []opKind{opRegister, opEnd, opNote, opDrop, opPrepare, opPromise, opAccept, opResolve, opFinished, opFinishedOpen, opRoster, opTime}[random.IntN(12)]
		}
		if p.kind >= opPrepare && p.kind <= opFinished || p.kind == opFinishedOpen {
			p.record = randomRecord(random)
			p.record = onlySaid(p.kind, p.record)
		}
		switch p.kind {
		case opTime:
			p.time = timeline.Point{Revision: 1 + kv.Revision(random.Int64N(1<<60)), Time: 1 + timeline.Time(random.Int64N(1<<47))}
		case opRoster:
			p.roster = randomRoster(random)
		case opGrant:
			p.lease, p.ttl = kv.LeaseID(random.Uint64()), random.Int64N(MaxLeaseTTLSeconds)
		case opRegister:
			p.lease, p.shard = kv.LeaseID(random.Uint64()), 1+kv.ShardID(random.Uint64()>>1)
		case opNote:
			p.lease, p.incarnation = kv.LeaseID(random.Uint64()), 1+random.Uint64()>>1
		case opRenew, opRevoke, opEnd, opDrop:
			p.lease = kv.LeaseID(random.Uint64())
		case opExtend:
			p.lease, p.millis = kv.LeaseID(random.Uint64()), random.Int64N(maxExtensionMillis+1)
		case opCompact:
			p.revision = kv.Revision(random.Int64())
		case opAlarmRaise, opAlarmClear:
			p.alarm = kv.Alarm{Node: kv.NodeID(random.Uint64()), Type: kv.AlarmType(random.IntN(3))}
		case opNode:
			p.node = &kv.NodeRecord{ID: kv.NodeID(random.Uint64()), Name: "n", PeerURLs: []string{"a", ""}, Learner: random.IntN(2) == 0}
		case opReplica:
			p.replica = Placement{Node: 1 + kv.NodeID(random.Uint64()>>1), Site: Site{random.Uint64(), random.Uint64() >> random.IntN(65) & MaxLife}, Replica: 1 + consensus.ReplicaID(random.IntN(MaxReplicaID))}
		}
		list = append(list, p)
	}
	return list
}

// randomRecord is one with everything in it.
func randomRecord(random *rand.Rand) *record {
	r := &record{id: kv.TransactionID{Anchor: 1 + kv.ShardID(random.IntN(1000)), Term: random.Uint64(), Number: 1 + random.Uint64()>>1}, prepared: true}
	for i := range 1 + random.IntN(4) {
		r.participants = append(r.participants, kv.ShardID(1+i*10+random.IntN(10)))
	}
	ballot := func() kv.Ballot {
		return kv.Ballot{Round: random.Uint64(), Shard: kv.ShardID(random.Uint32()), Term: random.Uint64()}
	}
	r.promised, r.accepted = ballot(), ballot()
	r.value = kv.Decision{Verdict: kv.Commit, Revision: 1 + kv.Revision(random.Int64N(1<<61))}
	r.decision = []kv.Decision{{Verdict: kv.Abort}, {Verdict: kv.Commit, Revision: 1 + kv.Revision(random.Int64N(1<<61))}}[random.IntN(2)]
	r.stamp = 1 + kv.Revision(random.Int64N(1<<40))
	for range random.IntN(4) {
		a := latch.Access{Span: kv.Span{Start: randomBytes(random, 1)}, Writes: random.IntN(2) == 0}
		if random.IntN(2) == 0 {
			a.Span.End = randomBytes(random, 1)
		}
		r.accesses = append(r.accesses, a)
	}
	effects, _ := randomEffects(random, r.stamp)
	for i := range effects {
		e := &effects[i]
		if e.Prev.Rev == e.At.Rev {
			e.Prev = mvcc.Locator{}
		}
		if e.Create == e.At.Rev {
			e.Create = kv.Unnumbered
		}
		e.At = mvcc.Locator{Rev: kv.Unnumbered, Sub: uint32(i) << random.IntN(20)}
		if i > 0 {
			e.At.Sub = max(e.At.Sub, effects[i-1].At.Sub+1)
		}
		if len(e.Value) == 0 && e.Version > 0 {
			e.Value = []byte{}
		}
	}
	if random.IntN(3) == 0 {
		r.release = &kv.LeaseBinding{Lease: kv.LeaseID(1 + random.Int64()), Incarnation: 1 + random.Uint64()>>1}
	}
	if r.effects = effects; len(effects) > 2 { // a key that is changed twice
		first, second := &effects[0], &effects[1]
		second.Key, second.Prev, second.PrevLive = first.Key, first.At, second.PrevLive || second.Version == 0
	}
	return r
}

// onlySaid leaves what an op of the kind has in the log.
func onlySaid(kind opKind, r *record) *record {
	said := &record{id: r.id}
	switch kind {
	case opPrepare:
		said.participants, said.prepared, said.accesses, said.effects = r.participants, true, r.accesses, r.effects
		said.release = r.release
	case opPromise:
		said.participants, said.promised = r.participants, r.promised
	case opAccept:
		said.accepted, said.value = r.accepted, r.value
	case opResolve:
		said.decision = r.decision
	case opFinishedOpen:
		for at := r.id; len(said.open) < 3; at.Term-- {
			said.open = append([]kv.TransactionID{{Anchor: at.Anchor, Term: at.Term - 1, Number: at.Number}}, said.open...)
		}
	}
	return said
}

func TestRecordRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		want := randomRecord(random)
		if random.IntN(3) == 0 {
			want.prepared, want.accesses, want.effects, want.release, want.stamp = false, nil, nil, nil, 0
		}
		row := appendRecord(nil, want)
		d := &decoder{data: row}
		got := d.record(want.id)
		if err := d.end(); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
		}
		for cut := 0; cut < len(row); cut += 1 + cut/16 {
			d := &decoder{data: row[:cut]}
			if d.record(want.id); !errors.Is(d.end(), ErrMalformed) {
				t.Fatalf("a record cut at %d of %d: %v", cut, len(row), d.err)
			}
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	random := rand.New(rand.NewPCG(8, 8))
	for range 20 {
		f.Add(appendRecord(nil, randomRecord(random)))
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		id := kv.TransactionID{Anchor: 1, Term: 1, Number: 1}
		d := &decoder{data: row}
		r := d.record(id)
		if d.end() != nil {
			return
		}
		d = &decoder{data: appendRecord(nil, r)}
		if again := d.record(id); d.end() != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%v\n%+v\n%+v", d.err, r, again)
		}
	})
}

// encodeEntry is what encodeProposal does, from a list.
func encodeEntry(e *entry) []byte {
	o := newOverlay()
	for i := range e.effects {
		o.add(&e.effects[i])
	}
	for i := range e.ops {
		o.addOp(e.ops[i])
	}
	m := &Machine{}
	return m.encodeProposal(&leadership{term: e.term, seq: e.seq, proposed: e.leaseClock, evaluation: evaluation{revision: e.base, overlay: o}})
}

func TestEntryRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		e := &entry{header: header{term: consensus.Term(random.Uint64()), seq: 1 + uint64(random.Uint32()), leaseClock: random.Int64(), base: 1 + kv.Revision(random.Int64N(1<<40))}}
		e.effects, e.revision = randomEffects(random, e.base)
		e.ops = randomOps(random)
		data := encodeEntry(e)
		got, err := decodeEntry(data)
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		for i := range e.effects { // empty values come back as empty, not nil
			if len(e.effects[i].Value) == 0 {
				e.effects[i].Value, got.effects[i].Value = nil, nil
			}
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("\n got %+v\nwant %+v", got, e)
		}
		for cut := 0; cut < len(data); cut += 1 + cut/16 {
			if _, err := decodeEntry(data[:cut]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("an entry cut at %d of %d: %v", cut, len(data), err)
			}
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	random := rand.New(rand.NewPCG(6, 6))
	for range 20 {
		e := &entry{header: header{term: 3, seq: 4, leaseClock: 5, base: 100}}
		e.effects, _ = randomEffects(random, e.base)
		e.ops = randomOps(random)
		f.Add(encodeEntry(e))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		// What decodes is accepted by the store, and encodes to something that decodes to the same.
		again, err := decodeEntry(encodeEntry(e))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%v\n%+v\n%+v", err, e, again)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(appendState(nil, &State{Index: 5, Term: 2, ChainTerm: 2, ChainSeq: 3, Revision: 9, Compacted: 4, Alarms: []kv.Alarm{{Node: 1, Type: 1}}}))
	f.Add(appendState(nil, &State{Revision: 9, Limit: 1 << 20}))
	f.Add(appendState(nil, &State{Revision: 9, Limit: 1 << 20, Roster: kv.Roster{Version: 3, Seats: []kv.Seat{{Node: 4, First: 1, Role: kv.SeatVoter}, {Node: 7, Role: kv.SeatLearner}}}}))
	f.Add(appendState(nil, &State{Revision: 9, Roster: kv.Roster{Version: 1, Seats: []kv.Seat{{Node: 4, Role: kv.SeatVoter}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(data)
		if err != nil {
			return
		}
		again, err := decodeState(appendState(nil, &s))
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%v\n%+v\n%+v", err, s, again)
		}
	})
}

// TestLeaseRows: what a lease's row says of shards is read as it was written. With one shard at most, it is what earlier versions wrote, and read.
func TestLeaseRows(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	for range 1000 {
		want := lease{incarnation: random.Uint64() >> random.IntN(64)}
		for range random.IntN(5) {
			want.shards = withShard(want.shards, 1+kv.ShardID(random.Uint64()>>random.IntN(64)>>1))
		}
		want.ending = len(want.shards) > 0 && random.IntN(2) == 0
		row := want.appendBinding(nil)
		if len(want.shards) < 2 {
			first, ending := uint64(0), byte(0)
			if len(want.shards) == 1 {
				first = uint64(want.shards[0])
			}
			if want.ending {
				ending = 1
			}
			before := append(binary.AppendUvarint(binary.AppendUvarint(nil, want.incarnation), first), ending)
			if !bytes.Equal(row, before) {
				t.Fatalf("%+v is written as %x, and was written as %x", want, row, before)
			}
		}
		got, d := lease{}, &decoder{data: row}
		d.binding(&got)
		if err := d.end(); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
		}
		for cut := range row {
			d := &decoder{data: row[:cut]}
			if d.binding(&lease{}); !errors.Is(d.end(), ErrMalformed) {
				t.Fatalf("a row cut at %d of %d: %v", cut, len(row), d.err)
			}
		}
	}
}

func FuzzLeaseRow(f *testing.F) {
	f.Add((&lease{incarnation: 5, shards: []kv.ShardID{2}, ending: true}).appendBinding(nil))
	f.Add((&lease{incarnation: 1 << 40, shards: []kv.ShardID{1, 2, 300}}).appendBinding(nil))
	f.Fuzz(func(t *testing.T, row []byte) {
		got, d := lease{}, &decoder{data: row}
		if d.binding(&got); d.end() != nil {
			return
		}
		again := lease{}
		d = &decoder{data: got.appendBinding(nil)}
		if d.binding(&again); d.end() != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%x is read as %+v, and what is written of that as %+v: %v", row, got, again, d.err)
		}
	})
}
