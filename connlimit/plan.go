package connlimit

import (
	"errors"
	"fmt"
)

// ErrTooFew: the process may open too few files to serve anybody.
var ErrTooFew = errors.New("the process may open too few files")

// Plan divides the file descriptors that a process may have. The parts add up to no more than those.
type Plan struct {
	Rest    int // log, locks, listeners, snapshots, standard input and output, connections to the other nodes
	State   int // files of the state engine
	Peers   int // callers at the peer port that have not said who they are
	Metrics int // connections to the port for metrics and health; 0: there is no such port
	Clients int // connections of clients
}

const (
	restDescriptors    = 64
	descriptorsOfNode  = 8 // frames both ways, streams both ways, a dial that is tried meanwhile
	minState, maxState = 80, 500
	minPeers, maxPeers = 32, 128
	minMetrics         = 8
	maxMetrics         = 64
	minClients         = 16
)

// Request is what a plan is made for.
type Request struct {
	Descriptors uint64 // that the process may have: RLIMIT_NOFILE
	Nodes       int    // of the cluster
	Metrics     bool   // there is a port for metrics
	MaxClients  int    // no more than that, whatever would be left
}

// NewPlan divides. Each part gets what it cannot do without; of what is left, all but the clients' a share, up to what they have a use for,
// and the clients the rest.
func NewPlan(r Request) (Plan, error) {
	total := int(min(r.Descriptors, 1<<30))
	p := Plan{Rest: restDescriptors + descriptorsOfNode*r.Nodes, State: minState, Peers: minPeers}
	if r.Metrics {
		p.Metrics = minMetrics
	}
	spare := total - p.Rest - p.State - p.Peers - p.Metrics - minClients
	if spare < 0 {
		return Plan{}, fmt.Errorf("%w: %d, and a node of a cluster of %d needs %d at least; raise the limit (ulimit -n, or LimitNOFILE= of systemd)", ErrTooFew, total, r.Nodes, total-spare)
	}
	p.State = min(p.State+spare/3, maxState)
	p.Peers = min(p.Peers+spare/8, maxPeers)
	if r.Metrics {
		p.Metrics = min(p.Metrics+spare/16, maxMetrics)
	}
	p.Clients = min(total-p.Rest-p.State-p.Peers-p.Metrics, r.MaxClients)
	return p, nil
}
