package mvcc

import (
	"bytes"
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// FuzzRows decodes anything without panic; what it accepts it writes the same way, up to
// the length of varints.
func FuzzRows(f *testing.F) {
	e := Effect{
		Key: []byte("key"), Value: []byte("value"), At: Locator{7, 1}, Create: 5, Version: 3, Lease: -9,
		Prev: Locator{6, 0}, PrevLive: true,
	}
	at := keys.AppendVersion(nil, 1, e.At.Rev, e.At.Sub)
	f.Add(appendVersionRow(nil, &e, false), at)
	f.Add(appendVersionRow(nil, &e, true), keys.AppendVersionValue(nil, 1, e.At.Rev, e.At.Sub))
	f.Add(appendLatestRow(nil, latest{e.Meta(), e.Prev}, 7), at)
	f.Add(appendValueRow(nil, e.At, e.Value), at)
	f.Add([]byte{0, 1, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, at[:5])
	f.Fuzz(func(t *testing.T, row, key []byte) {
		at, _, err := parseVersionKey(key)
		checkCorrupt(t, err)
		v, err := parseVersionRow(at, row)
		if checkCorrupt(t, err); err == nil {
			e := v.effect()
			if v.byKey {
				e.Value = make([]byte, min(v.valueLen, 1<<20))
			}
			again, err := parseVersionRow(at, appendVersionRow(nil, e, v.byKey))
			if err != nil || !sameEffect(*again.effect(), *v.effect()) || again.byKey != v.byKey || v.valueLen < 1<<20 && again.valueLen != v.valueLen {
				t.Fatalf("version %+v became %+v: %v", v, again, err)
			}
		}
		l, flush, err := parseLatestRow(key, row)
		if checkCorrupt(t, err); err == nil {
			if again, number, err := parseLatestRow(key, appendLatestRow(nil, l, flush)); err != nil || again != l || number != flush {
				t.Fatalf("latest row %+v became %+v: %v", l, again, err)
			}
		}
		of, value, err := parseValueRow(key, row)
		if checkCorrupt(t, err); err == nil {
			again, value2, err := parseValueRow(key, appendValueRow(nil, of, value))
			if err != nil || again != of || !bytes.Equal(value, value2) {
				t.Fatalf("value row %+v %x became %+v %x: %v", of, value, again, value2, err)
			}
		}
		_, err = parseProgress(row)
		checkCorrupt(t, err)
	})
}

func checkCorrupt(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, storage.ErrCorrupt) {
		t.Fatalf("%v does not say that data is corrupt", err)
	}
}

// TestMissingVersion: a row that must be there and is not is an error, not an absent key.
func TestMissingVersion(t *testing.T) {
	engine := storage.NewMemory(storage.MemoryOptions{})
	s, err := Open(engine, Options{ByKeyBytes: -1}) // lists do not look at versions whose values are by key
	if err != nil {
		t.Fatal(err)
	}
	b := engine.NewBatch()
	s.Apply(b, []Effect{{Key: []byte("a"), Value: []byte("1"), At: Locator{Rev: 2}, Create: 2, Version: 1}}, 2)
	b.Delete(keys.AppendVersion(nil, 1, 2, 0))
	if err := engine.Apply(b); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get([]byte("a"), 0); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("get: %v", err)
	}
	for _, q := range []kv.RangeRequest{
		{Span: kv.Span{Start: []byte("a")}},
		{Span: kv.Span{Start: []byte("a"), End: []byte("b")}},
	} {
		if _, err := s.Range(&q, nil); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("range %+v: %v", q, err)
		}
	}
}

// TestApplyRefusesThePast: a revision that was seen never changes.
func TestApplyRefusesThePast(t *testing.T) {
	put := func(key string, rev kv.Revision, sub uint32) Effect {
		return Effect{Key: []byte(key), At: Locator{rev, sub}, Create: rev, Version: 1}
	}
	after := put("a", 7, 0)
	after.Prev = Locator{8, 0}
	for name, try := range map[string]struct {
		effects []Effect
		rev     kv.Revision
	}{
		"older than the newest": {[]Effect{put("a", 4, 0)}, 6},
		"the newest again":      {[]Effect{put("a", 5, 0)}, 6},
		"effect beyond":         {[]Effect{put("a", 7, 0)}, 6},
		"effects unsorted":      {[]Effect{put("b", 6, 1), put("c", 6, 0)}, 6},
		"effect twice":          {[]Effect{put("b", 6, 0), put("c", 6, 0)}, 6},
		"before the one before": {[]Effect{after}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			engine := storage.NewMemory(storage.MemoryOptions{})
			s, err := Open(engine, Options{Revision: 4})
			if err != nil {
				t.Fatal(err)
			}
			s.Apply(engine.NewBatch(), []Effect{put("a", 5, 0)}, 5)
			defer func() {
				if recover() == nil {
					t.Fatal("accepted")
				}
			}()
			s.Apply(engine.NewBatch(), try.effects, try.rev)
		})
	}
}

func TestOptions(t *testing.T) {
	if err := (Options{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	for _, o := range []Options{{Revision: -1}, {Revision: 4, Compacted: 5}, {Compacted: -1}, {BucketRows: -1}, {ChunkBytes: -1}} {
		if _, err := Open(storage.NewMemory(storage.MemoryOptions{}), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
