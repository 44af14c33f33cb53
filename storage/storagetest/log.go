package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// LogWorld is a log and the machine it runs on.
type LogWorld struct {
	Log storage.Log
	// Crash cuts the power and opens the log again. The old log is not used any more.
	Crash func(t *testing.T, random *rand.Rand) LogWorld
	// Reopen closes the log in good order and opens it again; nil if that loses everything.
	Reopen func(t *testing.T) LogWorld
}

// RunLog runs the suite. open returns an empty log each time.
func RunLog(t *testing.T, open func(t *testing.T) LogWorld) {
	t.Run("random trace", func(t *testing.T) { logRandomTrace(t, open) })
	t.Run("words", func(t *testing.T) { logWords(t, open(t)) })
	t.Run("refuses", func(t *testing.T) { logRefuses(t, open) })
	t.Run("sync beside writes", func(t *testing.T) { logConcurrentSync(t, open(t)) })
}

// LogTrace makes random calls to a log and remembers them, so that a twin can be built for any prefix.
type LogTrace struct {
	random *rand.Rand
	Log    storage.Log
	twin   *storage.MemoryLog
	units  []logUnit
	Synced int // units that are durable
	terms  consensus.Term
}

// logUnit is a Write or a Drop, with the Compacts before it: they become durable with it at the latest.
type logUnit struct {
	compacts []storage.GroupAppend // Group, and Reset.Index for the index
	parts    []storage.GroupAppend
	node     *storage.NodeRecord
	drop     consensus.GroupID
	open     bool // only the compacts so far
}

// NewLogTrace returns a trace on an empty log.
func NewLogTrace(l storage.Log, random *rand.Rand) *LogTrace {
	return &LogTrace{random: random, Log: l, twin: storage.NewMemoryLog()}
}

// Units is the number of writes and drops so far.
func (tr *LogTrace) Units() int {
	if n := len(tr.units); n > 0 && tr.units[n-1].open {
		return n - 1
	}
	return len(tr.units)
}

// unit returns the one that collects compacts for the next write.
func (tr *LogTrace) unit() *logUnit {
	if n := len(tr.units); n == 0 || !tr.units[n-1].open {
		tr.units = append(tr.units, logUnit{open: true})
	}
	return &tr.units[len(tr.units)-1]
}

// Step makes one random call. The trace counts a write before it makes it.
func (tr *LogTrace) Step() error {
	group := consensus.GroupID(1 + tr.random.IntN(3))
	tr.Log.SetAside(group, tr.random.IntN(4) == 0)
	switch n := tr.random.IntN(20); {
	case n < 12:
		return tr.write()
	case n < 16:
		units := tr.Units()
		if err := tr.Log.Sync(); err != nil {
			return err
		}
		tr.Synced = units
		return nil
	case n < 19:
		view := tr.twin.Group(group)
		index := view.First() + consensus.Index(tr.random.IntN(12))
		u := tr.unit()
		u.compacts = append(u.compacts, storage.GroupAppend{Group: group, Reset: &storage.LogPosition{Index: index}})
		return errors.Join(tr.twin.Compact(group, index), tr.Log.Compact(group, index))
	default:
		if tr.random.IntN(4) != 0 || !slices.Contains(tr.twin.Groups(), group) {
			return nil
		}
		u := tr.unit()
		u.drop, u.open = group, false
		return errors.Join(tr.twin.Drop(group), tr.Log.Drop(group))
	}
}

func (tr *LogTrace) write() error {
	var parts []storage.GroupAppend
	for group := consensus.GroupID(1); group <= 3; group++ {
		if tr.random.IntN(2) == 0 {
			parts = append(parts, tr.part(group))
		}
	}
	node, err := tr.node()
	if err != nil || len(parts) == 0 && node == nil {
		return err
	}
	u := tr.unit()
	u.parts, u.node, u.open = parts, node, false
	return errors.Join(tr.twin.Write(parts, node), tr.Log.Write(parts, node))
}

// node is what the node says of itself with every other write.
func (tr *LogTrace) node() (*storage.NodeRecord, error) {
	if tr.random.IntN(2) == 0 {
		return nil, nil
	}
	before, err := tr.twin.NodeRecord()
	node := &storage.NodeRecord{Position: before.Position + 1 + uint64(tr.random.IntN(3))}
	if tr.random.IntN(3) == 0 {
		node.Data = make([]byte, tr.random.IntN(200))
		for i := range node.Data {
			node.Data[i] = byte(tr.random.Uint32())
		}
	}
	return node, err
}

