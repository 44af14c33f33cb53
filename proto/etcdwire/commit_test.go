package etcdwire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"google.golang.org/protobuf/encoding/protowire"
)

var commitKinds = []kv.Kind{kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState}

func randomNumber(rng *rand.Rand) uint64 {
	return [...]uint64{0, 1, 2, 127, 128, 300, 1 << 40, 1 << 62, 1<<63 + 5, ^uint64(0)}[rng.Intn(10)]
}

func randomBytes(rng *rand.Rand) []byte {
	n := [...]int{0, 1, 3, 127, 128, 300}[rng.Intn(6)]
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	rng.Read(b)
	return b
}

func randomFinished(rng *rand.Rand) (f kv.Finished) {
	f.At = randomID(rng)
	for range rng.Intn(4) {
		f.Open = append(f.Open, kv.TransactionID{Anchor: f.At.Anchor, Term: rng.Uint64() >> 1, Number: 1 + rng.Uint64()>>2}) // what is zero does not travel
	}
	return f
}

func randomID(rng *rand.Rand) kv.TransactionID {
	return kv.TransactionID{Anchor: kv.ShardID(randomNumber(rng)), Term: randomNumber(rng), Number: randomNumber(rng)}
}

func randomBallot(rng *rand.Rand) kv.Ballot {
	return kv.Ballot{Round: randomNumber(rng), Shard: kv.ShardID(randomNumber(rng)), Term: randomNumber(rng)}
}

func randomDecision(rng *rand.Rand) kv.Decision {
	return kv.Decision{Verdict: kv.Verdict(rng.Intn(3)), Revision: kv.Revision(randomNumber(rng))}
}

// several makes up to three of something; nil for none.
func several[T any](rng *rand.Rand, one func() T) (list []T) {
	for range rng.Intn(4) {
		list = append(list, one())
	}
	return list
}

func randomOp(rng *rand.Rand) kv.Op {
	span := kv.Span{Start: randomBytes(rng), End: randomBytes(rng)}
	switch rng.Intn(3) {
	case 0:
		return kv.Op{Range: &kv.RangeRequest{Span: span, Limit: int64(randomNumber(rng)), CountOnly: rng.Intn(2) == 0}}
	case 1:
		return kv.Op{Put: &kv.PutRequest{Key: randomBytes(rng), Value: randomBytes(rng), Lease: kv.LeaseID(randomNumber(rng)), PrevKV: rng.Intn(2) == 0}}
	}
	return kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: span, PrevKV: rng.Intn(2) == 0}}
}

func randomExpectation(rng *rand.Rand) kv.Expectation {
	c := kv.Compare{Span: kv.Span{Start: randomBytes(rng), End: randomBytes(rng)}, Target: kv.CompareTarget(rng.Intn(5)), Result: kv.CompareResult(rng.Intn(4))}
	if c.Target == kv.CompareValue {
		c.Value = randomBytes(rng)
	} else {
		c.Integer = int64(randomNumber(rng))
	}
	return kv.Expectation{Compare: c, Holds: rng.Intn(2) == 0}
}

func randomCommit(rng *rand.Rand) *kv.CommitRequest {
	r := &kv.CommitRequest{
		ID: randomID(rng), Shard: kv.ShardID(randomNumber(rng)), Participants: several(rng, func() kv.ShardID { return kv.ShardID(randomNumber(rng)) }),
		Patient: rng.Intn(2) == 0, Finished: randomFinished(rng), Ballot: randomBallot(rng), Decision: randomDecision(rng),
	}
	if rng.Intn(2) == 0 {
		r.Share = &kv.Share{
			Compares: several(rng, func() kv.Expectation { return randomExpectation(rng) }),
			Ops:      several(rng, func() kv.PlacedOp { return kv.PlacedOp{Place: uint32(randomNumber(rng)), Op: randomOp(rng)} }),
		}
		if rng.Intn(3) == 0 {
			r.Share.Release = &kv.LeaseBinding{Lease: kv.LeaseID(randomNumber(rng)), Incarnation: randomNumber(rng), Shard: kv.ShardID(randomNumber(rng))}
		}
	}
	return r
}

func randomKV(rng *rand.Rand) kv.KeyValue {
	return kv.KeyValue{Key: randomBytes(rng), Value: randomBytes(rng), ModRevision: kv.Unnumbered, Version: int64(randomNumber(rng))}
}

