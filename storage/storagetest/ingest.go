package storagetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/storage"
)

func span(lower, upper string) storage.Span {
	return storage.Span{Lower: []byte(lower), Upper: []byte(upper)}
}

// spansOf are combinations that Ingest treats differently: one, two with others' keys between, touching, without any key.
var spansOf = [][]storage.Span{
	{span("k", "l")},
	{span("k10", "k30")},
	{span("k05", "k20"), span("k20", "k25")},
	{span("k00", "k10"), span("k40", "k50")},
	{span("a", "b"), span("k30", "k31"), span("z", "zz")},
}

func engineExportIngest(t *testing.T, open func(t *testing.T) EngineWorld) {
	for i, spans := range spansOf {
		for _, snapshotOpen := range []bool{false, true} {
			t.Run(fmt.Sprintf("spans %d, snapshot open %v", i, snapshotOpen), func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(i), 3))
				source := open(t)
				target := source.Other(t)
				from := fill(t, random, source.Engine)
				to := fill(t, random, target.Engine)

				files, exported := export(t, source, from, spans, random)
				if snapshotOpen {
					s := target.Engine.NewSnapshot()
					defer func(before EngineModel) {
						CheckReader(t, s, before)
						must(t, s.Close())
						closeEngine(t, target.Engine)
					}(maps.Clone(to))
				} else {
					defer closeEngine(t, target.Engine)
				}
				inspect(t, target.Engine, files, spans, exported)
				CheckReader(t, target.Engine, to)
				must(t, target.Engine.Ingest(t.Context(), files, spans))
				for _, s := range spans {
					to.deleteRange(s.Lower, s.Upper)
					for _, k := range exported.keys(s.Lower, s.Upper) {
						to[k] = exported[k]
					}
				}
				CheckReader(t, target.Engine, to)
				closeEngine(t, source.Engine)
			})
		}
	}
}

// inspect looks for keys in the files, and for one that is not there.
func inspect(t *testing.T, e storage.Engine, files []string, spans []storage.Span, exported EngineModel) {
	t.Helper()
	look := func(key string) (string, bool) {
		value, found, err := e.Inspect(t.Context(), files, spans, []byte(key))
		must(t, err)
		return string(value), found
	}
	for _, s := range spans {
		for i, key := range exported.keys(s.Lower, s.Upper) {
			if value, found := look(key); i%5 == 0 && (!found || value != exported[key]) {
				t.Errorf("the files hold %q under %q (%v), not %q", value, key, found, exported[key])
			}
		}
	}
	if value, found := look("k00-never-set"); found {
		t.Errorf("the files hold %q under a key that was never set", value)
	}
}

// fill applies random batches, some flushed, some not.
func fill(t *testing.T, random *rand.Rand, e storage.Engine) EngineModel {
	m := EngineModel{}
	for i := range 30 {
		b := e.NewBatch()
		for range 5 {
			RandomChange(random, b, m)
		}
		must(t, e.Apply(b))
		b.Close()
		if i == 15 {
			must(t, Flush(e))
		}
	}
	return m
}

// export takes a snapshot, changes the engine, and exports the snapshot.
func export(t *testing.T, w EngineWorld, m EngineModel, spans []storage.Span, random *rand.Rand) ([]string, EngineModel) {
	t.Helper()
	s := w.Engine.NewSnapshot()
	exported := maps.Clone(m)
	b := w.Engine.NewBatch()
	for range 10 {
		RandomChange(random, b, m)
	}
	must(t, w.Engine.Apply(b))
	b.Close()
	last := int64(0)
	files, err := w.Engine.Export(t.Context(), s, spans, w.Dir, func(bytes int64) {
		if bytes < last {
			t.Errorf("progress went from %d back to %d", last, bytes)
		}
		last = bytes
	})
	must(t, err)
	must(t, s.Close())
	if len(files) > 0 && last == 0 {
		t.Error("no progress was reported")
	}
	return files, exported
}

func engineIngestDurable(t *testing.T, w EngineWorld) {
	source := w.Other(t)
	set(t, source.Engine, "k20", "new")
	s := source.Engine.NewSnapshot()
	spans := []storage.Span{span("k10", "k30")}
	files, err := source.Engine.Export(t.Context(), s, spans, source.Dir, nil)
	must(t, err)
	must(t, s.Close())

	set(t, w.Engine, "k11", "old")
	set(t, w.Engine, "k90", "elsewhere, and applied before")
	must(t, w.Engine.Ingest(t.Context(), files, spans))
	w = w.Crash(t, rand.New(rand.NewPCG(1, 4)))
	CheckReader(t, w.Engine, EngineModel{"k20": "new", "k90": "elsewhere, and applied before"})
	closeEngine(t, w.Engine)
	closeEngine(t, source.Engine)
}

func engineIngestRefuses(t *testing.T, w EngineWorld) {
	defer closeEngine(t, w.Engine)
	set(t, w.Engine, "k10", "a")
	set(t, w.Engine, "k50", "b")
	s := w.Engine.NewSnapshot()
	defer s.Close()
	files, err := w.Engine.Export(t.Context(), s, []storage.Span{span("k00", "k99")}, w.Dir, nil)
	must(t, err)
	model := EngineModel{"k10": "a", "k50": "b"}
	refuse := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
		CheckReader(t, w.Engine, model)
	}
	check := func(files []string, spans ...storage.Span) error {
		_, _, err := w.Engine.Inspect(t.Context(), files, spans, []byte("k10"))
		return err
	}
	refuse("a look into a file with keys outside of the spans", check(files, span("k00", "k20")))
	refuse("a look for an empty span", check(files, span("k50", "k50")))
	refuse("a look into a file that does not exist", check([]string{w.Dir + "/missing"}, span("a", "z")))
	refuse("a file with keys outside of the spans", w.Engine.Ingest(t.Context(), files, []storage.Span{span("k00", "k20")}))
	refuse("an empty span", w.Engine.Ingest(t.Context(), files, []storage.Span{span("k50", "k50")}))
	refuse("overlapping spans", w.Engine.Ingest(t.Context(), files, []storage.Span{span("k00", "k50"), span("k40", "k99")}))
	refuse("a file that does not exist", w.Engine.Ingest(t.Context(), []string{w.Dir + "/missing"}, []storage.Span{span("a", "z")}))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	refuse("a canceled ingest", w.Engine.Ingest(canceled, files, []storage.Span{span("k00", "k99")}))
	if left, err := w.Engine.Export(canceled, s, []storage.Span{span("k00", "k99")}, w.Dir, nil); err == nil {
		t.Errorf("a canceled export returned %q", left)
	}
}
