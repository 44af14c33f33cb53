package issuer

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// What coordinators of transactions ask for.

// multi is a call of Multi that is not answered.
type multi struct {
	ticket  sequencer.MultiTicket // 0: it is not asked for yet
	writers []sequencer.ShardGeneration
	since   time.Duration
	got     func(kv.Revision, error)
}

// Multi asks for the revision of a transaction over several shards, once it holds its locks in all of them, in the logs (rules 1, 5 and 20). writers are the
// shards in which it writes, exactly and each once. got is called once, from any goroutine, with a revision that nobody else has; or with kv.ErrStopped, or
// kv.ErrTimeout after two election timeouts: then no revision will come. A revision that is not decided is a gap. It fails with kv.ErrTooManyRequests if there
// are more than sequencer.MaxNamed writers, or none. Multi must not be called with a lock that got needs.
func (i *Issuer) Multi(writers []kv.ShardID, got func(kv.Revision, error)) {
	named := make([]sequencer.ShardGeneration, len(writers))
	for at, shard := range writers {
		named[at].Shard = shard
	}
	i.mu.Lock()
	switch {
	case i.stopped:
		i.later(func() { got(0, kv.ErrStopped) })
	case len(named) == 0 || len(named) > sequencer.MaxNamed:
		i.later(func() { got(0, kv.ErrTooManyRequests) })
	default:
		if revision, issued := i.takeMulti(named); issued {
			i.later(func() { got(revision, nil) })
			break
		}
		i.multis = append(i.multis, multi{writers: named, since: i.time, got: got})
		i.askMultis()
	}
	i.pump()
	i.unlock()
}

// takeMulti takes a revision from the sequencer, if it is here and has one at once. The lease is looked at when the revision is issued (rule 4); without it,
// it is a gap.
func (i *Issuer) takeMulti(writers []sequencer.ShardGeneration) (kv.Revision, bool) {
	core := i.issuing.core
	if core == nil || !i.node.SystemLeaseHolds() {
		return 0, false
	}
	revision, err := core.TakeMulti(writers)
	if err != nil {
		return 0, false // there is no room: it is asked for like from elsewhere
	}
	i.publish()
	return revision, i.node.SystemLeaseHolds()
}

// askMultis asks for what has not been asked for, as far as the asker has room.
func (i *Issuer) askMultis() {
	for at := range i.multis {
		m := &i.multis[at]
		if m.ticket != 0 {
			continue
		}
		ticket, ok := i.asker.AllocMulti(m.writers)
		if !ok {
			return
		}
		m.ticket = ticket
		i.metrics.multis.Add(1)
	}
}

// multiRevisions hands out what has arrived. Those that wait are in the order of their tickets.
func (i *Issuer) multiRevisions(revisions []sequencer.MultiRevision) {
	if len(revisions) == 0 {
		return
	}
	i.multis = slices.DeleteFunc(i.multis, func(m multi) bool {
		if len(revisions) == 0 || m.ticket != revisions[0].Ticket {
			return false
		}
		revision := revisions[0].Revision
		revisions = revisions[1:]
		i.Hear(revision)
		i.later(func() { m.got(revision, nil) })
		return true
	})
	i.askMultis()
}

// giveUpMultis fails those who have waited for too long, and asks again for what the asker had no room for.
func (i *Issuer) giveUpMultis() {
	i.failMultis(kv.ErrTimeout, func(m *multi) bool { return i.time-m.since >= 2*i.options.ElectionTimeout })
	i.askMultis()
}

func (i *Issuer) failMultis(err error, fails func(*multi) bool) {
	i.multis = slices.DeleteFunc(i.multis, func(m multi) bool {
		if !fails(&m) {
			return false
		}
		if m.ticket != 0 {
			i.asker.ForgetMulti(m.ticket)
		}
		i.later(func() { m.got(0, err) })
		return true
	})
}

// checkMultis tells what is wrong with those that wait; nil: nothing.
func (i *Issuer) checkMultis() error {
	before := sequencer.MultiTicket(0)
	for at, m := range i.multis {
		if m.got == nil || m.ticket != 0 && m.ticket <= before || m.ticket == 0 && i.stopped {
			return fmt.Errorf("issuer: transaction %d of %d waits with ticket %d behind %d", at, len(i.multis), m.ticket, before)
		}
		before = max(before, m.ticket)
	}
	return nil
}
