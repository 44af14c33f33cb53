package paxos

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
)

// The explorer visits every state that three real cores can reach within small bounds: messages are delivered in any
// order, lost (never delivered) and delivered twice, writes become durable at any time or never, and a
// replica may crash between any two of these effects. What must hold is judged from the disks.

var exploreStates = flag.Int("explore-slot-states", 8_000, "states that the explorer visits at most in each setting")

const explorers = 3

// bounds are what may still happen in a run.
type bounds struct{ campaigns, proposals, crashes, duplicates int }

// disk is a log that forgets what was not synced.
type disk struct {
	entries map[consensus.Index]consensus.Entry // of the process
	hard    consensus.HardState
	durable map[consensus.Index]consensus.Entry
	kept    consensus.HardState
	pending []consensus.Append
}

const diskBase = consensus.BootstrapIndex

func (d *disk) First() consensus.Index { return diskBase + 1 }

func (d *disk) Last() consensus.Index {
	last := consensus.Index(diskBase)
	for i := range d.entries {
		last = max(last, i)
	}
	return last
}

func (d *disk) Term(i consensus.Index) (consensus.Term, error) {
	if i == diskBase {
		return consensus.BootstrapTerm, nil
	}
	if e, ok := d.entries[i]; ok {
		return e.Term, nil
	}
	return 0, consensus.ErrUnavailable
}

func (d *disk) Entries(lo, hi consensus.Index, _ int) (entries []consensus.Entry, err error) {
	for i := lo; i < hi; i++ {
		if e, ok := d.entries[i]; ok {
			entries = append(entries, e)
		}
	}
	if entries == nil {
		return nil, consensus.ErrUnavailable
	}
	return entries, nil
}

func (d *disk) clone() *disk {
	return &disk{maps.Clone(d.entries), d.hard, maps.Clone(d.durable), d.kept, slices.Clone(d.pending)}
}

// vote is a value on a disk.
type vote struct {
	slot   consensus.Index
	ballot consensus.Term
}

// world is one state of everything.
type world struct {
	cores   [explorers]*core // nil while down
	disks   [explorers]*disk
	flight  []consensus.Message
	left    bounds
	votes   map[vote]map[string]int             // value -> bit set of replicas that ever had it durably
	chosen  map[consensus.Index]consensus.Entry // by a majority under one ballot
	applied map[consensus.Index]consensus.Entry
	trace   []string
	// blind: the cores do not check themselves, so that only what lies on the disks can tell.
	blind bool
}

func newWorld(left bounds) *world {
	w := &world{left: left, votes: make(map[vote]map[string]int), chosen: make(map[consensus.Index]consensus.Entry), applied: make(map[consensus.Index]consensus.Entry)}
	for r := range w.disks {
		hard := consensus.HardState{Term: consensus.BootstrapTerm, Commit: diskBase}
		w.disks[r] = &disk{make(map[consensus.Index]consensus.Entry), hard, make(map[consensus.Index]consensus.Entry), hard, nil}
		if err := w.start(r); err != nil {
			panic(err)
		}
	}
	return w
}

// start brings a replica up with what its disk holds.
func (w *world) start(r int) error {
	d := w.disks[r]
	d.entries, d.hard, d.pending = maps.Clone(d.durable), d.kept, nil
	made, err := New(Options{
		Replica: consensus.ReplicaID(r + 1), HardState: d.hard, Applied: diskBase, Rand: rand.New(rand.NewPCG(1, 1)),
		Config: consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}},
	}, d)
	if err != nil {
		return fmt.Errorf("replica %d does not start: %w", r+1, err)
	}
	w.cores[r] = made.(*core)
	return w.drain(r)
}

func (w *world) clone() *world {
	n := &world{flight: slices.Clone(w.flight), left: w.left, chosen: maps.Clone(w.chosen), applied: maps.Clone(w.applied), trace: slices.Clip(w.trace)}
	n.votes = make(map[vote]map[string]int, len(w.votes))
	for k, v := range w.votes {
		n.votes[k] = maps.Clone(v)
	}
	for r, c := range w.cores {
		n.disks[r] = w.disks[r].clone()
		if c != nil {
			n.cores[r] = c.clone(n.disks[r])
		}
	}
	return n
}

