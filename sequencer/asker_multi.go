package sequencer

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// multis are transactions that wait for their revisions (rule 5). A revision that was lost with a session is a gap: the transaction is asked for again, and
// gets another one. So only a revision that Ready has handed out may be decided.
type multis struct {
	// list is in the order of tickets. Invariant: asked of them are asked for in this session, and answers come in that order.
	list  []multi
	asked int
	named int // shards of all of them
	last  MultiTicket
}

type multi struct {
	AllocMulti
	forgotten bool // nobody waits for the revision that will come
}

// AllocMulti asks for the revision of a transaction that writes in these shards, and in no others, once all of them hold its locks (rules 1 and 5). The
// list must not be changed afterwards. It is refused while too much is unanswered: if more than MaxNamed shards would be named.
func (a *Asker) AllocMulti(writers []ShardGeneration) (MultiTicket, bool) {
	m := &a.multis
	if len(writers) == 0 || m.named+len(writers) > MaxNamed {
		return 0, false
	}
	m.last++
	m.list = append(m.list, multi{AllocMulti: AllocMulti{m.last, writers}})
	m.named += len(writers)
	a.attend()
	return m.last, true
}

// ForgetMulti says that nobody waits for the revision any more. What was asked for may be issued, and is a gap.
func (a *Asker) ForgetMulti(ticket MultiTicket) {
	m := &a.multis
	a.ready.Revisions = slices.DeleteFunc(a.ready.Revisions, func(r MultiRevision) bool { return r.Ticket == ticket })
	at, found := slices.BinarySearchFunc(m.list, ticket, func(w multi, t MultiTicket) int { return cmp.Compare(w.Ticket, t) })
	switch {
	case !found:
	case at < m.asked:
		m.list[at].forgotten = true
	default:
		m.named -= len(m.list[at].Writers)
		m.list = slices.Delete(m.list, at, at+1)
	}
	a.attend()
}

func (m *multis) due() bool { return m.asked < len(m.list) }

// ask takes what is still to be asked for in this session, nil if nothing.
func (m *multis) ask() (all []AllocMulti) {
	if !m.due() {
		return nil
	}
	all = make([]AllocMulti, 0, len(m.list)-m.asked)
	for _, w := range m.list[m.asked:] {
		all = append(all, w.AllocMulti)
	}
	m.asked = len(m.list)
	return all
}

// judge looks at answers before anything of their frame counts; before and now are the last revisions that were issued before it and by it.
func (m *multis) judge(revisions []MultiRevision, before, now kv.Revision) error {
	for i, r := range revisions {
		switch {
		case i >= m.asked || m.list[i].Ticket != r.Ticket:
			return fmt.Errorf("%w: transaction %d is not the one that is waited for", errClaims, r.Ticket)
		case r.Revision <= before || r.Revision > now:
			return fmt.Errorf("%w: revision %d for a transaction, between revisions %d and %d", errClaims, r.Revision, before, now)
		}
		before = r.Revision
	}
	return nil
}

// answered takes the answers to the oldest ones, and adds those that somebody waits for to a list.
func (m *multis) answered(revisions, to []MultiRevision) []MultiRevision {
	for i, r := range revisions {
		if !m.list[i].forgotten {
			to = append(to, r)
		}
		m.named -= len(m.list[i].Writers)
		m.list[i] = multi{}
	}
	m.list = m.list[len(revisions):]
	m.asked -= len(revisions)
	return to
}

// restart has all asked for again that somebody waits for.
func (m *multis) restart() {
	m.list = slices.DeleteFunc(m.list, func(w multi) bool {
		if w.forgotten {
			m.named -= len(w.Writers)
		}
		return w.forgotten
	})
	m.asked = 0
}

func (m *multis) check() error {
	named, before := 0, MultiTicket(0)
	for i, w := range m.list {
		if w.Ticket <= before || w.Ticket > m.last || w.forgotten && i >= m.asked {
			return fmt.Errorf("sequencer: transaction %d waits behind %d, and the last one is %d", w.Ticket, before, m.last)
		}
		named, before = named+len(w.Writers), w.Ticket
	}
	if named != m.named || named > MaxNamed || m.asked > len(m.list) {
		return fmt.Errorf("sequencer: transactions name %d shards, not %d; %d of %d are asked for", named, m.named, m.asked, len(m.list))
	}
	return nil
}
