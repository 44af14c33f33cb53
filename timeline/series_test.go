package timeline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// TestScenarios runs the texts in testdata.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s Series
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := new(strings.Builder)
			for line := range strings.Lines(d.Input) {
				var revision kv.Revision
				var at Time
				switch d.Cmd {
				case "tick": // REVISION TIME: what the leader knows, and its clock
					if _, err := fmt.Sscan(line, &revision, &at); err != nil {
						t.Fatal(err)
					}
					p, ok := Following(s.Last(), revision, at)
					if !ok {
						fmt.Fprintf(out, "revision %d has a point\n", revision)
						continue
					}
					s, _ = s.Add(p)
					fmt.Fprintf(out, "revision %d at %d\n", p.Revision, p.Time)
				case "compact":
					if _, err := fmt.Sscan(line, &revision); err != nil {
						t.Fatal(err)
					}
					s = s.From(revision)
					fmt.Fprintf(out, "%v\n", s.Points())
				case "at":
					if _, err := fmt.Sscan(line, &at); err != nil {
						t.Fatal(err)
					}
					if p, ok := s.At(at); ok {
						fmt.Fprintf(out, "at %d: revision %d\n", at, p.Revision)
					} else {
						fmt.Fprintf(out, "at %d: nothing is known\n", at)
					}
				case "when":
					if _, err := fmt.Sscan(line, &revision); err != nil {
						t.Fatal(err)
					}
					after, by, known := s.When(revision)
					fmt.Fprintf(out, "revision %d: after %d, by %d, %v\n", revision, after, by, known)
				}
			}
			return out.String()
		})
	})
	if files, err := os.ReadDir("testdata"); err != nil || len(files) == 0 {
		t.Error(files, err)
	}
}

// stupid keeps points in a list, and looks at each of them.
type stupid []Point

func (l stupid) at(t Time) (found Point, ok bool) {
	for _, p := range l {
		if p.Time <= t {
			found, ok = p, true
		}
	}
	return found, ok
}

func (l stupid) when(revision kv.Revision) (after, by Time, known bool) {
	for _, p := range l {
		if p.Revision >= revision {
			return after, p.Time, true
		}
		after = p.Time
	}
	return after, 0, false
}

// TestTwin compares a series with a list, under clocks that jump and compactions, and looks whether what a reader has stays as it was.
func TestTwin(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		var s Series
		var list stupid
		revision, now := kv.Revision(1), Time(1000)
		type held struct {
			series Series
			points []Point
		}
		var readers []held
		for range 300 {
			revision += kv.Revision(random.IntN(3))
			if now += Time(random.IntN(2000)); random.IntN(10) == 0 {
				now += Time(random.IntN(60000) - 40000)
			}
			if p, ok := Following(s.Last(), revision, now); ok {
				s, _ = s.Add(p)
				list = append(list, p)
			}
			if random.IntN(20) == 0 {
				from := kv.Revision(random.Int64N(int64(revision)))
				s = s.From(from)
				list = slices.DeleteFunc(slices.Clone(list), func(p Point) bool { return p.Revision < from })
			}
			if random.IntN(20) == 0 {
				readers = append(readers, held{s, slices.Clone(s.Points())})
			}
			if !slices.Equal(s.Points(), []Point(list)) {
				t.Fatalf("seed %d: %v, want %v", seed, s.Points(), list)
			}
			at, rev := now+Time(random.IntN(20000)-15000), kv.Revision(random.Int64N(int64(revision)+3))
			got, ok := s.At(at)
			want, wanted := list.at(at)
			if got != want || ok != wanted {
				t.Fatalf("seed %d: at %d %v %v, want %v", seed, at, got, ok, want)
			}
			after, by, known := s.When(rev)
			wantAfter, wantBy, wantKnown := list.when(rev)
			if after != wantAfter || by != wantBy || known != wantKnown {
				t.Fatalf("seed %d: revision %d: %d %d %v, want %d %d", seed, rev, after, by, known, wantAfter, wantBy)
			}
			for i := 1; i < len(list); i++ {
				if list[i].Revision <= list[i-1].Revision || list[i].Time < list[i-1].Time {
					t.Fatalf("seed %d: %v", seed, list)
				}
			}
			if up := s.UpTo(rev).Points(); len(up) > 0 && up[len(up)-1].Revision > rev || len(up)+len(s.From(rev+1).Points()) != len(list) {
				t.Fatalf("seed %d: up to %d: %v", seed, rev, up)
			}
		}
		for _, r := range readers {
			if !slices.Equal(r.series.Points(), r.points) {
				t.Fatalf("seed %d: what a reader has has changed", seed)
			}
		}
	}
}

