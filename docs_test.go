package quorate

import (
	"fmt"
	"go/constant"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/proto/h2"
	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/storage/wal"
	"github.com/quoratedb/quorate/timeline"
	"github.com/quoratedb/quorate/transport"
	"github.com/quoratedb/quorate/txn"
)

// maxLine is what a line of the documents stays below, tables included: longer ones cannot be read or compared.
const maxLine = 160

// documents are all Markdown files of the project, by path.
func documents(t *testing.T) map[string]string {
	found := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		content, err := os.ReadFile(path)
		found[path] = string(content)
		return err
	})
	if err != nil || found["README.md"] == "" {
		t.Fatal("no documents found: ", err)
	}
	return found
}

func TestLinesOfDocuments(t *testing.T) {
	for path, text := range documents(t) {
		for i, line := range strings.Split(text, "\n") {
			if length := utf8.RuneCountInString(line); length >= maxLine {
				t.Errorf("%s:%d has %d characters; they stay below %d: break the line, or make the table a list", path, i+1, length, maxLine)
			}
		}
	}
}

func TestLinksOfDocuments(t *testing.T) {
	all := documents(t)
	for path, text := range all {
		for _, target := range links(text) {
			if problem := linkProblem(all, path, target); problem != "" {
				t.Errorf("%s links to %s: %s", path, target, problem)
			}
		}
	}
}

var (
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	codeSpan = regexp.MustCompile("`[^`]*`")
	link     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	markup   = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

// links are the targets of a document's links.
func links(text string) []string {
	var targets []string
	for _, found := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(fenced.ReplaceAllString(text, ""), "code"), -1) {
		targets = append(targets, found[1])
	}
	return targets
}

// anchors are what a link may name after the # of a document: its headings, as they are made into names.
func anchors(text string) map[string]bool {
	names := make(map[string]bool)
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := strings.ReplaceAll(strings.ToLower(markup.ReplaceAllString(found[1], "")), " ", "-")
		for unique, n := name, 1; ; n++ {
			if !names[unique] {
				names[unique] = true
				break
			}
			unique = fmt.Sprintf("%s-%d", name, n)
		}
	}
	return names
}

// linkProblem tells why a link leads nowhere; "" if it does not.
func linkProblem(all map[string]string, from, target string) string {
	if strings.Contains(target, "://") {
		return "" // somebody else's
	}
	file, anchor, _ := strings.Cut(target, "#")
	to := from
	if file != "" {
		to = filepath.Join(filepath.Dir(from), file)
		if _, err := os.Stat(to); err != nil {
			return "there is no such file"
		}
	}
	if anchor != "" && !anchors(all[to])[anchor] {
		return "there is no such heading"
	}
	return ""
}

func TestBrokenLinksAreFound(t *testing.T) {
	all := map[string]string{"docs/a.md": "# One *two*, `three`!\n## One\n## One\n```\n# no heading\n```\n"}
	for target, want := range map[string]string{
		"https://example.com/x": "", "#one-two-three": "", "#one-1": "", "../README.md": "", "../docs": "",
		"#no-heading": "there is no such heading", "#one-2": "there is no such heading", "b.md": "there is no such file",
	} {
		if got := linkProblem(all, "docs/a.md", target); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	if got := links("[a](b) `[c](d)`\n```\n[e](f)\n```\n[g\nh](i#j)"); fmt.Sprint(got) != "[b i#j]" {
		t.Errorf("links: %q", got)
	}
}

// TestDocumentsNameWhatIsThere: files of the project that a document names exist, and declare what it names behind them: "`file.go`, `Type.Method`". What
// tells the past is left alone.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	p := loadProgram(t)
	named := 0
	for path, text := range documents(t) {
		if path == "CHANGELOG.md" || path == filepath.Join("docs", "bugs.md") || strings.HasPrefix(path, filepath.Join("docs", "decisions")) {
			continue
		}
		for _, found := range sourceName.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			file, symbol := found[1], found[2]
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s names %s: there is no such file", path, file)
			} else if symbol != "" && !p.declares(file, symbol) {
				t.Errorf("%s names %s in %s: it is not declared there", path, symbol, file)
			}
			named++
		}
	}
	if named < 60 {
		t.Errorf("only %d files are named", named)
	}
}

var sourceName = regexp.MustCompile("`([a-z0-9_/]+/[a-z0-9_]+\\.go)`(?:,\\s+`([A-Za-z.]+)`)?")

