package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// TestScrubOfRandomLogs: whatever was written, given up and used again, also while a pass goes on: a pass finds nothing to complain of.
func TestScrubOfRandomLogs(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := mustOpen(t, tiny(vfs.NewCrashableMem()))
		trace := storagetest.NewLogTrace(l, random)
		pass, passes := l.NewScrub(), 0
		for range 1500 {
			if err := trace.Step(); err != nil {
				t.Fatal(err)
			}
			if random.IntN(3) > 0 {
				continue
			}
			_, done, err := pass.Next(1 + random.IntN(9000))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if done {
				pass, passes = l.NewScrub(), passes+1
			}
		}
		if passes < 3 {
			t.Errorf("seed %d: only %d passes", seed, passes)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := pass.Next(1); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// TestScrubFindsEveryFlippedBit flips bits all over the segments that are needed.
func TestScrubFindsEveryFlippedBit(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, tiny(fs))
	defer l.Close()
	for index := consensus.Index(1); index <= 60; index++ {
		data := bytes.Repeat([]byte{byte(index)}, 700)
		if err := l.Write([]storage.GroupAppend{{Group: 1, Entries: []consensus.Entry{{Index: index, Term: 1, Data: data}}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	read, pieces, err := storagetest.ScrubAll(t, l.NewScrub(), 1000)
	if size := l.NewScrub().SizeBytes(); err != nil || read < size || pieces < len(l.segments)*2 || len(l.segments) < 3 {
		t.Fatalf("%d of %d bytes in %d pieces of %d segments: %v", read, size, pieces, len(l.segments), err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		s := l.segments[random.IntN(len(l.segments))]
		at := random.Int64N(s.end)
		if at >= 24 && at < headerBytes || padding(t, s, at) {
			continue // means nothing
		}
		flip(t, s, at)
		if _, _, err := storagetest.ScrubAll(t, l.NewScrub(), 1000); !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("a bit was flipped at offset %d of %s: %v", at, s.path, err)
		}
		flip(t, s, at)
	}
	if _, _, err := storagetest.ScrubAll(t, l.NewScrub(), 1000); err != nil {
		t.Fatal(err)
	}
}

// padding tells whether the byte fills a record up.
func padding(t *testing.T, s *segment, at int64) bool {
	for offset := int64(headerBytes); offset < s.end; {
		header := make([]byte, recordHeaderBytes)
		if err := readFull(s.file, header, offset); err != nil {
			t.Fatal(err)
		}
		_, payload, _ := plausible(header, s.end)
		next := offset + recordBytes(payload)
		if at < next {
			return at >= offset+recordHeaderBytes+int64(payload)
		}
		offset = next
	}
	return false
}

func flip(t *testing.T, s *segment, at int64) {
	t.Helper()
	one := make([]byte, 1)
	if err := readFull(s.file, one, at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := s.file.WriteAt(one, at); err != nil {
		t.Fatal(err)
	}
}

// TestScrubOfLargeRecords: a record may be larger than a piece.
func TestScrubOfLargeRecords(t *testing.T) {
	l := mustOpen(t, tiny(vfs.NewMem()))
	defer l.Close()
	for index := consensus.Index(1); index <= 5; index++ {
		data := bytes.Repeat([]byte{byte(index)}, 3*windowBytes/2*int(index%2)+10)
		if err := l.Write([]storage.GroupAppend{{Group: 1, Entries: []consensus.Entry{{Index: index, Term: 1, Data: data}}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if read, _, err := storagetest.ScrubAll(t, l.NewScrub(), 1); err != nil || read < 4*windowBytes {
		t.Errorf("%d bytes: %v", read, err)
	}
}

// TestScrubBesideWrites is for the race detector: segments are given up and used again while they are read.
func TestScrubBesideWrites(t *testing.T) {
	o := tiny(vfs.NewMem())
	o.Inline = false
	l := mustOpen(t, o)
	found := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		pass := l.NewScrub()
		for {
			_, done, err := pass.Next(3000)
			select {
			case <-stop:
				found <- err
				return
			default:
			}
			if err != nil {
				found <- err
				return
			}
			if done {
				pass = l.NewScrub()
			}
		}
	}()
	for index := consensus.Index(1); index <= 2000; index++ {
		if err := l.Write([]storage.GroupAppend{{Group: 1, Entries: []consensus.Entry{{Index: index, Term: 1, Data: make([]byte, 500)}}}}, nil); err != nil {
			t.Fatal(err)
		}
		if index%20 == 0 {
			if err := errors.Join(l.Sync(), l.Compact(1, index-10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	if err := errors.Join(<-found, l.Close()); err != nil {
		t.Fatal(err)
	}
}