// part is one of all the things a group may write. Group 3 writes a sparse log.
func (tr *LogTrace) part(group consensus.GroupID) storage.GroupAppend {
	view := tr.twin.Group(group)
	a := storage.GroupAppend{Group: group}
	next := view.Last() + 1
	switch tr.random.IntN(10) {
	case 0:
		a.Reset = &storage.LogPosition{Index: view.Last() + consensus.Index(tr.random.IntN(5)), Term: 7}
		next = a.Reset.Index + 1
	case 1, 2:
		a.TruncateFrom = view.First() + consensus.Index(tr.random.IntN(6))
		next = min(next, a.TruncateFrom)
	}
	if tr.random.IntN(3) > 0 {
		a.HardState = &consensus.HardState{Term: tr.terms, Vote: consensus.ReplicaID(tr.random.IntN(4)), Commit: view.Last()}
	}
	if group == 3 && tr.random.IntN(2) == 0 { // overwrite in the middle, or leave a hole
		next = max(view.First(), next) + consensus.Index(tr.random.IntN(6))
		next -= min(next-1, consensus.Index(tr.random.IntN(6)))
	}
	tr.terms++
	for range tr.random.IntN(5) {
		data := make([]byte, tr.random.IntN(400))
		for i := range data {
			data[i] = byte(tr.random.Uint32())
		}
		a.Entries = append(a.Entries, consensus.Entry{Index: next, Term: tr.terms, Kind: consensus.EntryKind(tr.random.IntN(3)), Data: data})
		next++
	}
	return a
}

// CheckLive compares the log with the twin.
func (tr *LogTrace) CheckLive() error { return DiffLogs(tr.Log, tr.twin) }

// twinAt returns a twin of the first n units, and of the first few compacts after them.
func (tr *LogTrace) twinAt(n, compacts int) *storage.MemoryLog {
	twin := storage.NewMemoryLog()
	for _, u := range tr.units[:n] {
		applyCompacts(twin, u.compacts)
		if u.drop != 0 {
			_ = twin.Drop(u.drop)
		} else if !u.open {
			_ = twin.Write(u.parts, u.node)
		}
	}
	if compacts > 0 {
		applyCompacts(twin, tr.units[n].compacts[:compacts])
	}
	return twin
}

func applyCompacts(twin *storage.MemoryLog, compacts []storage.GroupAppend) {
	for _, c := range compacts {
		_ = twin.Compact(c.Group, c.Reset.Index)
	}
}

// CheckRecovered checks that the log holds a prefix of what was written, with at least the
// first synced units, and returns a trace that goes on from there.
func (tr *LogTrace) CheckRecovered(l storage.Log, synced, written int) (*LogTrace, error) {
	var problems []error
	for n := synced; n <= written; n++ {
		compacts := 0
		if n < len(tr.units) {
			compacts = len(tr.units[n].compacts)
		}
		for c := 0; c <= compacts; c++ {
			twin := tr.twinAt(n, c)
			err := DiffLogs(l, twin)
			if err == nil {
				units := slices.Clone(tr.units[:n])
				if c > 0 {
					// Clipped: the new trace adds to it, and the old one goes on with what it has.
					units = append(units, logUnit{compacts: slices.Clip(tr.units[n].compacts[:c]), open: true})
				}
				return &LogTrace{random: tr.random, Log: l, twin: twin, units: units, Synced: n, terms: tr.terms}, nil
			}
			problems = append(problems, fmt.Errorf("after %d writes and %d compactions: %w", n, c, err))
		}
	}
	return nil, fmt.Errorf("the log holds no prefix of what was written; %d writes were synced:\n%w", synced, errors.Join(problems...))
}

// DiffLogs returns the first difference between two logs.
func DiffLogs(got, want storage.Log) error {
	if g, w := got.Groups(), want.Groups(); !slices.Equal(g, w) {
		return fmt.Errorf("groups are %v, want %v", g, w)
	}
	g, gotErr := got.NodeRecord()
	w, wantErr := want.NodeRecord()
	if g.Position != w.Position || !bytes.Equal(g.Data, w.Data) || !errors.Is(gotErr, wantErr) {
		return fmt.Errorf("the node record is %d with %d bytes (%v), want %d with %d bytes (%v)", g.Position, len(g.Data), gotErr, w.Position, len(w.Data), wantErr)
	}
	for _, id := range want.Groups() {
		if err := diffGroup(got.Group(id), want.Group(id)); err != nil {
			return fmt.Errorf("group %d: %w", id, err)
		}
	}
	return nil
}

