package consensustest

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/quoratedb/quorate/consensus"
)

// Trio is a group of three replicas in its steady state, for measuring what an entry costs the cores. It does what package
// replica does in each of its rounds, in the same order, and allocates nothing itself once its buffers have grown: what is counted are the cores.
type Trio struct {
	members [3]trioMember
	leader  *trioMember
	// LeaderTime and LeaderMallocs are what the leader's core took, filled in as Measure says.
	LeaderTime    time.Duration
	LeaderMallocs uint64
	measure       Measure
	broken        error
}

// Measure says what a Trio measures of its leader alone.
type Measure uint8

// The measures. Both cost time themselves: neither belongs into a run whose whole time is measured.
const (
	MeasureNothing Measure = iota
	MeasureTime
	MeasureMallocs // reads the statistics of the whole process: nothing else may run
)

// trioMember is one replica: a core, a log that is durable at once, and what waits for the others.
type trioMember struct {
	core    consensus.Core
	log     trioLog
	role    consensus.RoleChange
	inbox   []consensus.Message
	notices []consensus.Message // what may wait for another message, as in the driver
	applied consensus.Index
	bytes   int // of the entries applied
}

// NewTrio makes three replicas, of which the first leads and has nothing in flight.
func NewTrio(factory Factory) (*Trio, error) {
	t := &Trio{}
	config := consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}
	for i := range t.members {
		m := &t.members[i]
		m.log = trioLog{before: consensus.BootstrapIndex, beforeTerm: consensus.BootstrapTerm}
		m.applied = consensus.BootstrapIndex
		core, err := factory(Member{
			Replica: config.Voters[i], Log: &m.log, Config: config, Applied: consensus.BootstrapIndex,
			HardState: consensus.HardState{Term: consensus.BootstrapTerm, Commit: consensus.BootstrapIndex},
		})
		if err != nil {
			return nil, fmt.Errorf("make replica %d: %w", config.Voters[i], err)
		}
		m.core = core
	}
	t.leader = &t.members[0]
	t.leader.core.Campaign()
	for range 20 {
		t.exchange()
	}
	if err := t.Settle(); err != nil {
		return nil, err
	}
	if s := t.leader.core.Status(); s.Role != consensus.RoleLeader || s.BarrierIndex == 0 || s.Applied != s.Last {
		return nil, fmt.Errorf("replica 1 does not lead at rest: %+v", s)
	}
	return t, nil
}

// Measure begins to measure something of the leader.
func (t *Trio) Measure(m Measure) { t.measure, t.LeaderTime, t.LeaderMallocs = m, 0, 0 }

// Commit has the leader propose all the data in one round, and returns when every replica has the entries and the leader
// has applied them. The others hear of it with the next entries, as they do under load.
func (t *Trio) Commit(data [][]byte) error {
	want := t.leader.applied + consensus.Index(len(data))
	t.atLeader(func() {
		if brief := t.leader.core.Brief(); brief.RoleChange != t.leader.role {
			t.fail(errors.New("the leader does not lead any more"))
		}
		t.fail(t.leader.core.Propose(data))
		t.pump(t.leader)
	})
	t.exchange()
	if t.broken == nil && t.leader.applied != want {
		t.fail(fmt.Errorf("entry %d is applied, and should be %d", t.leader.applied, want))
	}
	return t.broken
}

// Settle lets the news of what is committed reach everybody, and looks whether all agree.
func (t *Trio) Settle() error {
	for i := range t.members {
		m := &t.members[i]
		t.deliver(m.notices)
		m.notices = m.notices[:0]
	}
	t.exchange()
	t.exchange()
	for i := range t.members {
		m := &t.members[i]
		t.fail(m.core.Check())
		if m.applied != t.leader.applied || m.bytes != t.leader.bytes {
			t.fail(fmt.Errorf("replica %d applied %d bytes up to entry %d, the leader %d up to %d", i+1, m.bytes, m.applied, t.leader.bytes, t.leader.applied))
		}
	}
	return t.broken
}

func (t *Trio) fail(err error) {
	if t.broken == nil && err != nil {
		t.broken = err
	}
}

// atLeader measures what f does.
func (t *Trio) atLeader(f func()) {
	switch t.measure {
	case MeasureNothing:
		f()
	case MeasureTime:
		began := time.Now()
		f()
		t.LeaderTime += time.Since(began)
	case MeasureMallocs:
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		t.LeaderMallocs += after.Mallocs - before.Mallocs
	}
}

