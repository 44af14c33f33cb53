package consensus

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func randomConfig(rng *rand.Rand) (c Config) {
	for _, list := range []*[]ReplicaID{&c.Voters, &c.Learners, &c.Outgoing} {
		id := ReplicaID(0)
		for range rng.IntN(4) {
			id += 1 + ReplicaID(rng.Uint64N(1<<rng.IntN(60)))
			*list = append(*list, id)
		}
	}
	return c
}

func randomEntry(rng *rand.Rand) Entry {
	e := Entry{Index: Index(rng.Uint64() >> rng.IntN(64)), Term: Term(rng.Uint64() >> rng.IntN(64)), Kind: EntryKind(rng.IntN(3))}
	if n := rng.IntN(100); n > 0 {
		e.Data = bytes.Repeat([]byte{byte(n)}, n)
	}
	return e
}

func randomMessage(rng *rand.Rand) Message {
	number := func() uint64 {
		if rng.IntN(3) == 0 {
			return 0
		}
		return rng.Uint64() >> rng.IntN(64)
	}
	m := Message{
		From: ReplicaID(number()), To: ReplicaID(number()), Kind: MessageKind(rng.IntN(128)), Class: Class(rng.IntN(4)), Reject: rng.IntN(2) == 0,
		Term: Term(number()), LogTerm: Term(number()), Index: Index(number()), Commit: Index(number()), Hint: Index(number()),
		Vote: ReplicaID(number()), Context: number(),
	}
	for range rng.IntN(4) {
		m.Entries = append(m.Entries, randomEntry(rng))
	}
	if rng.IntN(3) == 0 {
		m.Snapshot = &SnapshotMeta{Index: Index(number()), Term: Term(number()), Config: randomConfig(rng)}
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		m := randomMessage(rng)
		b := AppendMessage([]byte("prefix"), &m)[len("prefix"):]
		if got, err := DecodeMessage(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("message: got %+v, %v\nwant %+v", got, err, m)
		}
		for cut := range b {
			if _, err := DecodeMessage(b[:cut]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d of %d bytes decode: %v", cut, len(b), err)
			}
		}
		if _, err := DecodeMessage(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("a message with a byte too many decodes: %v", err)
		}
		c := randomConfig(rng)
		if got, err := DecodeConfig(AppendConfig(nil, c)); err != nil || !got.Equal(c) {
			t.Fatalf("config: got %v, %v, want %v", got, err, c)
		}
		s := SnapshotMeta{Index: 7, Term: 3, Config: c}
		d := decoder{rest: AppendSnapshotMeta(nil, &s)}
		if got := d.snapshotMeta(); d.end("snapshot metadata") != nil || !reflect.DeepEqual(*got, s) {
			t.Fatalf("snapshot: got %v, %v, want %v", got, d.err, s)
		}
		e := randomEntry(rng)
		d = decoder{rest: append(AppendEntry(nil, &e), "rest"...)}
		if got := d.entry(); d.err != nil || !reflect.DeepEqual(got, e) || string(d.rest) != "rest" {
			t.Fatalf("entry: got %v, %q, %v, want %v", got, d.rest, d.err, e)
		}
	}
}

// TestWireFormat pins the bytes: nodes of different versions exchange them.
func TestWireFormat(t *testing.T) {
	m := Message{From: 1, To: 2, Kind: 1, Term: 5, Index: 300, Commit: 299, LogTerm: 4, Entries: []Entry{{Index: 301, Term: 5, Data: []byte("x")}}}
	want := []byte("\x01\x01\x78\x04\x01\x02\x05\x04\xac\x02\xab\x02\x01\xad\x02\x05\x00\x01x")
	if got := AppendMessage(nil, &m); !bytes.Equal(got, want) {
		t.Errorf("message: got  %x\nwant %x", got, want)
	}
	c := Config{Voters: []ReplicaID{1, 2, 4}, Learners: []ReplicaID{7}}
	if got := AppendConfig(nil, c); string(got) != "\x01\x03\x01\x01\x02\x01\x07\x00" {
		t.Errorf("config: got %x", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"another version":        {2, 1, 0, 0, 1, 2},
		"unknown fields":         {1, 1, 0, 0x80, 1, 2},
		"count beyond the bytes": append([]byte{1, 1, 0, 4, 1, 2}, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"number too long":        append([]byte{1, 1, 0, 0}, bytes.Repeat([]byte{0xff}, 12)...),
	} {
		if _, err := DecodeMessage(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeConfig([]byte{1, 2, 3, 0, 0, 0}); !errors.Is(err, ErrMalformed) {
		t.Errorf("repeated replica: %v", err)
	}
}

// TestDecodeShares: the data of entries is not copied, and cannot grow into what follows it.
func TestDecodeShares(t *testing.T) {
	m := Message{From: 1, To: 2, Entries: []Entry{{Data: []byte("one")}, {Data: []byte("two")}}}
	b := AppendMessage(nil, &m)
	got, err := DecodeMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got.Entries[0].Data, "xxxxxxxx"...)
	if string(got.Entries[1].Data) != "two" {
		t.Error("appending to the data of an entry overwrote the next one")
	}
	b[len(b)-1] = 'O'
	if string(got.Entries[1].Data) != "twO" {
		t.Error("the data was copied")
	}
}

func FuzzDecodeMessage(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		m := randomMessage(rng)
		f.Add(AppendMessage(nil, &m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		again, err := DecodeMessage(AppendMessage(nil, &m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add(AppendConfig(nil, Config{Voters: []ReplicaID{1, 2, 3}, Learners: []ReplicaID{4}, Outgoing: []ReplicaID{1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeConfig(b)
		if err != nil {
			return
		}
		if again, err := DecodeConfig(AppendConfig(nil, c)); err != nil || !again.Equal(c) {
			t.Fatalf("%v became %v, %v", c, again, err)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte("\xac\x02\x05\x00\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{rest: b}
		e := d.entry()
		if d.err != nil {
			return
		}
		if len(e.Data)+len(d.rest) > len(b) {
			t.Fatalf("%d bytes became %d and %d", len(b), len(e.Data), len(d.rest))
		}
	})
}
