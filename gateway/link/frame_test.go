package link

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

func put(key string) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte("v")}}
}

// TestFrames: what each form of a frame looks like, byte for byte: other versions read them. And it is read as it was meant.
func TestFrames(t *testing.T) {
	old, numbered := Head{Instance: 0x0102, Shard: kv.SystemShard}, Head{Instance: 0x0102, Shard: 300, Numbered: true}
	calls := []*Item{{id: 7, Request: put("k"), Expires: 5 * time.Second}}
	request := "\x02\x00\x0a\x01k\x12\x01v" // kind, principal, key, value
	long := func(n int) string { return string([]byte{byte(n) | 0x80, 0x80, 0x80, 0}) }
	for _, test := range []struct {
		what string
		got  []byte
		want string
	}{
		{"requests", AppendRequests(nil, old, Dialect{}, 0, calls), "\x01\x02\x01\x00\x00\x00\x00\x00\x00\x07" + long(8) + request},
		{"timed requests", AppendRequests(nil, old, Dialect{Deadlines: true}, time.Second, calls),
			"\x06\x02\x01\x00\x00\x00\x00\x00\x00\x07" + long(10) + "\xa0\x1f" + request},
		{"timed requests of a shard", AppendRequests(nil, numbered, Dialect{Deadlines: true, Shards: true}, time.Second, calls),
			"\x16\x02\x01\x00\x00\x00\x00\x00\x00\xac\x02\x07" + long(10) + "\xa0\x1f" + request},
		{"barrier", AppendBarrier(nil, old, 9, 0), "\x02\x02\x01\x00\x00\x00\x00\x00\x00\x09"},
		{"barrier of a shard", AppendBarrier(nil, numbered, 9, 0), "\x12\x02\x01\x00\x00\x00\x00\x00\x00\xac\x02\x09"},
		{"barrier as of a revision", AppendBarrier(nil, old, 9, 300), "\x07\x02\x01\x00\x00\x00\x00\x00\x00\x09\xac\x02"},
		{"barrier of a shard as of a revision", AppendBarrier(nil, numbered, 9, 300), "\x17\x02\x01\x00\x00\x00\x00\x00\x00\xac\x02\x09\xac\x02"},
		{"answer", AppendAnswer(nil, old, 7, Outcome{Err: kv.ErrNotLeader, Leader: 3}),
			"\x03\x02\x01\x00\x00\x00\x00\x00\x00\x07" + long(18) + "\x01\x11\x00\x03not the leader"},
		{"answer of a shard", AppendAnswer(nil, numbered, 7, Outcome{Err: kv.ErrNotLeader, Leader: 3}),
			"\x13\x02\x01\x00\x00\x00\x00\x00\x00\xac\x02\x07" + long(18) + "\x01\x11\x00\x03not the leader"},
		{"barrier passed", AppendBarrierAnswer(nil, old, 9, 130, nil, 0), "\x04\x02\x01\x00\x00\x00\x00\x00\x00\x09\x82\x01"},
		{"barrier of a shard passed", AppendBarrierAnswer(nil, numbered, 9, 130, nil, 0), "\x14\x02\x01\x00\x00\x00\x00\x00\x00\xac\x02\x09\x82\x01"},
		{"barrier failed", AppendBarrierAnswer(nil, old, 9, 0, kv.ErrNotLeader, 3), "\x05\x02\x01\x00\x00\x00\x00\x00\x00\x09\x11\x00\x03not the leader"},
	} {
		if string(test.got) != test.want {
			t.Errorf("%s:\n%q, want\n%q", test.what, test.got, test.want)
		}
		if text := read(test.got); text == "" {
			t.Errorf("%s: cannot be read", test.what)
		}
	}
	got := read(AppendRequests(nil, numbered, Dialect{Deadlines: true, Shards: true}, time.Second, calls))
	if want := "258 shard 300 true: 7 with 3s "; !strings.HasPrefix(got, want) { // of 4 s, because no request has more than 3
		t.Errorf("read %s, want %s", got, want)
	}
}

// read says in words what a frame is, or nothing.
func read(payload []byte) (text string) {
	if q, err := DecodeQuestions(payload); err == nil {
		text = fmt.Sprintf("%d shard %d %v:", q.Instance, q.Shard, q.Numbered)
		if q.Barrier {
			return fmt.Sprint(text, " barrier ", q.ID, " settles ", q.Settles)
		}
		q.Each(3*time.Second, func(id uint64, left time.Duration, request []byte) {
			text += fmt.Sprintf(" %d with %v %q", id, left, request)
		})
		return text
	}
	if a, err := DecodeAnswers(payload); err == nil {
		text = fmt.Sprintf("%d shard %d %v:", a.Instance, a.Shard, a.Numbered)
		if a.Barrier {
			return fmt.Sprint(text, " barrier ", a.ID, " at ", a.Index, " error ", a.Err)
		}
		a.Each(func(id uint64, outcome []byte) {
			o, bad := DecodeOutcome(outcome)
			text += fmt.Sprintf(" %d: %+v, %v", id, o, bad)
		})
		return text
	}
	return ""
}