// TestThin: a series that has too many points loses some, says which, and what is left is as before: all new ones, and old ones that are further apart the
// older they are. Where all times are one the clock says nothing, and the number is bounded all the same.
func TestThin(t *testing.T) {
	for _, seconds := range []Time{1, 60, 0} {
		var s Series
		all := map[kv.Revision]Time{}
		const many = 4 * MaxPoints
		for i := range many {
			p := Point{Revision: kv.Revision(i + 1), Time: 1 + 1000*seconds*Time(i)}
			var dropped []kv.Revision
			if s, dropped = s.Add(p); len(dropped) > MaxDropped {
				t.Fatalf("%d points are dropped at once", len(dropped))
			}
			all[p.Revision] = p.Time
			for _, revision := range dropped {
				delete(all, revision)
			}
			if len(s.Points()) > MaxPoints {
				t.Fatalf("%d points", len(s.Points()))
			}
		}
		points := s.Points()
		if len(points) != len(all) || s.First().Revision != 1 || s.Last().Revision != many {
			t.Fatalf("%d points from %v to %v, %d were left", len(points), s.First(), s.Last(), len(all))
		}
		for i, p := range points {
			if all[p.Revision] != p.Time {
				t.Fatalf("%v is there, and was dropped", p)
			}
			if age := many - p.Revision; i > 0 && seconds == 1 && points[i].Revision-points[i-1].Revision > 2+4*age/fineness {
				t.Fatalf("%v follows on %v, and is %d s old", p, points[i-1], age)
			}
		}
		if seconds > 0 && len(points) > MaxPoints/10*9 {
			t.Errorf("%d points, %d s apart, are left of %d", len(points), seconds, many)
		}
		if again, dropped := s.Add(Point{Revision: 7, Time: 7000}); len(dropped) > 0 || len(again.Points()) != len(points) {
			t.Error("a point that is there already is added again")
		}
	}
}

// TestThinAfterRestart: which points are dropped depends on nothing but those that are there, so a node that has read them from its disk drops the same.
func TestThinAfterRestart(t *testing.T) {
	var s, restarted Series
	drops := 0
	for i := range manyPoints + 3000 {
		p := Point{Revision: kv.Revision(3 * i), Time: Time(1000*i) + 1}
		if i%997 == 0 {
			restarted = SeriesOf(s.Points())
		}
		var dropped, again []kv.Revision
		s, dropped = s.Add(p)
		restarted, again = restarted.Add(p)
		if drops += len(dropped); !slices.Equal(dropped, again) {
			t.Fatalf("%v drops %v, and after a restart %v", p, dropped, again)
		}
	}
	if drops == 0 || !slices.Equal(s.Points(), restarted.Points()) {
		t.Errorf("%d points are dropped, %d are left, and %d after restarts", drops, len(s.Points()), len(restarted.Points()))
	}
}

func TestJoin(t *testing.T) {
	a := SeriesOf([]Point{{2, 1000}, {5, 3000}})
	b := SeriesOf([]Point{{4, 2000}, {5, 2500}, {9, 2900}, {12, 4000}})
	if got := Join(a, b).Points(); !slices.Equal(got, []Point{{2, 1000}, {5, 3000}, {9, 3000}, {12, 4000}}) || len(a.Points()) != 2 {
		t.Errorf("%v, %v", got, a.Points())
	}
}

// Of what is joined nothing is dropped, as long as it is no more than a series has; then it is thinned, and bounded even if the times say nothing.
func TestJoinMany(t *testing.T) {
	for _, seconds := range []Time{1, 0} {
		var first, second []Point
		for i := range kv.Revision(MaxPoints) {
			first = append(first, Point{1 + i, 1 + 1000*seconds*Time(i)})
			second = append(second, Point{1 + MaxPoints + i, 1 + 1000*seconds*Time(MaxPoints+i)})
		}
		if got := Join(SeriesOf(first[:1000]), SeriesOf(first[1000:])).Points(); !slices.Equal(got, first) {
			t.Fatalf("%d points are left of %d", len(got), len(first))
		}
		joined := Join(SeriesOf(first), SeriesOf(second))
		if n := len(joined.Points()); n > MaxPoints || joined.First() != first[0] || joined.Last() != second[len(second)-1] || seconds > 0 && n < 1000 {
			t.Errorf("%d points, from %v to %v", n, joined.First(), joined.Last())
		}
	}
}

func FuzzDecodePoints(f *testing.F) {
	f.Add(AppendPoints(nil, []Point{{2, 1000}, {5, 1000}, {900, 1 << 40}}))
	f.Add([]byte{0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		points, err := DecodePoints(b)
		if err != nil {
			return
		}
		if s := SeriesOf(points); !slices.Equal(s.Points(), points) {
			t.Fatalf("%v became %v", points, s.Points())
		}
		again, err := DecodePoints(AppendPoints(nil, points))
		if err != nil || !slices.Equal(again, points) {
			t.Fatalf("%v became %v, %v", points, again, err)
		}
		if canonical := AppendPoints(nil, points); len(canonical) > len(b) || len(canonical) == len(b) && !bytes.Equal(canonical, b) {
			t.Fatalf("%x became %x", b, canonical)
		}
	})
}
