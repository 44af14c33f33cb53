package backup

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// stupidStates are the keys that live at a revision.
func (s *store) stateAt(revision kv.Revision) map[string]*Version {
	state := map[string]*Version{}
	for _, v := range s.history {
		switch {
		case v.ModRevision > revision:
		case v.Version == 0:
			delete(state, string(v.Key))
		default:
			state[string(v.Key)] = v
		}
	}
	return state
}

// stupidDiff compares two maps.
func stupidDiff(a, b map[string]*Version) (list []string, d Differences) {
	add := func(to *Amount, v *Version) {
		to.Keys++
		to.Bytes += int64(len(v.Key) + len(v.Value))
	}
	line := func(key string, a, b *Version) {
		side := func(v *Version) string {
			if v == nil {
				return "-"
			}
			return fmt.Sprintf("%d v%d %d", v.ModRevision, v.Version, len(v.Value))
		}
		list = append(list, fmt.Sprintf("%s\t%s / %s", key, side(a), side(b)))
	}
	for key, v := range a {
		if add(&d.A, v); b[key] == nil {
			add(&d.Removed, v)
			line(key, v, nil)
		}
	}
	for key, v := range b {
		add(&d.B, v)
		switch {
		case a[key] == nil:
			add(&d.Added, v)
			line(key, nil, v)
		case a[key] != v:
			add(&d.Changed, v)
			line(key, a[key], v)
		default:
			add(&d.Same, v)
		}
	}
	slices.Sort(list)
	return list, d
}

func listed(list *[]string) func(*Difference) error {
	return func(d *Difference) error {
		side := func(s Side) string {
			if s == (Side{}) {
				return "-"
			}
			return fmt.Sprintf("%d v%d %d", s.Revision, s.Version, s.Bytes)
		}
		*list = append(*list, fmt.Sprintf("%s\t%s / %s", d.Key, side(d.A), side(d.B)))
		return nil
	}
}

// TestDiff compares each pair of a chain's backups, in both directions, and with a prefix, with what maps say.
func TestDiff(t *testing.T) {
	for seed := range uint64(6) {
		s := newStore(seed, 1+int(seed)%3)
		s.write(30)
		v := vaultOf(memory.New())
		s.compact(s.revision - 10)
		must[*Backup](t)(v.Create(t.Context(), s, oneByOne))
		for range 2 {
			s.write(int(1 + seed*5))
			must[*Backup](t)(v.Create(t.Context(), s, incrementally(oneByOne)))
		}
		all := must[[]*Backup](t)(v.List(t.Context()))
		for _, a := range all {
			for _, b := range all {
				for _, prefix := range []string{"", "b/"} {
					source := func(b *Backup) *Source {
						chain := must[[]*Backup](t)(Chain(all, b))
						return must[*Source](t)(v.Source(t.Context(), chain, b.Revision, []byte(prefix)))
					}
					state := func(b *Backup) map[string]*Version {
						state := s.stateAt(b.Revision)
						for key := range state {
							if !bytes.HasPrefix([]byte(key), []byte(prefix)) {
								delete(state, key)
							}
						}
						return state
					}
					var got []string
					d := must[Differences](t)(Diff(t.Context(), source(a), source(b), storage.NewMemory(storage.MemoryOptions{}), listed(&got)))
					list, want := stupidDiff(state(a), state(b))
					if d != want || !slices.Equal(got, list) {
						t.Fatalf("seed %d, %d to %d, prefix %q:\n%v\n%v\nwant\n%v\n%v", seed, a.Revision, b.Revision, prefix, got, d, list, want)
					}
					if a == b && (d.Same != d.A || len(got) > 0) {
						t.Errorf("a backup differs from itself: %v", got)
					}
				}
			}
		}
	}
}

func FuzzDecodeLatest(f *testing.F) {
	f.Add((&latestInfo{mod: 7, create: 3, number: 2, valueBytes: 9, sum: 1 << 60, hash: 4}).append(nil))
	f.Fuzz(func(t *testing.T, row []byte) {
		i, err := decodeLatest(row)
		if err != nil {
			return
		}
		again, err := decodeLatest(i.append(nil))
		if err != nil || *again != *i {
			t.Fatalf("%+v became %+v, %v", i, again, err)
		}
	})
}