// clone copies the core so that the copy can go another way.
func (c *core) clone(log consensus.LogReader) *core {
	d := *c
	d.log = log
	d.window.slots = slices.Clone(c.window.slots)
	d.applying = slices.Clone(c.applying)
	d.messages, d.after, d.toWrite, d.reads = slices.Clone(c.messages), slices.Clone(c.after), slices.Clone(c.toWrite), slices.Clone(c.reads)
	d.writes = slices.Clone(c.writes)
	for i := range d.writes {
		d.writes[i].messages = slices.Clone(d.writes[i].messages)
	}
	d.shipping = maps.Clone(c.shipping)
	if c.campaign != nil {
		d.campaign = &campaign{granted: maps.Clone(c.campaign.granted), behind: maps.Clone(c.campaign.behind), phase: c.campaign.phase.clone()}
	}
	if c.lead != nil {
		l := *c.lead
		l.waiting, l.reads, l.extending = slices.Clone(l.waiting), slices.Clone(l.reads), l.extending.clone()
		l.peers = slices.Clone(l.peers)
		for i, p := range l.peers {
			q := *p
			q.extra, q.inflight = maps.Clone(p.extra), slices.Clone(p.inflight)
			l.peers[i] = &q
		}
		d.lead = &l
	}
	return &d
}

func (p *phase1) clone() *phase1 {
	if p == nil {
		return nil
	}
	q := *p
	q.found = maps.Clone(p.found)
	q.promises = make(map[consensus.ReplicaID]*promised, len(p.promises))
	for id, known := range p.promises {
		copied := *known
		q.promises[id] = &copied
	}
	return &q
}

var exploreSeed = maphash.MakeSeed()

// fingerprint identifies the state, timers and counters of messages left out.
func (w *world) fingerprint() uint64 {
	var h maphash.Hash
	h.SetSeed(exploreSeed)
	var buf []byte
	number := func(values ...uint64) {
		for _, v := range values {
			buf = binary.LittleEndian.AppendUint64(buf, v)
		}
	}
	entry := func(e *consensus.Entry) {
		number(uint64(e.Index), uint64(e.Term), uint64(e.Kind), uint64(len(e.Data)))
		buf = append(buf, e.Data...)
	}
	number(uint64(w.left.campaigns), uint64(w.left.proposals), uint64(w.left.crashes), uint64(w.left.duplicates))
	for r, c := range w.cores {
		d := w.disks[r]
		number(uint64(d.kept.Term), uint64(len(d.pending)), uint64(len(d.durable)))
		for _, i := range slices.Sorted(maps.Keys(d.durable)) {
			e := d.durable[i]
			entry(&e)
		}
		if c == nil {
			number(0)
			continue
		}
		number(1, uint64(c.promised), uint64(c.decided), uint64(c.handed), uint64(c.commitBallot), uint64(c.commitMark), uint64(c.role), uint64(c.leader), uint64(c.ackedTerm))
		for i := range c.window.slots {
			s := &c.window.slots[i]
			number(uint64(s.ballot))
			if s.write <= c.acked {
				number(1)
			}
			entry(&s.entry)
		}
		for i := range c.writes {
			number(uint64(len(c.writes[i].messages)))
		}
		if p := c.running(); p != nil {
			number(uint64(p.ballot), uint64(p.from))
			for _, id := range slices.Sorted(maps.Keys(p.promises)) {
				number(uint64(id), uint64(p.promises[id].decided))
			}
			for _, i := range slices.Sorted(maps.Keys(p.found)) {
				s := p.found[i]
				number(uint64(s.ballot))
				entry(&s.entry)
			}
		}
		if l := c.lead; l != nil {
			number(uint64(l.last), uint64(l.match))
			for _, p := range l.peers {
				number(uint64(p.match), uint64(len(p.extra)), uint64(p.next))
			}
		}
	}
	encoded := make([]string, len(w.flight))
	for i := range w.flight {
		encoded[i] = string(consensus.AppendMessage(nil, &w.flight[i]))
	}
	slices.Sort(encoded)
	for _, m := range encoded {
		buf = append(buf, m...)
	}
	h.Write(buf)
	return h.Sum64()
}

