package membership

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// What one mark says about another. Each process of a disk begins above everything that was heard of those before, unless the disk went back.
func TestMarksContinue(t *testing.T) {
	processes := func(numbers ...uint64) (all []Process) {
		for i := 0; i < len(numbers); i += 2 {
			all = append(all, Process{numbers[i], numbers[i+1]})
		}
		return all
	}
	known := Mark{Disk: 7, Position: 60, Processes: processes(1, 100, 40, 101)}
	for _, c := range []struct {
		name string
		m    Mark
		want bool
	}{
		{"the same", known, true},
		{"the same process, later", Mark{Disk: 7, Position: 61, Processes: known.Processes}, true},
		{"the same process, earlier", Mark{Disk: 7, Position: 59, Processes: known.Processes}, false},
		{"the next process", Mark{Disk: 7, Position: 61, Processes: processes(1, 100, 40, 101, 61, 102)}, true},
		{"two processes later", Mark{Disk: 7, Position: 90, Processes: processes(40, 101, 61, 102, 90, 103)}, true},
		{"many processes later", Mark{Disk: 7, Position: 90, Processes: processes(61, 102, 90, 103)}, true},
		{"an image of the same process", Mark{Disk: 7, Position: 55, Processes: processes(1, 100, 40, 101, 55, 102)}, false},
		{"such an image that has written more since", Mark{Disk: 7, Position: 500, Processes: processes(1, 100, 40, 101, 55, 102)}, false},
		{"such an image that was started again since", Mark{Disk: 7, Position: 500, Processes: processes(1, 100, 40, 101, 55, 102, 400, 103)}, false},
		{"an image of the process before", Mark{Disk: 7, Position: 500, Processes: processes(1, 100, 30, 102, 80, 103)}, false},
		{"a copy that was started at the same moment", Mark{Disk: 7, Position: 60, Processes: processes(1, 100, 40, 102)}, false},
		{"another disk", Mark{Disk: 8, Position: 500, Processes: processes(61, 101)}, false},
	} {
		if got := c.m.Continues(&known); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func FuzzDecodeMarks(f *testing.F) {
	m := Mark{Disk: 7, Position: 60, Processes: []Process{{1, 100}, {40, 101}}}
	f.Add(AppendMarks(nil, []NodeMark{{1, m}, {2, m}}))
	f.Add([]byte{1, 7, 60, 0})
	f.Add(bytes.Repeat([]byte{1}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := DecodeMarks(b)
		if err != nil {
			return
		}
		second, err := DecodeMarks(AppendMarks(nil, all))
		if err != nil || !reflect.DeepEqual(all, second) {
			t.Fatalf("%+v became %+v: %v", all, second, err)
		}
		for _, m := range all {
			if !m.Continues(&m.Mark) {
				t.Fatalf("%+v does not continue itself", m)
			}
		}
	})
}

// TestTwoVersionsInOneRound: a process that does not say who it is speaks, and one that does takes its place in the same round. Nobody knows which of
// the two a word of a leader came from.
func TestTwoVersionsInOneRound(t *testing.T) {
	k := marks{heard: map[kv.NodeID]uint64{}}
	k.hears(2, 0)
	k.hears(2, 8)
	k.hears(3, 9)
	k.hears(3, 9)
	if k.heard[2] != 0 || k.heard[3] != 9 {
		t.Fatalf("taken for the leader: process %d of node 2, process %d of node 3", k.heard[2], k.heard[3])
	}
}
