package wal

import (
	"math"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestScannerSkipsZeros: records that stand alone in a file full of zeros are all found, wherever they are in the window through which the
// file is read.
func TestScannerSkipsZeros(t *testing.T) {
	const generation, size = 3, 3*windowBytes + 512
	var want []int64
	content := make([]byte, size)
	for _, around := range []int64{headerBytes, windowBytes, 2*windowBytes + headerBytes, 3 * windowBytes} {
		for _, beside := range []int64{-80, 0, 80} {
			// 80 is two records of 40 bytes: each gap ends at another distance from the end of a window.
			at := max(headerBytes, around+beside-8*int64(len(want)))
			if len(want) > 0 && at < want[len(want)-1]+40 {
				continue
			}
			sealed := seal(make([]byte, recordHeaderBytes, 64), generation, record{sequence: uint64(len(want) + 1)})
			copy(content[at:], sealed)
			want = append(want, at)
		}
	}
	fs := vfs.NewMem()
	file, err := fs.Create("segment", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	var got []int64
	w := scanner{}
	s := &segment{file: file, path: "segment", size: size}
	err = w.each(s, generation, headerBytes, sequences{1, math.MaxUint64}, func(_ record, offset, _ int64) error {
		got = append(got, offset)
		return nil
	})
	if err != nil || !slices.Equal(got, want) || len(want) < 8 {
		t.Errorf("found records at %v, %v; they are at %v", got, err, want)
	}
	// A file shorter than it says ends the search.
	if at, err := w.skipZeros(&segment{file: file, path: "segment", size: size + 64}, size-recordHeaderBytes); err != nil || at < size {
		t.Errorf("behind the end of the file: offset %d, %v", at, err)
	}
}