// exchange lets the followers take what is on its way, then the leader.
func (t *Trio) exchange() {
	t.takeIn(&t.members[1])
	t.takeIn(&t.members[2])
	t.atLeader(func() { t.takeIn(t.leader) })
}

// takeIn is a round of the driver: all messages, then all work.
func (t *Trio) takeIn(m *trioMember) {
	for i := range m.inbox {
		t.fail(m.core.Step(m.inbox[i]))
	}
	clear(m.inbox)
	m.inbox = m.inbox[:0]
	t.pump(m)
}

// pump does the work of a core until there is no more. The log is durable at once.
func (t *Trio) pump(m *trioMember) {
	for m.core.HasReady() && t.broken == nil {
		rd := m.core.Ready()
		if rd.Role != nil {
			m.role = *rd.Role
		}
		t.send(m, rd.Messages)
		if n := len(rd.Committed); n > 0 {
			for i := range rd.Committed {
				m.applied++
				m.bytes += len(rd.Committed[i].Data)
				if rd.Committed[i].Index != m.applied {
					t.fail(fmt.Errorf("entry %d is applied after %d", rd.Committed[i].Index, m.applied-1))
				}
			}
			m.core.AckApplied(m.applied)
		}
		if !rd.Append.Empty() {
			m.log.write(&rd.Append)
			m.core.AckAppend(rd.Append.Mark)
			t.send(m, rd.Append.AfterSync)
		}
		_ = m.core.Quiet()
	}
}

// send puts messages into the inboxes of their receivers. A notice waits for the next message to the same replica, or is dropped for it.
func (t *Trio) send(from *trioMember, messages []consensus.Message) {
	if len(messages) == 0 {
		return
	}
	if from.core.Brief().LeaseForbidden {
		t.fail(errors.New("nobody asked for a transfer"))
	}
	for i := range messages {
		m := &messages[i]
		if m.Notice {
			from.notices = append(from.notices, *m)
			continue
		}
		for k := range from.notices {
			if n := &from.notices[k]; n.To == m.To {
				if !m.Replaces(n) {
					t.deliver(from.notices[k : k+1])
				}
				from.notices = append(from.notices[:k], from.notices[k+1:]...)
				break
			}
		}
		t.deliver(messages[i : i+1])
	}
}

func (t *Trio) deliver(messages []consensus.Message) {
	for i := range messages {
		to := &t.members[messages[i].To-1]
		to.inbox = append(to.inbox, messages[i])
	}
}

// trioLog is a log of bounded length that allocates only until it has reached it.
type trioLog struct {
	entries    []consensus.Entry
	before     consensus.Index // the index before the first entry
	beforeTerm consensus.Term
}

const trioLogEntries = 1024

func (l *trioLog) write(a *consensus.Append) {
	if from := a.TruncateFrom; from != 0 && from <= l.Last() {
		l.entries = l.entries[:from-l.First()]
	}
	l.entries = append(l.entries, a.Entries...)
	if excess := len(l.entries) - trioLogEntries; excess >= trioLogEntries {
		l.before, l.beforeTerm = l.entries[excess-1].Index, l.entries[excess-1].Term
		l.entries = append(l.entries[:0], l.entries[excess:]...)
	}
}

// First implements consensus.LogReader.
func (l *trioLog) First() consensus.Index { return l.before + 1 }

// Last implements consensus.LogReader.
func (l *trioLog) Last() consensus.Index { return l.before + consensus.Index(len(l.entries)) }

// Term implements consensus.LogReader.
func (l *trioLog) Term(i consensus.Index) (consensus.Term, error) {
	switch {
	case i < l.before:
		return 0, consensus.ErrCompacted
	case i == l.before:
		return l.beforeTerm, nil
	case i > l.Last():
		return 0, consensus.ErrUnavailable
	}
	return l.entries[i-l.First()].Term, nil
}

// Entries implements consensus.LogReader. Like the real logs it returns a copy.
func (l *trioLog) Entries(lo, hi consensus.Index, maxBytes int) ([]consensus.Entry, error) {
	switch {
	case lo <= l.before:
		return nil, consensus.ErrCompacted
	case lo >= hi || hi > l.Last()+1:
		return nil, consensus.ErrUnavailable
	}
	var out []consensus.Entry
	for size := 0; lo < hi; lo++ {
		e := l.entries[lo-l.First()]
		if size += e.SizeBytes(); size > maxBytes && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}
