package liveness

import (
	"cmp"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Options configures a Core. PromiseDuration and DriftMargin should be the same on
// all nodes; where they differ, a node counts on the shorter promise.
type Options struct {
	Self  kv.NodeID
	Peers []kv.NodeID // without Self
	// Instance tells this process apart from earlier ones of the same node:
	// random, not 0, new with each start.
	Instance uint64

	// HeartbeatInterval is the time between two heartbeats to a peer. Default 100 ms.
	HeartbeatInterval time.Duration
	// PromiseDuration is what a heartbeat obtains. Default 4 heartbeat intervals.
	PromiseDuration time.Duration
	// DriftMargin is what a holder gives away of a promise for clocks that run at
	// different rates (see the package comment). Default a twentieth of PromiseDuration.
	DriftMargin time.Duration
	// SuspectAfter is how long a node may be silent, without evidence of its death,
	// before it is taken for dead: the election timeout. Default 10 heartbeat intervals.
	SuspectAfter time.Duration
	// StartupWait is how long after New the node must not vote: the longest
	// PromiseDuration that it may have run with before. Default PromiseDuration.
	StartupWait time.Duration
	// PauseThreshold is the time between two calls of Advance from which on this process is
	// held to have slept. The driver must call Advance clearly more often. Default
	// 2 heartbeat intervals.
	PauseThreshold time.Duration
}

// WithDefaults returns a copy with every zero field set.
func (o Options) WithDefaults() Options {
	o.HeartbeatInterval = cmp.Or(o.HeartbeatInterval, 100*time.Millisecond)
	o.PromiseDuration = cmp.Or(o.PromiseDuration, 4*o.HeartbeatInterval)
	o.DriftMargin = cmp.Or(o.DriftMargin, o.PromiseDuration/20)
	o.SuspectAfter = cmp.Or(o.SuspectAfter, max(10*o.HeartbeatInterval, o.PromiseDuration))
	o.StartupWait = cmp.Or(o.StartupWait, o.PromiseDuration)
	o.PauseThreshold = cmp.Or(o.PauseThreshold, 2*o.HeartbeatInterval)
	return o
}

// Validate tells what is wrong with the options, after WithDefaults.
func (o Options) Validate() error {
	switch {
	case o.Self == 0:
		return fmt.Errorf("liveness: Options.Self is not set")
	case o.Instance == 0:
		return fmt.Errorf("liveness: Options.Instance is not set: give a random number that is new with each start")
	case o.HeartbeatInterval <= 0:
		return fmt.Errorf("liveness: the heartbeat interval is %v, must be positive", o.HeartbeatInterval)
	case o.PromiseDuration < 2*o.HeartbeatInterval:
		return fmt.Errorf("liveness: promises of %v lapse between heartbeats every %v: at least twice that is needed", o.PromiseDuration, o.HeartbeatInterval)
	case o.DriftMargin < 0 || o.DriftMargin >= o.PromiseDuration:
		return fmt.Errorf("liveness: a drift margin of %v leaves nothing of promises of %v", o.DriftMargin, o.PromiseDuration)
	case o.SuspectAfter < o.PromiseDuration:
		return fmt.Errorf("liveness: nodes cannot be suspected after %v, before a promise of %v to them ends", o.SuspectAfter, o.PromiseDuration)
	case o.StartupWait < o.PromiseDuration:
		return fmt.Errorf("liveness: a wait of %v after the start does not cover promises of %v from before", o.StartupWait, o.PromiseDuration)
	case o.PauseThreshold <= 0:
		return fmt.Errorf("liveness: the pause threshold is %v, must be positive", o.PauseThreshold)
	}
	seen := map[kv.NodeID]bool{o.Self: true}
	for _, id := range o.Peers {
		if id == 0 || seen[id] {
			return fmt.Errorf("liveness: node %s is zero, listed twice, or this node itself in Options.Peers", id)
		}
		seen[id] = true
	}
	return nil
}
