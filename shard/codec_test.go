package shard

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
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
			p.kind = []opKind{opRegister, opEnd, opNote, opDrop}[random.IntN(4)]
		}
		switch p.kind {
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