func diffGroup(got, want storage.GroupLog) error {
	if g, w := got.HardState(), want.HardState(); g != w {
		return fmt.Errorf("hard state is %+v, want %+v", g, w)
	}
	if got.First() != want.First() || got.Last() != want.Last() {
		return fmt.Errorf("it holds %d to %d, want %d to %d", got.First(), got.Last(), want.First(), want.Last())
	}
	first, last := want.First(), want.Last()
	for i := first - min(first, 2); i <= last+1; i++ {
		g, gotErr := got.Term(i)
		w, wantErr := want.Term(i)
		if g != w || !errors.Is(gotErr, wantErr) {
			return fmt.Errorf("term of %d is %d (%v), want %d (%v)", i, g, gotErr, w, wantErr)
		}
	}
	for _, limit := range []int{0, 300, 1 << 30} {
		for _, lo := range []consensus.Index{first - 1, first, (first + last) / 2, last, last + 1} {
			if err := diffEntries(got, want, lo, last+1, limit); err != nil {
				return err
			}
		}
	}
	return nil
}

func diffEntries(got, want storage.GroupLog, lo, hi consensus.Index, limit int) error {
	g, gotErr := got.Entries(lo, hi, limit)
	w, wantErr := want.Entries(lo, hi, limit)
	if !errors.Is(gotErr, wantErr) || len(g) != len(w) {
		return fmt.Errorf("entries [%d, %d) up to %d bytes: %d (%v), want %d (%v)", lo, hi, limit, len(g), gotErr, len(w), wantErr)
	}
	for i := range w {
		if g[i].Index != w[i].Index || g[i].Term != w[i].Term || g[i].Kind != w[i].Kind || !bytes.Equal(g[i].Data, w[i].Data) {
			return fmt.Errorf("entry %d of term %d (%d bytes), want entry %d of term %d (%d bytes)",
				g[i].Index, g[i].Term, len(g[i].Data), w[i].Index, w[i].Term, len(w[i].Data))
		}
	}
	return nil
}

func logRandomTrace(t *testing.T, open func(t *testing.T) LogWorld) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 5))
			world := open(t)
			trace := NewLogTrace(world.Log, random)
			for range 6 {
				for range 60 {
					must(t, trace.Step())
				}
				must(t, trace.CheckLive())
				synced, written := trace.Synced, trace.Units()
				switch {
				case random.IntN(3) > 0:
					world = world.Crash(t, random)
				case world.Reopen != nil:
					world = world.Reopen(t)
					synced = written
				default:
					continue
				}
				next, err := trace.CheckRecovered(world.Log, synced, written)
				must(t, err)
				trace = next
			}
			must(t, world.Log.Close())
		})
	}
}

func entries(first consensus.Index, term consensus.Term, data ...string) []consensus.Entry {
	var list []consensus.Entry
	for i, d := range data {
		list = append(list, consensus.Entry{Index: first + consensus.Index(i), Term: term, Data: []byte(d)})
	}
	return list
}

// logWords checks single sentences of the interface's documentation.
func logWords(t *testing.T, w LogWorld) {
	defer func() { must(t, w.Log.Close()) }()
	view := w.Log.Group(9)
	if view.First() != 1 || view.Last() != 0 || view.HardState() != (consensus.HardState{}) || len(w.Log.Groups()) != 0 {
		t.Fatal("a log that was never written is not empty")
	}
	hs := consensus.HardState{Term: 3, Vote: 2, Commit: 1}
	must(t, w.Log.Write([]storage.GroupAppend{{Group: 9, Entries: entries(1, 3, "a", "b", "c"), HardState: &hs}}, nil))
	hs.Term = 99 // the caller may reuse it
	if got := view.HardState(); got.Term != 3 {
		t.Errorf("hard state %+v", got)
	}
	must(t, w.Log.Write([]storage.GroupAppend{{Group: 9, TruncateFrom: 2, Entries: entries(2, 4, "B")}}, nil))
	if view.Last() != 2 {
		t.Errorf("last is %d after a truncation and one entry; want 2", view.Last())
	}
	must(t, w.Log.Write([]storage.GroupAppend{{Group: 9, Reset: &storage.LogPosition{Index: 50, Term: 8}}}, nil))
	if term, err := view.Term(50); view.First() != 51 || view.Last() != 50 || term != 8 || err != nil {
		t.Errorf("after a reset: [%d, %d], term %d, %v", view.First(), view.Last(), term, err)
	}
	if view.HardState().Term != 3 {
		t.Error("a reset took the hard state away")
	}
	must(t, w.Log.Write([]storage.GroupAppend{{Group: 9, Entries: entries(51, 9, "x", "y")}, {Group: 4, Entries: entries(1, 1, "z")}}, nil))
	must(t, w.Log.Compact(9, 51))
	if term, err := view.Term(51); view.First() != 52 || term != 9 || err != nil {
		t.Errorf("after a compaction: first %d, term %d, %v", view.First(), term, err)
	}
	must(t, w.Log.Compact(9, 1000))
	if view.First() != 53 || view.Last() != 52 {
		t.Errorf("compacting everything left [%d, %d]", view.First(), view.Last())
	}
	must(t, w.Log.Compact(77, 5))
	if got := w.Log.Groups(); !slices.Equal(got, []consensus.GroupID{4, 9}) {
		t.Errorf("groups %v", got)
	}
	must(t, w.Log.Drop(9))
	if view.Last() != 0 || !slices.Equal(w.Log.Groups(), []consensus.GroupID{4}) {
		t.Error("a dropped group is still there")
	}
	nodeWords(t, w.Log)
	must(t, w.Log.Sync())
	if m := w.Log.Metrics(); m.WriteCount == 0 || m.SyncCount == 0 || m.SegmentCount == 0 || m.WriteBytes == 0 {
		t.Errorf("metrics %+v", m)
	}
}

