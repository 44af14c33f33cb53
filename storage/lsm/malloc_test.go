//go:build linux && cgo && !race

package lsm

import (
	"encoding/binary"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

// foreignBytes is the memory of the process that is not Go's. The race detector's own memory would count, hence the build tag.
func foreignBytes(t *testing.T) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Skip("this kernel does not tell")
	}
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return kilobytes<<10 - int64(m.Sys-m.HeapReleased)
}

// TestMemtablesAreGivenBack: what memtables took of C's memory does not stay with the process.
func TestMemtablesAreGivenBack(t *testing.T) {
	before := foreignBytes(t)
	e, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 1000)
	for i := range 20_000 {
		b := e.NewBatch()
		for k := range 10 {
			b.Set(binary.BigEndian.AppendUint64([]byte("r"), uint64(10*i+k)), value)
		}
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if left := foreignBytes(t) - before; left > 8<<20 {
		t.Errorf("%d bytes that are not Go's are left of an engine that is closed", left)
	}
}
