package watch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// The language of testdata/scenarios for a store of several shards: that of the others, and instead of apply, compact and state
//
//	store shards= [ring-bytes=] [chunk-bytes=] [max-mergers=]   a new store, with a-i in shard 1, j-r in 2, s-z in 3
//	issue shard=        an entry in the log of a shard, a line for each revision; this node has not applied it
//	apply shard= [n=]   this node applies entries of the shard's log
//	write shard=        issue and apply
//	together shards=1,2 one revision: a line for the first shard, one for the second, one for the first again
//	prepare tx=         a transaction over several shards: a line for each operation; their logs have it now, and these keys are locked
//	number tx=          it gets its revision
//	abort tx=           it is decided that it has no effect; otherwise it has
//	resolve tx= shard=  the log of the shard has the decision; lines are writes in the same entry
//	jump shard= [n=]    a snapshot brings entries of the shard's log (0: all)
//	answered rev=       this node has answered a request at the revision
//	lose shard=         what was issued to it last never takes effect, and it is called clean
//	unclean shard=      only the shard's leader knows how far it is; clean shard=
//	question            what the node asks
//	answer [error]      and is answered
//	compact rev=        the store is compacted; the shards that have come so far follow at once
//	tick [ms=] [us=]    with us= time goes by and nothing else
//	state               closed: of the shards, with what is kept aside; released: of the mergers
func (s *scenario) runStore(t *testing.T, d *datadriven.TestData, number func(string) int) (out string, known bool) {
	st := s.shards
	name := func(arg string) (v string) {
		d.ScanArgs(t, arg, &v)
		return v
	}
	id := kv.ShardID(number("shard"))
	switch d.Cmd {
	case "store":
		s.shards = newStore(t, number("shards"), Options{
			RingBytes: number("ring-bytes"), ChunkBytes: number("chunk-bytes"), MaxMergers: number("max-mergers"), ProgressInterval: time.Second,
		})
		s.world, s.streams, s.now = &world{t: t, hub: s.shards.hub}, map[string]*Stream{}, 0
		s.transactions = map[string]*transaction{}
	case "issue":
		return fmt.Sprintf("revision %d\n", st.issue(id, parseChanges(d.Input)...)), true
	case "write":
		revision := st.issue(id, parseChanges(d.Input)...)
		st.apply(id, false)
		return fmt.Sprintf("revision %d\n", revision), true
	case "together":
		var one, other kv.ShardID
		var text string
		d.ScanArgs(t, "shards", &text)
		if _, err := fmt.Sscanf(text, "%d-%d", &one, &other); err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
		lines := append(parseChanges(d.Input), nil, nil)
		st.issueTogether(one, other, lines[0], lines[1], lines[2])
		return fmt.Sprintf("revision %d\n", st.now), true
	case "prepare":
		s.transactions[name("tx")] = st.prepare(parseChanges(d.Input))
	case "number":
		return fmt.Sprintf("revision %d\n", st.number(s.transactions[name("tx")])), true
	case "abort":
		s.transactions[name("tx")].aborted = true
	case "resolve":
		var revisions [][]change
		if d.Input != "" {
			revisions = parseChanges(d.Input)
		}
		st.issueWith(id, []*transaction{s.transactions[name("tx")]}, revisions...)
	case "lose":
		st.lose(id)
	case "apply":
		for range max(1, number("n")) {
			st.apply(id, false)
		}
	case "jump":
		n := number("n")
		for i := 0; n == 0 && len(st.parts[id].log) > 0 || i < n; i++ {
			st.apply(id, true)
		}
		st.jump(id)
	case "answered":
		st.known = max(st.known, kv.Revision(number("rev")))
	case "unclean", "clean":
		st.parts[id].unclean = d.Cmd == "unclean"
	case "question":
		if st.asked == nil {
			return "none\n", true
		}
		return fmt.Sprintf("shards %v\n", st.asked.shards), true
	case "answer":
		if st.asked == nil {
			return "nothing was asked\n", true
		}
		if d.HasArg("error") {
			st.answer(kv.Present{}, errors.New("no leader"))
			break
		}
		p := st.present()
		st.answer(p, nil)
		out := fmt.Sprintf("now %d", p.Revision)
		for _, progress := range p.Shards {
			out += fmt.Sprintf(", last %d", progress.Last)
			if !progress.Clean {
				out += " unclean"
			}
		}
		return out + "\n", true
	case "compact":
		st.compactTo(kv.Revision(number("rev")))
	case "tick":
		st.clock += time.Duration(number("us"))*time.Microsecond + time.Duration(number("ms"))*time.Millisecond
		if number("us") == 0 {
			st.hub.Tick(st.clock)
		}
	default:
		return "", false
	}
	return "ok\n", true
}

func (s *store) state() string {
	var out strings.Builder
	h := s.hub
	out.WriteString("closed")
	for _, shard := range h.inOrder {
		fmt.Fprintf(&out, " %d", shard.ring.last)
		if w := &shard.aside; w.changes.size() > 0 || w.missing > shard.ring.last {
			fmt.Fprintf(&out, " (aside %d", w.changes.size())
			if w.missing > shard.ring.last {
				fmt.Fprintf(&out, ", missing up to %d", w.missing)
			}
			out.WriteString(")")
		}
	}
	for _, key := range h.mergers.keys() {
		m := h.mergers.byKey[key]
		var ids []kv.ShardID
		for _, shard := range m.shards {
			ids = append(ids, shard.id)
		}
		fmt.Fprintf(&out, "; %v released %d", ids, m.ring.last)
	}
	m := h.Metrics()
	if m.StalledMergers > 0 {
		fmt.Fprintf(&out, "; %d records wait for shard %d since %v", m.WaitingRecords, m.StalledShard, m.StalledFor)
	}
	fmt.Fprintf(&out, "\nlagging so far %d gaps %d reads: ring %d history %d questions %d\n",
		m.LaggingCount, m.GapCount, m.RingReadCount, m.HistoryReadCount, m.QuestionCount)
	return out.String()
}

// keys are in the order of their bytes.
func (l *mergers) keys() (keys []string) {
	for key := range l.byKey {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