func randomCommitted(rng *rand.Rand) *kv.CommitResponse {
	return &kv.CommitResponse{
		Standing: kv.Standing(rng.Intn(5)), Busy: rng.Intn(2) == 0, Met: several(rng, func() bool { return rng.Intn(2) == 0 }), Writes: rng.Intn(2) == 0,
		Results: several(rng, func() kv.OpResponse {
			one := randomKV(rng)
			switch rng.Intn(3) {
			case 0:
				return kv.OpResponse{Revision: kv.Revision(randomNumber(rng)), Range: &kv.RangeResponse{KVs: several(rng, func() kv.KeyValue { return randomKV(rng) }), Count: 3}}
			case 1:
				return kv.OpResponse{Put: &kv.PutResponse{Prev: &one}}
			}
			return kv.OpResponse{DeleteRange: &kv.DeleteRangeResponse{Deleted: 1, Prev: []kv.KeyValue{one}}}
		}),
		Promised: randomBallot(rng), Accepted: randomBallot(rng), Decision: randomDecision(rng),
	}
}

// TestCommits: what nodes tell each other about transactions over several shards is read as it was written, and the sizes are right.
func TestCommits(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 3000 {
		kind := commitKinds[rng.Intn(len(commitKinds))]
		request := &kv.Request{Kind: kind, Principal: "p", Commit: randomCommit(rng)}
		if again, err := DecodeRequest(AppendRequest(nil, request), Limits{}); err != nil || !reflect.DeepEqual(again, request) {
			t.Fatalf("%v\n%+v, want\n%+v", err, again.Commit, request.Commit)
		}
		response := &kv.Response{Kind: kind, Revision: kv.Revision(randomNumber(rng)), Commit: randomCommitted(rng)}
		written := AppendResponse(nil, response)
		if again, err := DecodeResponse(written); err != nil || !reflect.DeepEqual(again, response) {
			t.Fatalf("%v\n%+v, want\n%+v", err, again.Commit, response.Commit)
		}
		if size := ResponseSize(response); size != len(written) {
			t.Fatalf("%d bytes are written, and the size is said to be %d: %+v", len(written), size, response.Commit)
		}
	}
}

// TestCommitOnTheWire: the bytes are part of the protocol between nodes. They are those of a message that protobuf's own writer makes.
func TestCommitOnTheWire(t *testing.T) {
	request := &kv.Request{Kind: kv.KindTxnPrepare, Commit: &kv.CommitRequest{
		ID: kv.TransactionID{Anchor: 2, Term: 7, Number: 300}, Shard: 3, Participants: []kv.ShardID{2, 3, 200},
		Share: &kv.Share{
			Compares: []kv.Expectation{{Compare: kv.Compare{Span: kv.Span{Start: []byte("k")}, Target: kv.CompareMod, Integer: 4}, Holds: true}},
			Ops:      []kv.PlacedOp{{Place: 5, Op: kv.Op{Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}}}},
		},
		Patient: true, Finished: kv.Finished{At: kv.TransactionID{Anchor: 2, Term: 7, Number: 299}, Open: []kv.TransactionID{{Anchor: 2, Term: 6, Number: 1}, {Anchor: 2, Term: 7, Number: 298}}},
	}}
	message := func(number protowire.Number, body []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), body)
	}
	number := func(number protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
	}
	id := func(n uint64) []byte { return bytes.Join([][]byte{number(1, 2), number(2, 7), number(3, n)}, nil) }
	compare := bytes.Join([][]byte{number(2, uint64(kv.CompareMod)), message(3, []byte("k")), number(6, 4)}, nil)
	expectation := append(message(1, compare), number(2, 1)...)
	placed := append(number(1, 5), message(2, message(2, append(message(1, []byte("k")), message(2, []byte("v"))...)))...)
	want := bytes.Join([][]byte{
		{byte(kv.KindTxnPrepare), 0},
		message(1, id(300)), number(2, 3), message(3, []byte{2, 3, 200, 1}),
		message(4, append(message(1, expectation), message(2, placed)...)),
		number(5, 1), message(6, id(299)), message(9, bytes.Join([][]byte{number(1, 2), number(2, 6), number(3, 1)}, nil)), message(9, id(298)),
	}, nil)
	if got := AppendRequest(nil, request); !bytes.Equal(got, want) {
		t.Errorf("written\n%s, want\n%s", hex.EncodeToString(got), hex.EncodeToString(want))
	}
	later := append(bytes.Clone(want), message(40, []byte("of a later version"))...)
	if got, err := DecodeRequest(later, Limits{}); err != nil || !reflect.DeepEqual(got, request) {
		t.Errorf("with a field of a later version: %v, %+v", err, got)
	}
}

