package sequencer

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

var testSession = Session{Instance: 300, Number: 2}

var testRequests = []Request{
	{Session: testSession, Counter: 1},
	{
		Session: testSession, Counter: 7, Epoch: 3, Allocs: []Alloc{{2, 1, 4, 5, 6, kv.Bounds{}}, {130, 0, 1, 1, MaxBatchNumbers, kv.Bounds{Most: 77}}},
		Cleans: []Clean{{3, 2, 1, 7, 200, 190}}, Frontier: []ShardGeneration{{2, 1}, {3, 0}},
	},
	{
		Session: testSession, Counter: 8, Epoch: 3, Allocs: []Alloc{{2, 0, 1, 1, 1, kv.Bounds{}}},
		Multis: []AllocMulti{{5, []ShardGeneration{{2, 0}, {300, 1}}}, {6, []ShardGeneration{{3, 0}}}},
	},
	{
		Session: testSession, Counter: 9, Epoch: 3,
		Allocs: []Alloc{{3, 0, 1, 1, 1, kv.Bounds{Compacted: 9}}, {3, 0, 1, 2, 1, kv.Bounds{Most: 77, Compacted: 10}}},
	},
}

var testReplies = []Reply{
	{Session: testSession, Epoch: 3, Over: true},
	{Session: testSession, Counter: 1, Epoch: 3, Heard: 1, Now: 10},
	{
		Session: testSession, Counter: 2, Epoch: 3, Heard: 9, Now: 200, Notice: Notice{Compact: 7, Alarms: 5},
		Numbers:  []Numbers{{2, 4, 5, 195, 6, 0}, {3, 1, 1, 201, 0, 0}},
		Frontier: []ShardFrontier{{Shard: 2, Last: 200, Clean: true}, {Shard: 3}, {Shard: 4, Newer: 2}, {Shard: 5, Clean: true}},
	},
	{
		Session: testSession, Counter: 3, Epoch: 3, Heard: 9, Now: 201,
		Revisions: []MultiRevision{{5, 200}, {6, 201}}, Doubts: []Doubt{{3, 201}},
	},
	{Session: testSession, Counter: 4, Epoch: 3, Heard: 10, Now: 203, Notice: Notice{Compact: 12}, Numbers: []Numbers{{3, 1, 1, 202, 1, 9}, {3, 1, 2, 203, 1, 0}}},
}

// TestFrames: what frames look like, byte for byte: other versions read them.
func TestFrames(t *testing.T) {
	const head = "\xac\x02\x02"
	for i, want := range []string{
		"\x01\x01" + head + "\x01\x00\x04\x00",
		"\x01\x01" + head + "\x07\x03\x01\x05\x02\x01\x04\x05\x06\x01\x09\x82\x01\x00\x01\x01\x80\x80\x40\x4d\x02\x08\x03\x02\x01\x07\xc8\x01\xbe\x01\x03\x02\x02\x01\x03\x02\x03\x00",
		"\x01\x01" + head + "\x08\x03\x01\x05\x02\x00\x01\x01\x01\x07\x07\x05\x02\x02\x00\xac\x02\x01\x07\x04\x06\x01\x03\x00",
		"\x01\x01" + head + "\x09\x03\x01\x07\x03\x00\x01\x01\x01\x00\x09\x01\x07\x03\x00\x01\x02\x01\x4d\x0a",
	} {
		if got := AppendRequest(nil, &testRequests[i]); string(got) != want {
			t.Errorf("request %d:\n%q, want\n%q", i, got, want)
		}
	}
	for i, want := range []string{
		"\x01\x03" + head + "\x00\x03",
		"\x01\x02" + head + "\x01\x03\x01\x0a\x00\x00",
		"\x01\x02" + head + "\x02\x03\x09\xc8\x01\x07\x05\x05\x06\x02\x04\x05\xc3\x01\x06\x05\x06\x03\x01\x01\xc9\x01\x00" +
			"\x06\x04\x02\x01\xc8\x01\x06\x03\x03\x00\x00\x06\x03\x04\x02\x02\x06\x03\x05\x01\x00",
		"\x01\x02" + head + "\x03\x03\x09\xc9\x01\x00\x00\x08\x03\x05\xc8\x01\x08\x03\x06\xc9\x01\x09\x03\x03\xc9\x01",
		"\x01\x02" + head + "\x04\x03\x0a\xcb\x01\x0c\x00\x05\x07\x03\x01\x01\xca\x01\x01\x09\x05\x06\x03\x01\x02\xcb\x01\x01",
	} {
		if got := AppendReply(nil, &testReplies[i]); string(got) != want {
			t.Errorf("reply %d:\n%q, want\n%q", i, got, want)
		}
	}
}

