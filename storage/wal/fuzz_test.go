package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

func FuzzDecodePayload(f *testing.F) {
	p := part{
		group: 7, drop: true, compact: &storage.LogPosition{Index: 3, Term: 2}, reset: &storage.LogPosition{Index: 9, Term: 1}, truncateFrom: 12,
		entries:   []entry{{Entry: consensus.Entry{Index: 300, Term: 5, Kind: 2, Data: []byte("data")}}},
		hardState: &consensus.HardState{Term: 1, Vote: 2, Commit: 3},
	}
	f.Add(appendPart(nil, 0, &p))
	f.Add([]byte{1, flagEntries, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, payload []byte) {
		parts, err := decodePayload(payload)
		if err != nil {
			return
		}
		var encoded []byte
		for i := range parts {
			encoded = appendPart(encoded, 0, &parts[i])
		}
		again, err := decodePayload(encoded)
		if err != nil || len(again) != len(parts) {
			t.Fatalf("encoding what was decoded gives %d of %d parts, %v", len(again), len(parts), err)
		}
		var twice []byte
		for i := range again {
			twice = appendPart(twice, 0, &again[i])
		}
		if !bytes.Equal(encoded, twice) {
			t.Fatalf("%x and %x", encoded, twice)
		}
	})
}

// FuzzRecovery damages a log. Every six bytes of the input say where and how.
func FuzzRecovery(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 0, 16, 0, 1})
	f.Add(uint64(2), []byte{1, 0, 0, 0, 0, 0xff, 0, 0, 0, 16, 8, 9})
	f.Fuzz(func(t *testing.T, seed uint64, edits []byte) {
		random := rand.New(rand.NewPCG(seed%50, 1))
		fs, trace := closedLog(t, random, 30)
		names := segmentFiles(t, fs)
		for ; len(edits) >= 6; edits = edits[6:] {
			content, err := fs.UnsafeGetFileDataBuffer("log/" + names[int(edits[0])%len(names)])
			if err != nil {
				t.Fatal(err)
			}
			at := int(binary.BigEndian.Uint32(edits[1:])) % len(content)
			content[at] ^= edits[5]
		}
		l, err := Open(tiny(fs))
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, errVersion) {
				t.Fatal(err)
			}
			return
		}
		// Damage of the last records can pass for a torn write; nothing may be invented, though.
		if _, err := trace.CheckRecovered(l, 0, trace.Units()); err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	})
}
