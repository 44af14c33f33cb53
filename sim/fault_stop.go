package sim

import (
	"errors"
	"math/rand/v2"
	"time"
)

// FaultStop ends Node's process in order, as SIGTERM does, and starts it again after Duration.
const FaultStop FaultKind = "stop"

func (w *world) injectStop(f *Fault, n *node, random *rand.Rand) bool {
	if f.Kind != FaultStop {
		return false
	}
	w.stopInOrder(f, n, random)
	return true
}

// patienceToHandOver is how long a process that stops waits until somebody else leads.
const patienceToHandOver = 200 * time.Millisecond

// patienceToStop is how long a process may take to come to an end, as its supervisor sees it. Then it is killed.
const patienceToStop = 500 * time.Millisecond

func (w *world) stopInOrder(f *Fault, n *node, random *rand.Rand) {
	life, until := n.life, w.now+patienceToStop
	asked, handedOver := false, false
	var attempt func()
	attempt = func() {
		switch {
		case w.ended || !n.up || n.life != life:
		case w.now >= until:
			w.power(f, n, random)
		case w.now < n.frozenUntil || n.driving:
			w.after(time.Millisecond, attempt)
		case !asked:
			asked = true
			n.handOver(func() { handedOver = true })
			w.after(time.Millisecond, attempt)
		case !handedOver && w.now < until-patienceToStop+patienceToHandOver, len(n.jobs) > 0: // server.Server waits for its goroutines
			w.after(time.Millisecond, attempt)
		default:
			n.shutdown(f.Duration)
		}
	}
	attempt()
}

// handOver does what server.Server.handOver does.
func (n *node) handOver(over func()) {
	leads := false
	for p := range n.held() {
		leads = leads || p.up() && p.replica.IsLeader()
	}
	n.enter(func() {
		n.store.HandOver(func(err error) {
			if over(); leads && err == nil {
				n.w.mark("leadership handed over before a stop")
			}
		})
	})
}

// shutdown does the rest of what server.Server.shutdown does: clients first, then the driver, then the disk.
func (n *node) shutdown(down time.Duration) {
	n.w.mark("stopped in order")
	if n.w.reading() {
		n.w.line("node %d stops in order", n.id)
	}
	n.crashPlan = crashPlan{down: down}
	n.enter(func() {
		for f := range n.fronts() {
			f.gateway.Close()
		}
		n.store.Close()
		if n.issuer != nil {
			n.issuer.Stop()
		}
	})
	if !n.up {
		return // it crashed meanwhile
	}
	n.fuse, n.crashAtSync = 0, false
	n.up = false // nothing of what follows can be noticed outside, and nobody waits for it in virtual time
	err := n.store.Err()
	if err == nil {
		err = n.store.Flush()
	}
	if err == nil {
		err = n.disks.stopped()
	}
	if err != nil && !n.hasNoPower() && !errors.Is(err, errUnreadable) {
		n.w.fail(Crash, "node %d could not stop in order: %v", n.id, err)
	}
	n.end()
	n.disks.crash(nil)
	if n.damage.lied {
		n.lose("it forgot what it had acknowledged: "+n.damage.why, true, down)
		return
	}
	n.w.after(max(down, time.Millisecond), n.start)
}