// nodeWords: what a node says of itself is apart from the groups, and its data stays until there is other.
func nodeWords(t *testing.T, l storage.Log) {
	groups := l.Groups()
	for _, c := range []struct {
		node storage.NodeRecord
		want string
	}{
		{storage.NodeRecord{Position: 1}, ""},
		{storage.NodeRecord{Position: 5, Data: []byte("five")}, "five"},
		{storage.NodeRecord{Position: 6}, "five"},
		{storage.NodeRecord{Position: 7, Data: []byte("seven")}, "seven"},
		{storage.NodeRecord{Position: 8, Data: []byte{}}, ""},
	} {
		must(t, l.Write(nil, &c.node))
		if got, err := l.NodeRecord(); err != nil || got.Position != c.node.Position || string(got.Data) != c.want {
			t.Errorf("the node record is %d, %q, %v; want %d, %q", got.Position, got.Data, err, c.node.Position, c.want)
		}
	}
	if got := l.Groups(); !slices.Equal(got, groups) {
		t.Errorf("with a node record the groups are %v", got)
	}
}

func logRefuses(t *testing.T, open func(t *testing.T) LogWorld) {
	for name, bad := range map[string]storage.GroupAppend{
		"no group":         {Entries: entries(1, 1, "a")},
		"index 0":          {Group: 1, Entries: entries(0, 1, "a")},
		"descending":       {Group: 1, Entries: append(entries(2, 1, "a"), entries(1, 1, "a")...)},
		"a hole too large": {Group: 1, Entries: entries(1<<40, 1, "a")},
		"the log's own":    {Group: storage.MaxGroup + 1, Entries: entries(1, 1, "a")},
	} {
		w := open(t)
		must(t, w.Log.Write([]storage.GroupAppend{{Group: 1, Entries: entries(1, 1, "fine")}}, nil))
		if err := w.Log.Write([]storage.GroupAppend{{Group: 2, Entries: entries(1, 1, "x")}, bad}, nil); err == nil {
			t.Errorf("%s was accepted", name)
		} else if again := w.Log.Write([]storage.GroupAppend{{Group: 1, Entries: entries(2, 1, "b")}}, nil); again == nil {
			t.Errorf("%s: the log goes on after the error %v", name, err)
		}
		if w.Log.Group(2).Last() != 0 {
			t.Errorf("%s: a part of the write took effect", name)
		}
		must(t, w.Log.Close())
	}
	w := open(t)
	must(t, w.Log.Write(nil, &storage.NodeRecord{Position: 5}))
	if err := w.Log.Write(nil, &storage.NodeRecord{Position: 5}); err == nil {
		t.Error("two writes of the node have the same number")
	}
	must(t, w.Log.Close())
}

func logConcurrentSync(t *testing.T, w LogWorld) {
	const writes = 300
	syncs := make(chan int)
	synced := make(chan int, writes)
	go func() {
		defer close(synced)
		for n := range syncs {
			if err := w.Log.Sync(); err != nil {
				t.Errorf("sync: %v", err)
			}
			synced <- n
		}
	}()
	for i := range writes {
		must(t, w.Log.Write([]storage.GroupAppend{{Group: 1, Entries: entries(consensus.Index(i+1), 1, "0123456789012345678901234567890123456789")}}, nil))
		select {
		case syncs <- i + 1:
		default:
		}
	}
	syncs <- writes
	close(syncs)
	for range synced {
	}
	w = w.Crash(t, nil)
	if last := w.Log.Group(1).Last(); last != writes {
		t.Errorf("after a sync and a crash there are %d of %d entries", last, writes)
	}
	must(t, w.Log.Close())
}