// FuzzFrames: whatever another node sends is a frame or an error. A frame that asks is of one shard, and of a system shard's in the old form; and what
// was decoded can be written and decoded again.
func FuzzFrames(f *testing.F) {
	old, numbered := Head{Instance: 258, Shard: kv.SystemShard}, Head{Instance: 258, Shard: 300, Numbered: true}
	calls := []*Item{{id: 7, Request: put("k"), Expires: 5 * time.Second}, {id: 8, Request: put("l")}}
	for _, h := range []Head{old, numbered} {
		f.Add(AppendRequests(nil, h, Dialect{}, 0, calls))
		f.Add(AppendRequests(nil, h, Dialect{Deadlines: true}, 0, calls))
		f.Add(AppendBarrier(nil, h, 9, 0))
		f.Add(AppendBarrier(nil, h, 9, 300))
		f.Add(AppendAnswer(nil, h, 7, Outcome{Err: kv.ErrShardNotHere}))
		f.Add(AppendAnswer(nil, h, 7, Outcome{Response: &kv.Response{Kind: kv.KindPut, Put: &kv.PutResponse{}}, Applied: 3}))
		f.Add(AppendBarrierAnswer(nil, h, 9, 130, nil, 0))
		f.Add(AppendBarrierAnswer(nil, h, 9, 0, kv.ErrNotLeader, 3))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		q, asks := DecodeQuestions(payload)
		a, answers := DecodeAnswers(payload)
		if asks == nil && answers == nil {
			t.Fatal("it asks and answers")
		}
		if asks != nil && answers != nil {
			return
		}
		h := q.Head
		if answers == nil {
			h = a.Head
		}
		if h.Shard == 0 || !h.Numbered && h.Shard != kv.SystemShard {
			t.Fatalf("%+v", h)
		}
		switch {
		case q.Barrier:
			if again := read(AppendBarrier(nil, h, q.ID, q.Settles)); again != read(payload) {
				t.Fatalf("%s, then %s", read(payload), again)
			}
		case asks == nil:
			q.Each(time.Second, func(id uint64, left time.Duration, request []byte) {
				if left < 0 || left > time.Second {
					t.Fatalf("request %d has %v left", id, left)
				}
				_, _ = etcdwire.DecodeRequest(request, etcdwire.Limits{})
			})
		case a.Barrier && a.Err == nil:
			if again := read(AppendBarrierAnswer(nil, h, a.ID, a.Index, nil, 0)); again != read(payload) {
				t.Fatalf("%s, then %s", read(payload), again)
			}
		default:
			_ = read(payload)
		}
	})
}

// TestUnknownFrames are refused by name.
func TestUnknownFrames(t *testing.T) {
	for _, test := range []struct {
		payload []byte
		want    error
	}{
		{nil, errMalformed},
		{append([]byte{18}, make([]byte, 8)...), errMalformed},           // without a shard
		{append([]byte{18}, make([]byte, 10)...), errMalformed},          // of shard 0
		{append([]byte{8}, make([]byte, 10)...), errUnknown},             // of a later version
		{append([]byte{7}, make([]byte, 10)...), errMalformed},           // as of revision 0
		{append([]byte{7}, make([]byte, 9)...), errMalformed},            // as of none
		{append([]byte{16}, make([]byte, 10)...), errUnknown},            // of no kind
		{append([]byte{24}, bytes.Repeat([]byte{1}, 10)...), errUnknown}, // of a later version and shard 1
		{append([]byte{18}, bytes.Repeat([]byte{0xff}, 20)...), errMalformed},
	} {
		if _, err := DecodeQuestions(test.payload); !errors.Is(err, test.want) {
			t.Errorf("%x asks: %v, want %v", test.payload, err, test.want)
		}
		if _, err := DecodeAnswers(test.payload); !errors.Is(err, test.want) && !(test.payload != nil && (test.payload[0] == 18 || test.payload[0] == 7) && errors.Is(err, errUnknown)) {
			t.Errorf("%x answers: %v, want %v", test.payload, err, test.want)
		}
	}
}
