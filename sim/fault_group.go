package sim

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// Faults of one group on one node, while the node's others go on.
const (
	// FaultUnreadable lets the rows of Shard on Node be unreadable for Duration, though nothing is damaged. The replica may stop; if it does, its node must
	// say so and go on with all others. Then the process is started again; now and then the next one
	// cannot read them either, and has to begin without the replica.
	FaultUnreadable FaultKind = "unreadable"
	// FaultRemove takes Node's replica of Shard away and deletes its rows. What the replica voted for is forgotten. Every other time the shard comes back to the
	// same disk, where it begins another life; otherwise it does once the node has other disks, which it gets after everything else was healed.
	FaultRemove FaultKind = "remove-group"
)

var errUnreadable = errors.New("sim: the row cannot be read")

func (w *world) injectGroup(f *Fault, n *node, random *rand.Rand) bool {
	switch f.Kind {
	case FaultUnreadable:
		if p := w.group(f.Shard).of(n); p != nil && p.up() && n.damage.unreadable == nil {
			p.hide(f.Duration, random)
		}
	case FaultRemove:
		w.remove(w.group(f.Shard), n, n.diskID, 50)
	default:
		return false
	}
	return true
}

// hide makes the part's rows unreadable for a while.
func (p *part) hide(lasts time.Duration, random *rand.Rand) {
	n := p.node
	life := n.life
	n.damage.unreadable, p.group.brittle = keys.Spans(p.group.id), true
	n.w.after(lasts, func() {
		switch {
		case n.life != life || !n.up:
		case p.failed == nil:
			n.damage.unreadable = nil
		default:
			p.restart(life, random)
		}
	})
}

// restart ends a process that goes on without this part.
func (p *part) restart(life uint64, random *rand.Rand) {
	n := p.node
	switch {
	case n.w.ended || !n.up || n.life != life:
		return
	case n.frozen() || n.driving:
		n.w.after(time.Millisecond, func() { p.restart(life, random) })
		return
	}
	n.damage.lasting = n.damage.unreadable != nil && n.holdsOther(p) && random.IntN(3) == 0
	n.crashPlan = crashPlan{random: survival(random), down: time.Millisecond}
	n.crash()
}

// holdsOther tells whether the next process has another group.
func (n *node) holdsOther(p *part) bool {
	for other := range n.held() {
		if other != p && !other.removed {
			return true
		}
	}
	return false
}

// groupFailed is told when the driver goes on without one of its groups.
func (p *part) groupFailed(err error) {
	n := p.node
	switch p.failed = err; {
	case !errors.Is(err, errUnreadable):
		n.failed = err
	default:
		n.w.mark("group failed alone")
		if n.w.reading() {
			n.w.line("%s | stops: %v", p.name(), err)
		}
	}
}

// nodeFailed is told when the driver stops.
func (n *node) nodeFailed(err error) {
	n.failed = err
	if errors.Is(err, errUnreadable) {
		n.w.fail(Crash, "node %d stops, although only one of its groups cannot be read: %v", n.id, err)
	}
}

// failedAlone tells whether the process goes on without one of its groups.
func (n *node) failedAlone() bool {
	for p := range n.held() {
		if p.failed != nil {
			return true
		}
	}
	return false
}

// checkFailures tells whether a node says of those groups that have failed that they have, and of no others.
func (n *node) checkFailures() {
	told := uint64(0)
	for p := range n.held() {
		if p.failed != nil {
			told++
		}
		if says := p.up() && strings.HasPrefix(p.replica.Standing(), "failed"); says != (p.failed != nil && p.replica != nil) {
			p.group.fail(Crash, "node %d has told of the replica's failure %v, and says %q", n.id, p.failed, p.replica.Standing())
		}
		if p.failed != nil && p.up() && (p.replica.IsLeader() || p.replica.LeaseValid()) {
			p.group.fail(Crash, "node %d serves with a replica that has failed: %v", n.id, p.failed)
		}
	}
	if counted := n.store.Metrics().GroupsFailed; counted != told {
		n.w.fail(Crash, "node %d counts %d groups that have failed, and has told of %d", n.id, counted, told)
	}
}

// remove takes the node's replica of a group away, as soon as the others and the node's other groups can do without this node's data.
func (w *world) remove(g *group, n *node, disk uint64, attempts int) {
	if w.ended || attempts == 0 || n.diskID != disk || g.of(n) == nil || g.of(n).removed {
		return
	}
	if !w.mayRemove(g, n) {
		w.after(20*time.Millisecond, func() { w.remove(g, n, disk, attempts-1) })
		return
	}
	w.mark("group removed")
	if w.reading() {
		w.line("%s | is removed", g.of(n).name())
	}
	n.enter(g.of(n).remove)
}

func (w *world) mayRemove(g *group, n *node) bool {
	p, rest := g.of(n), 0
	for other := range n.held() {
		if other != p && !other.removed {
			rest++
		}
	}
	ready := p.up() && *p.reads == 0 && rest > 0 && !n.driving && !n.frozen() && !w.plan.LoseQuorum && !n.damage.stale && !n.doubled()
	return ready && w.mayDamage(n, "a replica was removed")
}

