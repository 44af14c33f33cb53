package sim

import (
	"io"
	"slices"
	"time"
)

// Protocol names a consensus protocol.
type Protocol string

// The protocols.
const (
	Raft  Protocol = "raft"
	Paxos Protocol = "paxos"
)

// EngineKind says what the nodes' disks are.
type EngineKind string

// The engines.
const (
	Memory EngineKind = "memory" // deterministic twins
	Pebble EngineKind = "pebble" // the real log and engine on a file system that forgets at a crash
)

// Plan is a whole run. All durations are in virtual time.
type Plan struct {
	Seed     uint64     `json:"seed"`
	Protocol Protocol   `json:"protocol"`
	Engine   EngineKind `json:"engine"`
	Nodes    int        `json:"nodes"` // 1 to 7
	// Phase1Quorum and Phase2Quorum are how many nodes Multi-Paxos asks to elect a leader, and to commit; 0: a majority.
	Phase1Quorum int `json:"phase1_quorum,omitempty"`
	Phase2Quorum int `json:"phase2_quorum,omitempty"`
	// Shards is how many independent groups the nodes hold, 1 to 64; 0 stands for 1.
	Shards int `json:"shards,omitempty"`
	// Partition makes the shards those of one store, which has a count of revisions; nil: they know nothing of each other.
	Partition *Partition `json:"partition,omitempty"`
	// Commit is how transactions over several shards of the store are decided: TwoPhase or ThreePhase; "": as TwoPhase.
	Commit CommitProtocol `json:"commit,omitempty"`
	// Homes are, by shard, the nodes on which each began; nil: all.
	Homes [][]int `json:"homes,omitempty"`
	// ReadQuorum: linearizable reads ask a quorum instead of relying on clocks.
	ReadQuorum bool `json:"read_quorum"`
	// Duration is how long clients work and faults happen, before everything heals and must make progress.
	Duration time.Duration `json:"duration"`
	Limits   Limits        `json:"limits"`
	Clients  []ClientPlan  `json:"clients"`
	Faults   []Fault       `json:"faults"` // ascending by At
	// Scene names what the run is set up for; "": nothing in particular.
	Scene string `json:"scene,omitempty"`
	// LoseQuorum: damage is not kept below a quorum, and the cluster is not expected to serve in the end. No answer may be wrong; where no
	// node has a copy, each must have said so. Silent losses have no place in such a plan: too many empty nodes are a new cluster.
	LoseQuorum bool `json:"lose_quorum,omitempty"`
	// Backups are made while clients work, restored in the end, and compared with what happened.
	Backups bool `json:"backups,omitempty"`
	// Users: there are users and roles, which change.
	Users bool `json:"users,omitempty"`
	// Members: the list of members changes, by the API's path.
	Members bool `json:"members,omitempty"`
	// Times are recorded of revisions, as a server does. It is drawn with backups only: it changes what a seed does.
	Times bool `json:"times,omitempty"`
}

// harmless tells whether nothing worse happens than that connections break. Then every request is answered in time.
func (p *Plan) harmless() bool {
	return !slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind != FaultBreak && f.Kind != FaultClientBreak })
}

// Limits are deliberately tiny in some runs.
type Limits struct {
	RetainLogEntries uint64 `json:"retain_log_entries"`
	FlushLogBytes    int64  `json:"flush_log_bytes"`
	FlushChunkRows   int    `json:"flush_chunk_rows"`
	MaxInflight      int    `json:"max_inflight"`
	MaxDirtyKeys     int    `json:"max_dirty_keys"`
	MaxMessageBytes  int    `json:"max_message_bytes"`
	// MaxUncommittedBytes: a core takes in no more than that beyond what it has applied.
	MaxUncommittedBytes int           `json:"max_uncommitted_bytes"`
	WatchRingRecords    int           `json:"watch_ring_records"`
	PartBytes           int           `json:"part_bytes"`  // effects that take effect in a round; 0: as many as in production
	RoundLooks          int64         `json:"round_looks"` // keys that a request may look at in a round; 0: as many as in production
	ClockDrift          float64       `json:"clock_drift"` // clocks run at 1-drift to 1+drift
	Heartbeat           time.Duration `json:"heartbeat"`
	Bounds              Bounds        `json:"bounds"`
}

// ClientPlan is one client.
type ClientPlan struct {
	Number   int    `json:"number"`
	Workload string `json:"workload"`
	Shard    int    `json:"shard,omitempty"` // whose keys it works on; 0: those of the first
}

// Fault is one thing that goes wrong. What the fields mean depends on the kind; see fault.go.
type Fault struct {
	At       time.Duration `json:"at"`
	Kind     FaultKind     `json:"kind"`
	Node     int           `json:"node,omitempty"`  // 0: whoever leads Shard at the time
	Other    int           `json:"other,omitempty"` // 0: none, or all
	Duration time.Duration `json:"duration,omitempty"`
	Amount   float64       `json:"amount,omitempty"`
	Shard    int           `json:"shard,omitempty"` // the one whose leader, log or state it is about; 0: the first
	Seed     uint64        `json:"seed,omitempty"`  // of the fault's own source of chance
}

// FaultKind names what goes wrong.
type FaultKind string

// Restrict says which parts of a plan to leave out. The zero value leaves out nothing.
type Restrict struct {
	Clients []int // numbers of the clients that take part; nil: all
	Faults  []int // positions of the faults that happen; nil: all
	// Duration, if not 0, ends the faults and the clients' work earlier.
	Duration time.Duration
}

// RunOptions are about the run and do not change what happens in it.
type RunOptions struct {
	// Trace gets a line for everything that happens; nil: nothing.
	Trace io.Writer
}

// Verdict says how a run ended.
type Verdict string

// The verdicts.
const (
	Passed      Verdict = "passed"
	Correctness Verdict = "correctness" // an answer, a watch or a state was wrong
	Liveness    Verdict = "liveness"    // after everything was well the cluster did not serve
	Crash       Verdict = "crash"       // the code panicked, or a node stopped without a fault that explains it
)

// Result is what a run showed.
type Result struct {
	Plan    Plan          `json:"plan"`
	Verdict Verdict       `json:"verdict"`
	Problem string        `json:"problem,omitempty"` // the first thing that was wrong, for people
	Hash    uint64        `json:"hash"`              // of the trace
	Time    time.Duration `json:"time"`              // virtual
	Events  int64         `json:"events"`
	// Operations by outcome, faults by kind, and marks: how often something worth covering happened.
	Operations map[string]int `json:"operations"`
	Faults     map[string]int `json:"faults"`
	Marks      map[string]int `json:"marks"`
}