// declares reports whether the file declares Name, or the method Type.Name.
func (p *program) declares(file, symbol string) bool {
	s := p.packages[module+"/"+filepath.ToSlash(filepath.Dir(file))]
	if s == nil {
		return false
	}
	first, method, _ := strings.Cut(symbol, ".")
	object := s.types.Scope().Lookup(first)
	if object != nil && method != "" {
		object, _, _ = types.LookupFieldOrMethod(object.Type(), true, s.types, method)
	}
	return object != nil && strings.HasSuffix(filepath.ToSlash(p.files.Position(object.Pos()).Filename), "/"+file)
}

// TestDocumentsNameTests: the tests that a document says to run are there; a pattern that matches none passes silently.
func TestDocumentsNameTests(t *testing.T) {
	named := 0
	for path, text := range documents(t) {
		for _, found := range testCommand.FindAllStringSubmatch(text, -1) {
			var declared []string
			for _, dir := range strings.Fields(found[1]) {
				declared = append(declared, testsIn(t, dir)...)
			}
			for pattern := range strings.SplitSeq(strings.Trim(found[2], "'"), "|") {
				test, _, _ := strings.Cut(pattern, "/")
				if named++; !slices.ContainsFunc(declared, regexp.MustCompile(test).MatchString) {
					t.Errorf("%s says to run %s in %s: there is no such test", path, test, found[1])
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d tests are named", named)
	}
}

// testCommand leaves out benchmarks, which run no test: -run ^$.
var testCommand = regexp.MustCompile("go test ((?:\\./[a-z0-9/]+ )+)(?:-[a-z]+ )*-run ('[^']+'|[^ `\n^]+)")

var testDeclaration = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsIn lists the tests of a package.
func testsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testDeclaration.FindAllSubmatch(content, -1) {
			names = append(names, string(found[1]))
		}
	}
	return names
}

// figure is a place of a document that tells what the code holds.
type figure struct {
	document string
	sentence string // with a verb for each value; line breaks do not matter
	values   []any  // of the code, in the document's spelling
}

// TestFiguresOfDocuments holds sentences of the documents against the constants and defaults that they tell.
func TestFiguresOfDocuments(t *testing.T) {
	p := loadProgram(t)
	of := func(name string) int64 { return p.constant(t, name) }
	bytesOf := func(name string) string { return size(of(name)) }
	duration := func(name string) string { return brief(time.Duration(of(name))) }

	wire, edge := h2.Options{}.WithDefaults(), rpc.Options{}.WithDefaults()
	route, hub := gateway.Options{}.WithDefaults(), watch.Options{}.WithDefaults()
	machine, store, peers := shard.Options{}.WithDefaults(), mvcc.Options{}.WithDefaults(), transport.Options{}.WithDefaults()
	segments, options := wal.Options{}.WithDefaults(), driver.Options{}.WithDefaults()
	promises := liveness.Options{PromiseDuration: 3 * server.DefaultHeartbeatInterval}.WithDefaults()

	const guide, peerFrames, sequencerPage = "docs/operations.md", "docs/protocols/peer.md", "docs/protocols/sequencer.md"
	counted := sequencer.Options{}.WithDefaults()
	all := documents(t)
	for _, f := range []figure{
		{guide, "bound: %s (`--max-request-bytes`, at most %s) * beyond it: `request is too large`; from %s above it on",
			[]any{size(server.DefaultMaxRequestBytes), size(server.MaxMaxRequestBytes), bytesOf("api/etcd.requestOverheadBytes")}},
		{guide, "bound: %d (`--max-txn-ops`)", []any{server.DefaultMaxTxnOps}},
		{guide, "**shards** * bound: %s (`--initial-shards`); split keys of %s, %s of them as text", []any{number(partition.MaxShards), size(partition.MaxSplitKeyBytes), size(server.MaxPartitionBytes)}},
		{guide, "at most %d at a time from one node", []any{of("server.maxMoves")}},
		{"docs/decisions/0014-partitioning.md", "lacks at most %d entries; at most %d at a time", []any{of("server.maxBehind"), of("server.maxMoves")}},
		{"docs/decisions/0014-partitioning.md", "one of %s slots", []any{number(partition.Slots)}},
		{guide, "**members of a cluster** * bound: %d at a time; %s ever, with those that were removed; %s for", []any{of("members.MaxMembers"), number(int(of("members.MaxEver"))), bytesOf("members.MaxMemberBytes")}},
		{guide, "**nesting of transactions** * bound: %d", []any{of("proto/etcdwire.DefaultTxnDepth")}},
		{guide, "**effects of one request** (a deleted key counts as its bytes and 48 more) * bound: %s", []any{size(machine.MaxRequestEffectBytes)}},
		{guide, "**effects of a request decided beside the rounds that take effect in one round** * bound: %s", []any{size(machine.PartBytes)}},
		{guide, "**calls in flight at a node, lists that are being sent among them** * bound: %s", []any{number(route.Limits.MaxCalls)}},
		{guide, "bound: %s (`--max-client-connections`)", []any{number(server.DefaultMaxClientConnections)}},
		{guide, "**snapshots for clients at the same time**, and their size * bound: one on each node; %s", []any{size(etcdsnap.MaxBytes)}},
		{"docs/backup.md", "a store that takes more than **%s** in that format", []any{size(etcdsnap.MaxBytes)}},
		{"docs/backup.md", "holds about %s of versions and the leases", []any{bytesOf("gateway/gather.versionChunkBytes")}},
		{guide, "**times of revisions** * bound: %s,", []any{number(timeline.MaxPoints)}},
		{guide, "**connections to the port for metrics** * bound: %d to %d", []any{of("connlimit.minMetrics"), of("connlimit.maxMetrics")}},
		{guide, "idle * bound: %[1]s; %[1]s, 60 s", []any{duration("server.prefaceTimeout")}},
		{guide, "**HTTP/1 on the client port** * bound: %d at a time, a head of %s, %s of a body, %s",
			[]any{of("api/etcd.maxAnswers"), bytesOf("api/etcd.maxRequestHead"), bytesOf("api/etcd.maxRequestIgnore"), duration("api/etcd.answerPatience")}},
		{guide, "bound: %s (`--max-client-memory-bytes`), %s of one connection", []any{size(server.DefaultMaxClientMemoryBytes), size(server.DefaultMaxConnectionMemoryBytes)}},
		{guide, "**headers of a call** * bound: %s", []any{size(int64(wire.MaxHeaderBytes))}},
		{guide, "**what a client takes nothing of** * bound: %s", []any{brief(edge.WriteTimeout)}},
		{guide, "has begun to come** * bound: %s until its end", []any{brief(edge.MessageTimeout)}},
		{guide, "**a client that reads nothing of a list by key** * bound: %s", []any{brief(edge.StallTimeout)}},
		{guide, "**requests on the way from a node to the leader** * bound: %s", []any{size(route.Limits.MaxForwardedBytes)}},
		{guide, "**requests of one other node in flight at the leader** * bound: %s and %s", []any{number(route.Limits.MaxCalls), size(route.Limits.MaxForwardedBytes)}},
		{guide, "**the answer of a write that another node forwarded** * bound: %s", []any{size(route.Limits.MaxAnswerBytes)}},
		{guide, "**leaders that evaluate a write** * bound: %d if it looks at up to %d keys", []any{of("gateway.maxEvaluations"), of("gateway.cheapKeys")}},
		{guide, "whatever its length** * bound: %s at first, then %s at a time; %s while memory is scarce",
			[]any{bytesOf("api/etcd.firstPortionBytes"), bytesOf("api/etcd.portionBytes"), bytesOf("api/etcd.surePortionBytes")}},
		{guide, "**watches of a node** * bound: %s", []any{number(hub.MaxWatches)}},
		{guide, "**what waits for one slow watch stream** * bound: %s and one step of %s", []any{size(hub.StreamBytes), size(hub.ChunkBytes)}},
		{guide, "**hashes of compactions that a node keeps for HashKV** * bound: %d", []any{of("server.keepHashes")}},
		{guide, "**recent changes held for watches, per node** * bound: %s", []any{size(hub.RingBytes)}},
		{guide, "at the same time, per node** * bound: twice the CPUs; each holds up to %s of what was reserved", []any{size(2 * hub.ChunkBytes)}},
		{guide, "**sets of several shards that watches of a node are over** * bound: %d", []any{hub.MaxMergers}},
		{guide, "**TTL of a lease** * bound: %d s", []any{machine.MinLeaseTTLSeconds}},
		{guide, "when it expires or is revoked** * bound: %s", []any{number(machine.MaxKeysPerExpiry)}},
		{guide, "**what a request looks at in a round of the leader** (keys, and KiB of values) * bound: %s", []any{number(int(machine.RoundLooks))}},
		{guide, "**what any write looks at** (keys, and KiB of values) * bound: %s", []any{number(int(machine.MaxLooks))}},
		{guide, "**requests decided beside the rounds, or waiting for it** * bound: %d", []any{machine.MaxBeside}},
		{guide, "**leases expired in one tick** * bound: %d leases or %s keys", []any{machine.MaxRevokesPerTick, number(machine.MaxRevokeKeysPerTick)}},
		{guide, "* bound: 1 to %s a second", []any{bytesOf("driver.mostScrubBytes")}},
		{guide, "**a frame between nodes; what waits for one node** * bound: %s; %s", []any{bytesOf("server.maxFrameBytes"), size(2 * of("server.maxFrameBytes"))}},
		{guide, "**snapshots received at the same time** * bound: %d; one whose sender brings nothing for %s ends", []any{peers.MaxStreams, brief(peers.StreamTimeout)}},
		{guide, "who it is** * bound: %d, for %s each", []any{peers.MaxCallers, brief(peers.HandshakeTimeout)}},
		{guide, "%s newest metadata, 2 x %s dirty keys", []any{size(options.CacheBytes), size(options.MaxDirtyBytes)}},
		{guide, "**the log of a node** * bound: %s", []any{size(options.MaxLogBytes)}},
		{guide, "**snapshots that a node sends at the same time** * bound: %d", []any{of("driver.maxShipping")}},
		{guide, "or waiting for it** * bound: %d, two at a time", []any{machine.MaxBeside}},
		{guide, "that the leader of a shard coordinates** * bound: %s that", []any{number(txn.Options{}.WithDefaults().MaxTransactions)}},
		{guide, "that a shard has a part in and that are not finished** * bound: %s, and %d MiB", []any{number(machine.MaxTransactions), machine.MaxPreparedBytes >> 20}},
		{guide, "(a deleted key counts as its bytes and 48 more) * bound: %d MiB * beyond it: `request is too large` * **what any write", []any{machine.MaxShareBytes >> 20}},
		{guide, "requests of up to %s on connections", []any{bytesOf("budget.SmallBytes")}},
		{guide, "The first %s of a stream are free", []any{bytesOf("gateway/watch.freeBytes")}},
		{guide, "is given up after %s", []any{brief(peers.DeadAfter)}},
		{guide, "ends after 5 s + 2 election timeouts (%s)", []any{brief(route.RequestTimeout)}},
		{guide, "in segments of %s (the first ones smaller", []any{size(segments.SegmentBytes)}},
		{"driver/DESIGN.md", "for a second after one that took more than %d ms", []any{of("driver.slowSync") / int64(time.Millisecond)}},
		{"shard/DESIGN.md", "`MaxKeysPerExpiry` (%s) keys, or with more bytes of them than `MaxExpiryBytes` (%s)", []any{number(machine.MaxKeysPerExpiry), size(machine.MaxExpiryBytes)}},
		{"shard/DESIGN.md", "`MaxRequestEffectBytes` (%s)", []any{size(machine.MaxRequestEffectBytes)}},
		{"storage/mvcc/DESIGN.md", "one bucket per ~%d keys", []any{store.BucketRows}},
		{sequencerPage, "A frame is at most %s.", []any{bytesOf("sequencer.MaxFrameBytes")}},
		{sequencerPage, "| numbers of one batch | %s |", []any{number(int(of("sequencer.MaxBatchNumbers")))}},
		{sequencerPage, "of a leadership; of a node | %d; %s |", []any{of("sequencer.MaxBatches"), number(int(of("sequencer.MaxWaiting")))}},
		{sequencerPage, "| shards in one frontier | %s |", []any{number(int(of("sequencer.maxFrontier")))}},
		{sequencerPage, "of a node name, each as often as it is named | %s |", []any{number(int(of("sequencer.MaxNamed")))}},
		{sequencerPage, "hears of a doubt | %d (`Options.Doubts`) |", []any{counted.Doubts}},
		{sequencerPage, "knows | %s (`Options.MaxShards`) |", []any{number(counted.MaxShards)}},
		{sequencerPage, "ahead | %s (`Options.Window`)", []any{number(int(counted.Window))}},
		{peerFrames, "of the body, at most %s;", []any{bytesOf("transport.maxEnvelopeBytes")}},
		{guide, "whose handshake is not done** * bound: %d, or half of the connections that may be there; %s and %s of what the caller sends",
			[]any{of("tlsconf/listener.maxCallers"), duration("tlsconf/listener.helloTimeout"), bytesOf("tlsconf/listener.maxHelloBytes")}},
		{guide, "with TLS besides what that needs, and %s of what the caller sends", []any{bytesOf("transport.maxGreetingBytes")}},
		{guide, "**a connection of a client with TLS** * bound: %s of the client memory", []any{bytesOf("tlsconf/listener.heldBytes")}},
		{guide, "**a file for TLS** * bound: %s", []any{bytesOf("tlsconf.maxFileBytes")}},
		{peerFrames, "handshake may take %s of what the caller sends", []any{bytesOf("transport.maxGreetingBytes")}},
		{"docs/security.md", "at most %d may stand in their handshake, or half of the connections that the port may have; each for %s, and for %s of what it sends",
			[]any{of("tlsconf/listener.maxCallers"), duration("tlsconf/listener.helloTimeout"), bytesOf("tlsconf/listener.maxHelloBytes")}},
		{"docs/security.md", "takes %s more of the memory", []any{bytesOf("tlsconf/listener.heldBytes")}},
		{peerFrames, "is held for %s at most, with a buffer of %s; of more than %d the one", []any{brief(peers.HandshakeTimeout), bytesOf("transport.greetingBufferBytes"), peers.MaxCallers}},
		{peerFrames, "of the payload, at most %s;", []any{bytesOf("server.maxFrameBytes")}},
		{peerFrames, "sent bytes stay unacknowledged for %s", []any{brief(peers.DeadAfter)}},
		{peerFrames, "in growing intervals from %d ms to %s.", []any{peers.BackoffMin.Milliseconds(), brief(peers.BackoffMax)}},
		{peerFrames, "at most %s; 0 ends the stream", []any{bytesOf("transport.maxChunkBytes")}},
		{peerFrames, "when a chunk takes longer than %s.", []any{brief(peers.StreamTimeout)}},
		{peerFrames, "promises 3 heartbeat intervals (%d ms) from now", []any{promises.PromiseDuration.Milliseconds()}},
		{peerFrames, "minus a twentieth (%d ms)", []any{promises.DriftMargin.Milliseconds()}},
		{peerFrames, "silent for %s and the promise", []any{brief(promises.SuspectAfter)}},
		{peerFrames, "this process slept (%d ms between", []any{promises.PauseThreshold.Milliseconds()}},
		{guide, "**log entries from other nodes that are not durable at a node, of all shards** * bound: %s", []any{size(options.MaxBacklogBytes)}},
		{guide, "or %s are kept for nodes that fell behind", []any{size(options.RetainLogBytes)}},
		{guide, "was not flushed (%s of log", []any{size(options.FlushLogBytes)}},
		{guide, "bound: %s, and %s or four times `--max-request-bytes`", []any{number(options.MaxQueued), size(options.MaxQueuedBytes)}},
		{"storage/wal/DESIGN.md", "the rest have %s.", []any{size(segments.SegmentBytes)}},
		{"storage/wal/DESIGN.md", "in pieces of %s, each with its own sync", []any{size(segments.FillBytes)}},
		{"consensus/paxos/DESIGN.md", "one response names at most %d slots above a gap", []any{of("consensus/paxos.maxExtras")}},
		{"ARCHITECTURE.md", "for %d ms after each heartbeat", []any{promises.PromiseDuration.Milliseconds()}},
	} {
		text := strings.Join(strings.Fields(all[f.document]), " ")
		if want := fmt.Sprintf(f.sentence, f.values...); !strings.Contains(text, want) {
			t.Errorf("%s does not say %q, which is what the code has", f.document, want)
		}
	}
}

// constant is the value of package.Name, exported or not.
func (p *program) constant(t *testing.T, name string) int64 {
	t.Helper()
	dot := strings.LastIndexByte(name, '.')
	if s := p.packages[module+"/"+name[:dot]]; s != nil {
		if c, ok := s.types.Scope().Lookup(name[dot+1:]).(*types.Const); ok {
			if value, exact := constant.Int64Val(c.Val()); exact {
				return value
			}
		}
	}
	t.Errorf("there is no whole constant %s", name)
	return 0
}

// size spells a number of bytes.
func size[T int | int64](n T) string {
	for _, unit := range []struct {
		bytes T
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%g %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// number spells a number with commas.
func number(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// brief spells a duration.
func brief(d time.Duration) string {
	switch {
	case d == time.Minute:
		return "1 minute"
	case d%time.Minute == 0:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%g s", d.Seconds())
}