// remove does what an operator does who takes the replica away.
func (p *part) remove() {
	n, life := p.node, p.node.life
	p.removed = true
	p.close()
	n.store.Remove(p.groupID(), func(err error) {
		switch {
		case n.life != life || !n.up:
		case err == nil:
			p.dropRows()
			if n.random.IntN(2) == 0 {
				disk := n.diskID
				n.w.after(time.Duration(n.random.Int64N(int64(time.Second))), func() { p.comeBack(disk, life) })
			}
		case !errors.Is(err, kv.ErrStopped) && n.failed == nil && n.store.Err() == nil:
			p.group.fail(Crash, "node %d cannot remove its replica: %v", n.id, err)
		}
	})
}

// comeBack adds the group again to the disk that it was removed from in the given life of the node.
func (p *part) comeBack(disk, life uint64) {
	n, d := p.node, &p.node.damage
	switch {
	case n.w.ended || n.diskID != disk || len(d.rows)+len(d.entries) > 0 || d.lying || d.lied || d.wiped || d.former || d.stale:
		return // it gets other disks
	case !n.up || n.frozen() || n.driving || d.unreadable != nil:
		n.w.after(time.Millisecond, func() { p.comeBack(disk, life) })
		return
	}
	if life != n.life {
		p.dropRows() // they were not gone for good
	}
	life = n.life
	n.store.Add(p.groupID(), p.group.first(), func(err error) {
		switch {
		case n.life != life || !n.up || n.store.Err() != nil || errors.Is(err, kv.ErrStopped) || errors.Is(err, errUnreadable):
			return
		case err == nil:
			if p.removed = false; !n.lacksGroups() {
				d.why = ""
			}
			n.w.mark("group came back to the same disk")
			err = p.opened()
		}
		if err != nil {
			n.failed = err
		}
	})
}

// lacksGroups tells whether a replica was removed from the node's disk. Then it has to get another one.
func (n *node) lacksGroups() bool {
	for p := range n.held() {
		if p.removed {
			return true
		}
	}
	return false
}

// close ends what the process has of the part.
func (p *part) close() {
	p.count()
	p.gateway.Close()
	p.gateway, p.replica = nil, nil
}

// dropRows does what is left to whoever has removed a replica.
func (p *part) dropRows() {
	n := p.node
	b := n.engine.NewBatch()
	defer b.Close()
	for _, s := range keys.Spans(p.group.id) {
		b.DeleteRange(s.Lower, s.Upper)
	}
	if err := n.engine.Apply(b); err != nil && !n.hasNoPower() {
		n.w.fail(Crash, "node %d cannot delete the rows of shard %d: %v", n.id, p.group.id, err)
	}
	n.w.mark("rows of a removed group deleted")
}

// lateShare: one group in so many is added to a process that runs, instead of being there from the start.
const lateShare = 4

// choose says which groups the process begins with, and which it gets later.
func (n *node) choose() (begin []*part) {
	for p := range n.held() {
		p.replica, p.gateway, p.streams, p.failed, p.late = nil, nil, nil, nil, false
		switch {
		case p.removed:
		case len(begin) > 0 && !n.w.shared() && !n.damage.lasting && n.random.IntN(lateShare) == 0:
			p.late = true
		default:
			begin = append(begin, p)
		}
	}
	return begin
}

// addLate adds a group to the process.
func (p *part) addLate() {
	n, life := p.node, p.node.life
	n.push(n.w.now+time.Duration(n.random.Int64N(int64(400*time.Millisecond))), func() {
		n.store.Add(p.groupID(), p.group.first(), func(err error) {
			switch {
			case n.life != life || !n.up || n.store.Err() != nil || errors.Is(err, kv.ErrStopped):
			case err == nil:
				err = p.opened()
			}
			if err != nil && n.life == life && n.up && n.store.Err() == nil && !errors.Is(err, kv.ErrStopped) {
				n.failed = err
			}
		})
	})
}

// opened takes the replica that the driver has, and lets clients in.
func (p *part) opened() (err error) {
	n := p.node
	p.replica = n.store.Replica(p.groupID())
	if p.gateway, err = gateway.New(p.gatewayOptions()); err != nil {
		return err
	}
	p.begin()
	n.w.mark("group added to a running node")
	for _, other := range n.w.processes() {
		if other.id != n.id && n.w.net.conn(n, other).open[side(n, other)] {
			p.gateway.PeerUp(other.id, n.dialect(min(n.format, other.format)))
		}
	}
	return nil
}

// dialect is what another node understands. Whoever holds shards of one store knows what that takes.
func (n *node) dialect(version uint16) gateway.Dialect {
	return gateway.Dialect{Deadlines: version >= driver.FormatDeadlines, Shards: version >= driver.FormatShards, Revisions: n.w.shared()}
}

// read tells whether a row can be read.
func (d *damage) read(key []byte) error {
	for i := range d.unreadable {
		if s := &d.unreadable[i]; string(key) >= string(s.Lower) && string(key) < string(s.Upper) {
			return errUnreadable
		}
	}
	return d.row(key)
}

// readable tells whether everything in some spans can be read.
func (d *damage) readable(spans []storage.Span) error {
	for _, s := range spans {
		for _, u := range d.unreadable {
			if string(s.Lower) < string(u.Upper) && string(u.Lower) < string(s.Upper) {
				return errUnreadable
			}
		}
	}
	return d.between(spans)
}
