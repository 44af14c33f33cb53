package trail

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/kv"
)

func record(i int) Record {
	return Record{Time: time.Unix(0, int64(i)), Proof: "none", Client: "c", Operation: "Put", Keys: []kv.Span{{Start: []byte(fmt.Sprint("key", i))}}, Outcome: "OK"}
}

// TestLine is what people and programs read.
func TestLine(t *testing.T) {
	r := Record{Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Principal: "ann", Proof: "certificate", Certificate: "ann", Client: "10.0.0.1:7", Operation: "Txn",
		Keys:     []kv.Span{{Start: []byte("a\n\"")}, {Start: []byte{0xff}, End: []byte{0}}, {Start: []byte("a"), End: []byte("b")}, {Start: []byte("a"), End: []byte{0xfe}}},
		MoreKeys: 2, Revision: 9, Outcome: "OK"}
	const want = `{"time":"2026-01-02T03:04:05.000000006Z","node":"n1","principal":"ann","proof":"certificate","certificate":"ann","client":"10.0.0.1:7","operation":"Txn",` +
		`"keys":[{"key":"a\n\""},{"key_base64":"/w==","to_last":true},{"key":"a","end":"b"},{"key":"a","end_base64":"/g=="}],"more_keys":2,"revision":9,"outcome":"OK"}` + "\n"
	if got := string(r.appendLine(nil, "n1")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// disk is full, or not. It takes a part of a line before it says so.
type disk struct {
	mu   sync.Mutex
	full bool
	text strings.Builder
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.full {
		return d.text.Write(p)
	}
	n := min(len(p)-1, 3)
	d.text.Write(p[:n])
	return n, errors.New("no space left on device")
}

func (d *disk) Close() error { return nil }

func (d *disk) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// TestFullDisk: records wait for the disk, as many as there is room for, and come in order when it takes them again. Each whole line is one record.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{full: true}
		var told []string
		trail, err := Open(Options{Node: "n1", open: func() (io.WriteCloser, error) { return d, nil },
			Failed: func(err error) { told = append(told, err.Error()) }, Recovered: func(n int64) { told = append(told, fmt.Sprint("recovered, dropped ", n)) }})
		if err != nil {
			t.Fatal(err)
		}
		taken := 0
		for i := range maxQueued + 10 {
			if trail.Reserve() {
				taken++
				trail.Put(record(i))
			} else {
				trail.Drop()
			}
		}
		if m := trail.Metrics(); taken != maxQueued || m.Dropped != 10 || m.Queued != maxQueued {
			t.Errorf("%d records were taken, %+v", taken, m)
		}
		time.Sleep(time.Second)
		d.fill(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if !trail.Reserve() {
			t.Error("no room although all is written")
		}
		trail.Put(record(maxQueued))
		if err := trail.Close(); err != nil {
			t.Fatal(err)
		}
		next := 0
		for line := range strings.Lines(d.text.String()) {
			var l struct{ Keys []span }
			if json.Unmarshal([]byte(line), &l) != nil {
				continue // torn
			}
			if want := fmt.Sprint("key", next); l.Keys[0].Key != want {
				t.Fatalf("got %s, want %s", l.Keys[0].Key, want)
			}
			next++
		}
		if next != maxQueued+1 {
			t.Errorf("%d records", next)
		}
		if want := "[no space left on device recovered, dropped 10]"; fmt.Sprint(told) != want {
			t.Errorf("told %v", told)
		}
	})
}

// TestCloseOnFullDisk: a node that ends does not wait for space.
func TestCloseOnFullDisk(t *testing.T) {
	trail, err := Open(Options{open: func() (io.WriteCloser, error) { return &disk{full: true}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		trail.Reserve()
		trail.Put(record(i))
	}
	if err := trail.Close(); err != nil || trail.Metrics().Dropped != 5 {
		t.Errorf("%v, %+v", err, trail.Metrics())
	}
}

// TestRotation: as many files as may be, each of whole lines and not too long, and together the newest records in order; also over restarts and half rotations.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	const files, bytes = 4, 1000
	for start := 0; start < 100; start += 20 {
		trail, err := Open(Options{To: path, Node: "n1", MaxFileBytes: bytes, MaxFiles: files})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			trail.Reserve()
			trail.Put(record(start + i))
		}
		if err := trail.Close(); err != nil {
			t.Fatal(err)
		}
		if start == 40 { // a crash in the middle of a rotation: a name is free
			if err := os.Rename(path+".2", path+".3"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var all []string
	for i := files - 1; i >= 0; i-- {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		text, err := os.ReadFile(name)
		if err != nil || len(text) > bytes || text[len(text)-1] != '\n' {
			t.Fatalf("%s: %v, %d bytes", name, err, len(text))
		}
		for line := range strings.Lines(string(text)) {
			var l struct{ Keys []span }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			all = append(all, l.Keys[0].Key)
		}
	}
	for i, key := range all {
		if want := fmt.Sprint("key", 100-len(all)+i); key != want {
			t.Fatalf("record %d of %d is of %s, want %s", i, len(all), key, want)
		}
	}
	if len(all) < 3*bytes/200 {
		t.Errorf("only %d records are left", len(all))
	}
	if others, err := filepath.Glob(path + "*"); err != nil || len(others) != files {
		t.Errorf("%v, %v", others, err)
	}
}

func TestOpenFails(t *testing.T) {
	if _, err := Open(Options{To: filepath.Join(t.TempDir(), "missing", "log")}); err == nil || !strings.Contains(err.Error(), "--audit-log=") {
		t.Error(err)
	}
}