// drain moves the work of a core out and checks what it says.
func (w *world) drain(r int) error {
	c, d := w.cores[r], w.disks[r]
	for c.HasReady() {
		rd := c.Ready()
		w.send(rd.Messages)
		if !rd.Append.Empty() {
			for _, e := range rd.Append.Entries {
				d.entries[e.Index] = e
			}
			if rd.Append.HardState != nil {
				d.hard = *rd.Append.HardState
			}
			d.pending = append(d.pending, rd.Append)
		}
		for _, e := range rd.Committed {
			known, ok := w.applied[e.Index]
			if ok && !sameEntry(known, e) {
				return fmt.Errorf("replica %d applies %q of term %d at %d, another one %q of term %d", r+1, e.Data, e.Term, e.Index, known.Data, known.Term)
			}
			if chosen, ok := w.chosen[e.Index]; !ok || !sameEntry(chosen, e) {
				return fmt.Errorf("replica %d applies %q of term %d at %d, which is not chosen", r+1, e.Data, e.Term, e.Index)
			}
			w.applied[e.Index] = e
			c.AckApplied(e.Index)
		}
	}
	if w.blind {
		return nil
	}
	return c.Check()
}

func sameEntry(a, b consensus.Entry) bool {
	return a.Term == b.Term && a.Kind == b.Kind && string(a.Data) == string(b.Data)
}

// send puts those messages into flight that decide anything; heartbeats only repeat what others say.
func (w *world) send(messages []consensus.Message) {
	for _, m := range messages {
		switch m.Kind {
		case KindPrepare, KindPromise, KindAccept, KindAccepted:
			w.flight = append(w.flight, m)
		}
	}
}

// sync makes the oldest write durable.
func (w *world) sync(r int) error {
	d := w.disks[r]
	a := d.pending[0]
	d.pending = slices.Clone(d.pending[1:])
	for _, record := range a.Entries {
		d.durable[record.Index] = record
		e, ballot, err := fromRecord(record)
		if err != nil {
			return err
		}
		if err := w.voted(r, e, ballot); err != nil {
			return err
		}
	}
	if a.HardState != nil {
		if a.HardState.Term < d.kept.Term {
			return fmt.Errorf("the durable promise of replica %d goes from %d to %d", r+1, d.kept.Term, a.HardState.Term)
		}
		d.kept = *a.HardState
	}
	w.cores[r].AckAppend(a.Mark)
	w.send(a.AfterSync)
	return w.drain(r)
}

// voted: one value per slot and ballot, and one chosen value per slot.
func (w *world) voted(r int, e consensus.Entry, ballot consensus.Term) error {
	key := vote{e.Index, ballot}
	value := fmt.Sprintf("%d %d %s", e.Term, e.Kind, e.Data)
	if w.votes[key] == nil {
		w.votes[key] = make(map[string]int)
	}
	w.votes[key][value] |= 1 << r
	if len(w.votes[key]) > 1 {
		return fmt.Errorf("two values for slot %d under ballot %d: %v", e.Index, ballot, w.votes[key])
	}
	if bits := w.votes[key][value]; bits&(bits-1) == 0 {
		return nil // of a single replica
	}
	if known, ok := w.chosen[e.Index]; ok && !sameEntry(known, e) {
		return fmt.Errorf("slot %d: %q of term %d was chosen, and now %q of term %d under ballot %d", e.Index, known.Data, known.Term, e.Data, e.Term, ballot)
	}
	w.chosen[e.Index] = e
	return nil
}

// action is one thing that may happen.
type action struct {
	name string
	do   func(*world) error
}

