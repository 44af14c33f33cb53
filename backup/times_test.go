package backup

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
	"github.com/quoratedb/quorate/timeline/calendar"
)

// timed is a store with a point for each third revision, from where it is compacted on: at as many seconds as its number.
type timed struct{ hashing }

func (s *timed) points() (points []timeline.Point) {
	for revision := max(1, s.compacted); revision <= s.revision; revision++ {
		if revision%3 == 0 {
			points = append(points, timeline.Point{Revision: revision, Time: timeline.Time(revision * 1000)})
		}
	}
	return points
}

func (s *timed) Series(context.Context) (timeline.Series, error) {
	if s.fails {
		return timeline.Series{}, errors.New("no answer")
	}
	return timeline.SeriesOf(s.points()), nil
}

// TestRevisionAt asks a chain for times, and compares with what a list of all points says, and of all backups.
func TestRevisionAt(t *testing.T) {
	for seed := range uint64(6) {
		s := &timed{hashing{store: newStore(seed, 2)}}
		v := vaultOf(memory.New())
		options := oneByOne
		if seed%2 == 0 {
			identity := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
			options.Recipients, v.options.Identities = []age.Recipient{identity.Recipient()}, []age.Identity{identity}
		}
		if _, err := v.RevisionAt(t.Context(), nil, time.Unix(5, 0)); !errors.Is(err, ErrNotCovered) {
			t.Error(err)
		}
		s.write(30)
		s.compact(11)
		var taken, points []timeline.Point
		for i := range 3 {
			s.fails = i == 1 // this one has no times
			o := options
			o.Incremental = i > 0
			must[*Backup](t)(v.Create(t.Context(), s, o))
			taken = append(taken, timeline.Point{Revision: s.revision, Time: timeline.Time(s.revision * 1000)})
			for _, p := range s.points() {
				if !s.fails && (i == 0 || p.Revision > taken[i-1].Revision) {
					points = append(points, p)
				}
			}
			s.write(11)
		}
		all := must[[]*Backup](t)(v.List(t.Context()))
		random := rand.New(rand.NewPCG(seed, 1))
		for range 200 {
			at := timeline.Time(random.IntN(80_000))
			want := kv.Revision(0)
			for _, p := range append(points[:len(points):len(points)], taken...) {
				if p.Time <= at {
					want = max(want, p.Revision)
				}
			}
			got, err := v.RevisionAt(t.Context(), all, calendar.Of(at))
			if got != want || (err != nil) != (want == 0) || err != nil && (!errors.Is(err, ErrNotCovered) || !strings.Contains(err.Error(), "times from 1970-01-01T00:00:12Z on are")) {
				t.Fatalf("seed %d: at %d revision %d, want %d: %v", seed, at, got, want, err)
			}
		}
		if wrong := verifyAll(t, v); len(wrong) > 0 {
			t.Error(wrong)
		}
		objects := v.target.(*memory.Target)
		for name := range list(t, objects) {
			if !strings.Contains(name, "/times-") {
				continue
			}
			flip := func(data []byte) []byte { data[len(data)/2] ^= 4; return data }
			objects.Damage(name, flip)
			if wrong := verifyAll(t, v); len(wrong) == 0 {
				t.Errorf("%s is damaged, and nobody sees it", name)
			}
			objects.Damage(name, flip)
		}
	}
}

// FuzzTimesFile: whatever a file with times has is read to its end, or is damaged.
func FuzzTimesFile(f *testing.F) {
	w := newFileWriter()
	w.addTimes([]timeline.Point{{Revision: 2, Time: 1000}, {Revision: 5, Time: 1000}})
	w.addTimes([]timeline.Point{{Revision: 7, Time: 2000}})
	content, _ := w.finish()
	f.Add(content)
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := newFileReader(bytes.NewReader(in), int64(len(in)), 0)
		if err == nil {
			_, err = r.times()
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
			t.Fatal(err)
		}
	})
}
