package watch

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// The language of testdata/scenarios:
//
//	options [stream-bytes=] [ring-bytes=] [chunk-bytes=] [batch-bytes=]    a new world
//	apply [silent]      one log entry: a line per revision of key=value and -key; silent: a snapshot brings it, the feed does not
//	dispatch            the dispatcher runs until it has nothing to do
//	compact rev=
//	create s= [id=] key= [end=] [rev=] [prev] [noput] [nodelete] [notify] [fragment]
//	cancel s= id=
//	progress s=
//	tick ms=
//	next s= [n=]        what the stream's sender gets, until there is nothing (or n batches)
//	state               what the hub holds
type scenario struct {
	*world
	shards  *store // nil: there is one shard
	streams map[string]*Stream
	now     time.Duration

	transactions map[string]*transaction // by name
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{}
		s.reset(t, Options{})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := s.run(t, d)
			if err := s.hub.verify(); err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			return out
		})
	})
}

func (s *scenario) reset(t *testing.T, options Options) {
	s.world, s.shards, s.streams, s.now = newWorld(t), nil, map[string]*Stream{}, 0
	options.Source, options.Encode = s.world, encodeText
	options.Jitter = func(int64) int64 { return 0 }
	options.ProgressInterval = time.Second
	hub, err := newHub(options)
	if err != nil {
		t.Fatal(err)
	}
	s.hub = hub
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	number := func(name string) (n int) {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &n)
		}
		return n
	}
	text := func(name string) (v string) {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &v)
		}
		return v
	}
	ctx := t.Context()
	if s.shards != nil || d.Cmd == "store" {
		if out, known := s.runStore(t, d, number); known {
			return out
		}
	}
	switch d.Cmd {
	case "options":
		s.reset(t, Options{
			StreamBytes: number("stream-bytes"), RingBytes: number("ring-bytes"),
			ChunkBytes: number("chunk-bytes"), BatchBytes: number("batch-bytes"),
		})
	case "apply":
		if applied := s.commit(parseChanges(d.Input)...); !d.HasArg("silent") {
			s.hub.Applied(applied)
		}
		return fmt.Sprintf("revision %d\n", s.Revision())
	case "lease": // an entry without revisions
		s.hub.Applied(&shard.Applied{Revision: s.Revision(), Closed: s.Revision(), After: s.Revision()})
	case "dispatch":
		for s.hub.dispatch() {
		}
	case "compact":
		s.compact(kv.Revision(number("rev")))
	case "create":
		request := CreateRequest{
			ID: ID(number("id")), Span: kv.Span{Start: []byte(text("key")), End: []byte(text("end"))}, StartRevision: kv.Revision(number("rev")),
			PrevKV: d.HasArg("prev"), ProgressNotify: d.HasArg("notify"), Fragment: d.HasArg("fragment"),
		}
		if text("end") == "all" {
			request.Span.End = []byte{0}
		}
		if d.HasArg("noput") {
			request.Filters |= FilterNoPut
		}
		if d.HasArg("nodelete") {
			request.Filters |= FilterNoDelete
		}
		if _, err := s.stream(t, text("s")).Create(ctx, request); err != nil {
			return err.Error() + "\n"
		}
	case "cancel":
		if err := s.stream(t, text("s")).Cancel(ctx, ID(number("id"))); err != nil {
			return err.Error() + "\n"
		}
	case "progress":
		if err := s.stream(t, text("s")).RequestProgress(ctx); err != nil {
			return err.Error() + "\n"
		}
	case "tick":
		s.now += time.Duration(number("ms")) * time.Millisecond
		s.hub.Tick(s.now)
	case "next":
		return s.next(t, text("s"), number("n"))
	case "close":
		s.stream(t, text("s")).Close()
	case "state":
		if s.shards != nil {
			return s.shards.state()
		}
		m := s.hub.Metrics()
		return fmt.Sprintf("streams %d watches %d live groups %d dispatched %d lagging so far %d gaps %d reads: ring %d history %d\n",
			m.Streams, m.Watches, m.Groups, m.DispatchedRevision, m.LaggingCount, m.GapCount, m.RingReadCount, m.HistoryReadCount)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return "ok\n"
}

// parseChanges reads a line for each revision.
func parseChanges(text string) (revisions [][]change) {
	for _, line := range strings.Split(text, "\n") {
		var changes []change
		for _, word := range strings.Fields(line) {
			key, value, put := strings.Cut(word, "=")
			if put {
				changes = append(changes, change{key, []byte(value)})
			} else {
				changes = append(changes, change{strings.TrimPrefix(key, "-"), nil})
			}
		}
		revisions = append(revisions, changes)
	}
	return revisions
}

func (s *scenario) stream(t *testing.T, name string) *Stream {
	if s.streams[name] == nil {
		stream, err := s.hub.NewStream(func(span kv.Span) error {
			if strings.HasPrefix(string(span.Start), "secret") {
				return kv.ErrPermissionDenied
			}
			return nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.streams[name] = stream
	}
	return s.streams[name]
}

func (s *scenario) next(t *testing.T, name string, n int) string {
	var out strings.Builder
	for i := 0; n == 0 || i < n; i++ {
		batch, err := s.stream(t, name).Poll()
		if err != nil {
			return out.String() + err.Error() + "\n"
		}
		if batch == nil {
			break
		}
		var ids []string
		for _, id := range batch.IDs {
			ids = append(ids, strconv.Itoa(int(id)))
		}
		fmt.Fprintf(&out, "%s [%s] at %d", batch.Kind, strings.Join(ids, " "), batch.Revision)
		if batch.CompactRevision != 0 {
			fmt.Fprintf(&out, " compacted %d", batch.CompactRevision)
		}
		if batch.Err != nil {
			fmt.Fprintf(&out, " refused: %s", batch.Err)
		}
		out.WriteString("\n")
		for _, event := range batch.Events {
			fmt.Fprintf(&out, "  %s\n", event.Encoded(batch.PrevKV))
		}
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}