func (w *world) actions() (all []action) {
	add := func(name string, do func(*world) error) { all = append(all, action{name, do}) }
	for i := range w.flight {
		r := int(w.flight[i].To) - 1
		if w.cores[r] == nil {
			continue
		}
		deliver := func(w *world) error { _ = w.cores[r].Step(w.flight[i]); return nil }
		name := fmt.Sprintf("deliver %d>%d kind %d", w.flight[i].From, w.flight[i].To, w.flight[i].Kind)
		add(name, func(w *world) error {
			_ = deliver(w)
			w.flight = slices.Delete(w.flight, i, i+1)
			return w.drain(r)
		})
		if w.left.duplicates > 0 {
			add(name+" twice", func(w *world) error { w.left.duplicates--; _ = deliver(w); return w.drain(r) })
		}
	}
	for r, c := range w.cores {
		if c == nil {
			add(fmt.Sprintf("restart %d", r+1), func(w *world) error { return w.start(r) })
			continue
		}
		if len(w.disks[r].pending) > 0 {
			add(fmt.Sprintf("sync %d", r+1), func(w *world) error { return w.sync(r) })
		}
		if w.left.campaigns > 0 && c.lead == nil && r < 2 {
			add(fmt.Sprintf("campaign %d", r+1), func(w *world) error {
				w.left.campaigns--
				w.cores[r].campaignAtOnce()
				return w.drain(r)
			})
		}
		if w.left.proposals > 0 && c.lead != nil {
			add(fmt.Sprintf("propose %d", r+1), func(w *world) error {
				w.left.proposals--
				_ = w.cores[r].Propose([][]byte{fmt.Appendf(nil, "v%d", w.left.proposals)})
				return w.drain(r)
			})
		}
		if w.left.crashes > 0 {
			add(fmt.Sprintf("crash %d", r+1), func(w *world) error { w.left.crashes--; w.cores[r] = nil; return nil })
		}
	}
	return all
}

// campaignAtOnce leaves the probe out, which binds nobody.
func (c *core) campaignAtOnce() {
	c.touched = true
	c.becomeFollower(0)
	c.role = consensus.RoleCandidate
	c.campaign = &campaign{granted: make(map[consensus.ReplicaID]bool), behind: make(map[consensus.ReplicaID]bool)}
	c.startPhase1(prepareTransfer)
}

// explore visits states depth first until there are no more or the limit is reached.
func explore(left bounds, limit int) (states int, complete bool, err error) {
	seen := make(map[uint64]bool)
	rng := rand.New(rand.NewPCG(7, 7))
	stack := []*world{newWorld(left)}
	for len(stack) > 0 {
		w := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		actions := w.actions()
		rng.Shuffle(len(actions), func(i, j int) { actions[i], actions[j] = actions[j], actions[i] })
		for _, a := range actions {
			next := w.clone()
			next.trace = append(next.trace, a.name)
			if err := a.do(next); err != nil {
				return len(seen), false, fmt.Errorf("%w\nafter %q", err, next.trace)
			}
			if f := next.fingerprint(); !seen[f] {
				seen[f] = true
				stack = append(stack, next)
			}
		}
		if len(seen) > limit {
			return len(seen), false, nil
		}
	}
	return len(seen), true, nil
}

// wander takes random ways through the same worlds: it gets deeper than explore, and visits less. mutate, if
// set, breaks the world before and after every action.
func wander(left bounds, walks int, seed uint64, mutate func(*world)) (walk int, err error) {
	rng := rand.New(rand.NewPCG(seed, 9))
	for walk := range walks {
		w := newWorld(left)
		w.blind = mutate != nil
		for range 120 {
			actions := w.actions()
			if len(actions) == 0 {
				break
			}
			a := actions[rng.IntN(len(actions))]
			w.trace = append(w.trace, a.name)
			if mutate != nil {
				mutate(w)
			}
			if err := a.do(w); err != nil {
				return walk, fmt.Errorf("%w\nafter %q", err, w.trace)
			}
		}
	}
	return walks, nil
}

// settings are explored one by one; the first are small enough to be exhausted.
var settings = []bounds{
	{campaigns: 1, proposals: 1},
	{campaigns: 1, proposals: 0, crashes: 1},
	{campaigns: 2, proposals: 0},
	{campaigns: 2, proposals: 1},
	{campaigns: 2, proposals: 2, crashes: 1, duplicates: 1},
	{campaigns: 3, proposals: 2, crashes: 2},
}