func TestFramesAreReadAsMeant(t *testing.T) {
	for _, want := range testRequests {
		if got, err := DecodeRequest(AppendRequest(nil, &want)); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	for _, want := range testReplies {
		if got, err := DecodeReply(AppendReply(nil, &want)); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

// TestFramesOfLaterVersions: fields that a later version adds to an item are ignored. An item of a kind that is not known is not.
func TestFramesOfLaterVersions(t *testing.T) {
	base := AppendRequest(nil, &Request{Session: testSession, Counter: 1})
	longer := append(bytes.Clone(base), byte(itemFrontier), 4, 2, 1, 77, 78)
	q, err := DecodeRequest(longer)
	if err != nil || len(q.Frontier) != 1 || q.Frontier[0] != (ShardGeneration{2, 1}) {
		t.Errorf("%+v, %v", q, err)
	}
	if _, err := DecodeRequest(append(bytes.Clone(base), 99, 0)); !errors.Is(err, errUnknown) {
		t.Errorf("unknown item: %v", err)
	}
	answer := AppendReply(nil, &testReplies[1])
	if _, err := DecodeReply(append(answer, byte(itemAlloc), 0)); !errors.Is(err, errUnknown) {
		t.Errorf("an item that asks in an answer: %v", err)
	}
}

// TestLongItems: the shards of a transaction are as many as there may be, in one item, to which later versions may add fields.
func TestLongItems(t *testing.T) {
	for _, writers := range []int{1, 2, 30, 31, 60, 128, 1024, MaxNamed} {
		want := Request{Session: testSession, Counter: 1, Multis: []AllocMulti{{Ticket: 1 << 40}}}
		for i := range writers {
			want.Multis[0].Writers = append(want.Multis[0].Writers, ShardGeneration{kv.ShardID(i*i + 1), Generation(i)})
		}
		frame := AppendRequest(nil, &want)
		if got, err := DecodeRequest(frame); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%d writers: %v, or they are others", writers, err)
		}
		if len(frame) > MaxFrameBytes/4 {
			t.Errorf("%d writers: a frame of %d bytes", writers, len(frame))
		}
	}
	longer := append(AppendRequest(nil, &testRequests[0])[:7], byte(itemMulti), 6, 9, 1, 2, 0, 77, 78)
	if q, err := DecodeRequest(longer); err != nil || len(q.Multis) != 1 || len(q.Multis[0].Writers) != 1 {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestItemsTakeNoSpaceInAdvance: an item that claims to name many shards, and does not, is refused before there is space for them.
func TestItemsTakeNoSpaceInAdvance(t *testing.T) {
	frame := append(AppendRequest(nil, &testRequests[0])[:7], byte(itemMulti), 6, 1, 0x80, 0x80, 0x04, 2, 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		if _, err := DecodeRequest(frame); !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%d bytes for %d that are refused", after.TotalAlloc-before.TotalAlloc, 10*len(frame))
	}
}

// TestFramesOfOtherFormats: a frame of a format version that is not known is refused by that, whatever follows.
func TestFramesOfOtherFormats(t *testing.T) {
	for _, frame := range [][]byte{AppendRequest(nil, &testRequests[1]), AppendReply(nil, &testReplies[2]), {0}, {0, 1}} {
		for _, version := range []byte{0, formatVersion + 1, 255} {
			frame[0] = version
			if _, err := DecodeRequest(frame); !errors.Is(err, errVersion) {
				t.Errorf("request %q: %v", frame, err)
			}
			if _, err := DecodeReply(frame); !errors.Is(err, errVersion) {
				t.Errorf("reply %q: %v", frame, err)
			}
		}
	}
}

// TestFramesAreChecked: each way in which a frame can be wrong.
func TestFramesAreChecked(t *testing.T) {
	tooMany := testRequests[1]
	tooMany.Allocs = []Alloc{{2, 0, 1, 1, MaxBatchNumbers + 1, kv.Bounds{}}}
	tooHigh := testReplies[1]
	tooHigh.Now = maxRevision + 1
	noShard := testRequests[1]
	noShard.Frontier = []ShardGeneration{{}}
	noSession := testRequests[0]
	noSession.Session.Instance = 0
	noEpoch := testReplies[1]
	noEpoch.Epoch = 0
	noWriters, manyWriters := testRequests[0], testRequests[0]
	noWriters.Multis = []AllocMulti{{1, nil}}
	manyWriters.Multis = []AllocMulti{{1, make([]ShardGeneration, MaxNamed+1)}}
	for i := range manyWriters.Multis[0].Writers {
		manyWriters.Multis[0].Writers[i].Shard = 1
	}
	lateRevision, doubtOfNone := testReplies[1], testReplies[1]
	lateRevision.Revisions = []MultiRevision{{1, maxRevision + 1}}
	doubtOfNone.Doubts = []Doubt{{0, 1}}
	notReplaced := AppendReply(nil, &testReplies[1])
	notReplaced = append(notReplaced, byte(itemShard), 3, 2, shardReplaced, 0)
	for name, frame := range map[string][]byte{
		"nothing":               nil,
		"too many numbers":      AppendRequest(nil, &tooMany),
		"no shard":              AppendRequest(nil, &noShard),
		"no session":            AppendRequest(nil, &noSession),
		"no writers":            AppendRequest(nil, &noWriters),
		"too many writers":      AppendRequest(nil, &manyWriters),
		"fewer than are said":   append(AppendRequest(nil, &testRequests[0]), byte(itemMulti), 6, 1, 0x80, 0x80, 0x04, 2, 0),
		"an answer":             AppendReply(nil, &testReplies[1]),
		"too long":              append([]byte{formatVersion}, make([]byte, MaxFrameBytes)...),
		"an item beyond an end": append(AppendRequest(nil, &testRequests[0]), byte(itemFrontier), 9, 1),
	} {
		if q, err := DecodeRequest(frame); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, q, err)
		}
	}
	for name, frame := range map[string][]byte{
		"nothing":           nil,
		"a request":         AppendRequest(nil, &testRequests[0]),
		"too high":          AppendReply(nil, &tooHigh),
		"too high for one":  AppendReply(nil, &lateRevision),
		"a doubt of none":   AppendReply(nil, &doubtOfNone),
		"no epoch":          AppendReply(nil, &noEpoch),
		"replaced by 0":     notReplaced,
		"without a counter": {formatVersion, formReply, 1, 1, 0, 1, 1, 1, 1, 1},
	} {
		if r, err := DecodeReply(frame); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for _, whole := range [][]byte{AppendRequest(nil, &testRequests[1]), AppendReply(nil, &testReplies[2])} {
		for n := range whole {
			q, _ := DecodeRequest(whole[:n])
			r, _ := DecodeReply(whole[:n])
			if q != nil && len(q.Allocs)+len(q.Cleans)+len(q.Frontier) == 5 || r != nil && len(r.Numbers)+len(r.Frontier) == 6 {
				t.Errorf("%d of %d bytes are taken for the whole", n, len(whole))
			}
		}
	}
}

// FuzzFrames: no frame makes the decoders or the cores panic, and what is decoded comes back.
func FuzzFrames(f *testing.F) {
	for i := range testRequests {
		f.Add(AppendRequest(nil, &testRequests[i]))
	}
	for i := range testReplies {
		f.Add(AppendReply(nil, &testReplies[i]))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if q, err := DecodeRequest(in); err == nil {
			again, err := DecodeRequest(AppendRequest(nil, q))
			if err != nil || !reflect.DeepEqual(again, q) {
				t.Errorf("%+v, then %+v, %v", q, again, err)
			}
			s, _ := New(Options{}, 3, 1, 1000)
			_ = s.Step(2, &Request{Session: q.Session, Counter: 1})
			_ = s.Step(2, q)
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		}
		r, err := DecodeReply(in)
		if err != nil {
			return
		}
		again, err := DecodeReply(AppendReply(nil, r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v, then %+v, %v", r, again, err)
		}
		a, _ := NewAsker(AskerOptions{Instance: r.Session.Instance, Patience: 1, ElectionTimeout: 2})
		a.talk.number = r.Session.Number - 1
		a.Target(kv.NodeID(1))
		a.Lead(2, 4, 0)
		for range 5 {
			a.Alloc(2, 6, kv.Bounds{})
			a.AllocMulti([]ShardGeneration{{Shard: 2}, {Shard: 3}})
		}
		a.Ready()
		_ = a.Step(1, r)
		if err := a.Check(); err != nil {
			t.Error(err)
		}
	})
}
