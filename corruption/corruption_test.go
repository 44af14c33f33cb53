package corruption

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// TestScenarios plays testdata: "judge nodes=3 1=a 2=a 3=b" judges what the nodes answered; those without a hash did not answer.
func TestScenarios(t *testing.T) {
	datadriven.RunTest(t, "testdata/judge.txt", func(t *testing.T, d *datadriven.TestData) string {
		nodes := 0
		d.ScanArgs(t, "nodes", &nodes)
		var hashes []Hash
		for _, arg := range d.CmdArgs[1:] {
			node, err := strconv.Atoi(arg.Key)
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, Hash{Node: kv.NodeID(node), Sum: uint64(arg.Vals[0][0])})
		}
		return render(Judge(nodes, hashes))
	})
}

func render(v Verdict) string {
	out := []string{"all have the same"}
	switch {
	case v.Undecided:
		out = []string{"they differ, and nobody knows who is wrong"}
	case len(v.Wrong) > 0:
		out = []string{fmt.Sprint("wrong:", v.Wrong)}
	}
	if !v.Complete {
		out = append(out, "not all have answered")
	}
	return strings.Join(out, "; ")
}

// naive asks of every pair of nodes.
func naive(nodes int, hashes []Hash) Verdict {
	v := Verdict{Complete: len(hashes) == nodes}
	majority, differ := -1, false
	for i, a := range hashes {
		same := 0
		for _, b := range hashes {
			if a.Sum == b.Sum {
				same++
			} else {
				differ = true
			}
		}
		if 2*same > nodes {
			majority = i
		}
	}
	if v.Undecided = differ && majority < 0; differ && majority >= 0 {
		for _, h := range hashes {
			if h.Sum != hashes[majority].Sum {
				v.Wrong = append(v.Wrong, h.Node)
			}
		}
		slices.SortFunc(v.Wrong, cmp.Compare)
	}
	return v
}

func TestJudgeTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		nodes := 1 + r.IntN(7)
		var hashes []Hash
		for _, node := range r.Perm(nodes)[:r.IntN(nodes+1)] {
			hashes = append(hashes, Hash{Node: kv.NodeID(1 + node), Sum: uint64(r.IntN(3))})
		}
		got, want := Judge(nodes, hashes), naive(nodes, hashes)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%d nodes, %v: got %+v, want %+v", nodes, hashes, got, want)
		}
		for _, h := range hashes {
			if got.Accuses(h.Node) && !got.Differ() {
				t.Fatalf("%d nodes, %v: %v is accused of nothing", nodes, hashes, h.Node)
			}
		}
	}
}

func frames() [][]byte {
	return [][]byte{
		Question{Instance: 1<<63 + 5, ID: 7, Shard: 3, Revision: 1 << 40, Compacted: 9}.Append(nil),
		Question{Instance: 1, Shard: 1}.Append(nil),
		Answer{Instance: 1<<63 + 5, ID: 7, State: Hashed, Sum: 1<<64 - 1, Compacted: 9}.Append(nil),
		Answer{Instance: 1, ID: 7, State: Ahead, Compacted: 1 << 40}.Append(nil),
		Answer{Instance: 1, ID: 1 << 63, State: NotReady}.Append(nil),
	}
}

func TestFramesAreRefused(t *testing.T) {
	bad := [][]byte{nil, {0}, {3, 1, 2, 3, 4, 5, 6, 7, 8, 0},
		Question{Instance: 1, Revision: 5}.Append(nil), Question{Instance: 1, Shard: 1, Compacted: 5}.Append(nil), Answer{State: states}.Append(nil)}
	for _, f := range frames() {
		for i := range f {
			bad = append(bad, f[:i])
		}
		bad = append(bad, append(bytes.Clone(f), 0))
	}
	for _, f := range bad {
		if q, a, err := Decode(f); err == nil {
			t.Errorf("%x was taken for %+v, %+v", f, q, a)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, frame := range frames() {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		q, a, err := Decode(in)
		if err != nil {
			return
		}
		var out []byte
		if (q == nil) == (a == nil) {
			t.Fatal("a frame is one of the two")
		} else if q != nil {
			out = q.Append(nil)
		} else {
			out = a.Append(nil)
		}
		q2, a2, err := Decode(out)
		if err != nil || !reflect.DeepEqual(q, q2) || !reflect.DeepEqual(a, a2) {
			t.Fatalf("%x became %x: %v", in, out, err)
		}
	})
}