// TestUnknownOutcomes: what a participant of a later version may say, and nobody here understands, is refused by name.
func TestUnknownOutcomes(t *testing.T) {
	for _, answer := range []*kv.CommitResponse{{Standing: kv.StandingOver + 1}, {Standing: kv.StandingResolved, Decision: kv.Decision{Verdict: kv.Abort + 1}}} {
		response := AppendResponse(nil, &kv.Response{Kind: kv.KindTxnResolve, Commit: answer})
		if got, err := DecodeResponse(response); !errors.Is(err, ErrUnknownKind) {
			t.Errorf("%+v is read as %+v, %v", answer, got, err)
		}
	}
}

type noMemory struct{}

func (noMemory) Reserve(int64) bool { return false }
func (noMemory) Release(int64)      {}

// TestCommitsAreBounded: a share cannot make a node hold more than it has room for, and no transaction hides in one.
func TestCommitsAreBounded(t *testing.T) {
	many := &kv.Request{Kind: kv.KindTxnPrepare, Commit: &kv.CommitRequest{Share: &kv.Share{}}}
	for range 1000 {
		many.Commit.Share.Ops = append(many.Commit.Share.Ops, kv.PlacedOp{Op: kv.Op{Range: &kv.RangeRequest{}}})
	}
	tally := kv.NewTally(noMemory{})
	if _, err := DecodeRequest(AppendRequest(nil, many), Limits{Memory: &tally}); !errors.Is(err, kv.ErrTooManyRequests) {
		t.Errorf("without room for the share: %v", err)
	}
	many.Commit = &kv.CommitRequest{Participants: make([]kv.ShardID, 10_000)}
	if _, err := DecodeRequest(AppendRequest(nil, many), Limits{Memory: &tally}); !errors.Is(err, kv.ErrTooManyRequests) {
		t.Errorf("without room for the participants: %v", err)
	}
	many.Commit = &kv.CommitRequest{Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Txn: &kv.TxnRequest{}}}}}}
	if _, err := DecodeRequest(AppendRequest(nil, many), Limits{}); !errors.Is(err, ErrTooDeep) {
		t.Errorf("a transaction in a share: %v", err)
	}
	answer := &kv.Response{Kind: kv.KindTxnPrepare, Commit: &kv.CommitResponse{Results: []kv.OpResponse{{Txn: &kv.TxnResponse{}}}}}
	if _, err := DecodeResponse(AppendResponse(nil, answer)); !errors.Is(err, ErrTooDeep) {
		t.Errorf("a transaction in an answer: %v", err)
	}
}

// FuzzCommit: what is accepted is the same when it is written and read again.
func FuzzCommit(f *testing.F) {
	rng := rand.New(rand.NewSource(2))
	for range 5 {
		f.Add(appendCommit(nil, randomCommit(rng)))
		f.Add(appendCommitResponse(nil, Header{Revision: 8}, randomCommitted(rng)))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var request, again kv.CommitRequest
		if decodeCommit(in, &request, Limits{}) == nil {
			if err := decodeCommit(appendCommit(nil, &request), &again, Limits{}); err != nil || !reflect.DeepEqual(again, request) {
				t.Errorf("%v\n%+v, want\n%+v", err, again, request)
			}
		}
		response, err := DecodeAnswer(kv.KindTxnResolve, in)
		if err != nil {
			return
		}
		written := AppendAnswer(nil, Header{}, response)
		if same, err := DecodeAnswer(kv.KindTxnResolve, written); err != nil || !reflect.DeepEqual(same, response) || AnswerSize(Header{}, response) != len(written) {
			t.Errorf("%v\n%+v, want\n%+v (%d bytes)", err, same, response, len(written))
		}
	})
}