func TestExplore(t *testing.T) {
	for _, left := range settings {
		states, complete, err := explore(left, *exploreStates)
		if err != nil {
			t.Fatalf("%+v: %v", left, err)
		}
		t.Logf("%+v: %d states, all of them: %v", left, states, complete)
	}
}

// TestWander goes deeper than TestExplore.
func TestWander(t *testing.T) {
	left := bounds{campaigns: 4, proposals: 3, crashes: 2, duplicates: 2}
	if walk, err := wander(left, *exploreStates/8, uint64(*exploreStates), nil); err != nil {
		t.Fatalf("walk %d: %v", walk, err)
	}
}

// each calls f for every running core.
func each(f func(*core, *disk)) func(*world) {
	return func(w *world) {
		for r, c := range w.cores {
			if c != nil {
				f(c, w.disks[r])
			}
		}
	}
}

// flying calls f for every message in flight.
func flying(f func(*consensus.Message)) func(*world) {
	return func(w *world) {
		for i := range w.flight {
			f(&w.flight[i])
		}
	}
}

// mutations break the protocol, each in one place.
var mutations = map[string]func(*world){
	"an acceptor forgets its promise": each(func(c *core, d *disk) {
		if c.lead == nil && c.campaign == nil && len(d.pending) == 0 && !c.HasReady() {
			c.promised = consensus.BootstrapTerm
			for i := range c.window.slots {
				c.promised = max(c.promised, c.window.slots[i].ballot)
			}
			c.hard.Term = c.promised
		}
	}),
	"no promise is needed but the own":    each(func(c *core, _ *disk) { c.quorums.first = 1 }),
	"one acceptance decides":              each(func(c *core, _ *disk) { c.quorums.second = 1 }),
	"a write counts before it is durable": each(func(c *core, _ *disk) { c.acked, c.ackedTerm = c.marked.Seq, c.promised }),
	"promises are not written": func(w *world) {
		for _, d := range w.disks {
			d.kept.Term = consensus.BootstrapTerm
			for i := range d.pending {
				d.pending[i].HardState = nil
			}
		}
	},
	"entries are not written": func(w *world) {
		for _, d := range w.disks {
			clear(d.durable)
		}
	},
	"a promise leaves out what was accepted": flying(func(m *consensus.Message) {
		if m.Kind == KindPromise {
			m.Entries = nil
		}
	}),
	"a refusal counts as a promise": flying(func(m *consensus.Message) {
		if m.Kind == KindPromise {
			m.Reject = false
		}
	}),
	"a refusal counts as an acceptance": flying(func(m *consensus.Message) {
		if m.Kind == KindAccepted && m.Reject {
			m.Reject, m.Index, m.Hint = false, 2, 2
		}
	}),
	"an acknowledgement claims one slot too many": flying(func(m *consensus.Message) {
		if m.Kind == KindAccepted && !m.Reject && m.Index == 2 {
			m.Index, m.Hint = 3, 3
		}
	}),
	"the decided mark is one too far": flying(func(m *consensus.Message) {
		if m.Kind == KindAccept {
			m.Commit = 3
		}
	}),
	"a ballot is used twice": each(func(c *core, _ *disk) {
		if c.lead == nil && c.campaign == nil {
			c.highestSeen = min(c.highestSeen, consensus.BootstrapTerm)
		}
	}),
}

// TestWanderFindsMutations: every one of them is found, and how is told.
func TestWanderFindsMutations(t *testing.T) {
	left := bounds{campaigns: 3, proposals: 3, crashes: 2, duplicates: 1}
	for _, name := range slices.Sorted(maps.Keys(mutations)) {
		walk, err := wander(left, 20_000, 1, mutations[name])
		if err == nil {
			t.Errorf("%s: not found in %d walks", name, walk)
			continue
		}
		t.Logf("%s: found in walk %d: %.160v", name, walk, err)
	}
}
