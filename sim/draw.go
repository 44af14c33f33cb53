package sim

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// PlanOptions fix parts of what NewPlan draws. Zero values leave the choice to the seed. With workloads or kinds of faults given there are no scenes, with
// kinds of faults all quorums are majorities.
type PlanOptions struct {
	Protocol Protocol
	Engine   EngineKind
	Nodes    int
	Shards   int
	// Partition makes the shards those of one store: ByRange or ByHash. NoPartition has them know nothing of each other.
	Partition string
	// Commit is the protocol of transactions over several shards, if they are those of one store.
	Commit   CommitProtocol
	Duration time.Duration
	// Workloads are the names of those to choose from; nil: all.
	Workloads []string
	// Faults are the kinds to choose from; nil: all. Empty and not nil: none.
	Faults []FaultKind
}

// NewPlan draws a run from the seed. Each draws a subset of everything, so that what rarely comes
// together does so now and then (swarm testing: Groce et al., 2012).
func NewPlan(seed uint64, o PlanOptions) Plan {
	o = o.drawStore(seed)
	random := rand.New(rand.NewPCG(seed, sourcePlan))
	p := Plan{Seed: seed, Engine: Memory}
	p.Protocol = []Protocol{Raft, Paxos}[random.IntN(2)]
	p.Nodes = []int{3, 3, 3, 3, 5, 5, 1, 2, 4, 7}[random.IntN(10)]
	p.ReadQuorum = random.IntN(4) == 0
	p.Duration = 2*time.Second + time.Duration(random.Int64N(int64(4*time.Second)))
	if random.IntN(10) == 0 {
		p.Duration += 4 * time.Second
	}
	override(&p.Protocol, o.Protocol)
	p.drawEngine(o)
	override(&p.Nodes, o.Nodes)
	override(&p.Duration, o.Duration)
	shards := rand.New(rand.NewPCG(seed, sourceShards))
	p.drawShards(shards, o)
	whole := o.Workloads == nil
	if o.Partition != "" {
		p.drawPartition(o.Partition)
		override(&p.Commit, o.Commit)
		if o.Workloads == nil {
			o.Workloads = anyKeys()
		}
	}
	p.Limits = drawLimits(random, p.ReadQuorum)
	rounds := rand.New(rand.NewPCG(seed, sourceRounds))
	p.Limits.RoundLooks = pick(rounds, int64(0), 1, 4)
	p.Limits.PartBytes = pick(rounds, 0, 1, 64)
	p.Limits.Bounds = drawBounds(seed)
	if p.Partition != nil {
		p.Limits.Bounds.ofStore(p.Shards)
	}
	p.Clients = drawClients(random, o.Workloads)
	if p.Partition != nil && whole {
		p.addCensus()
	}
	kinds, conspired := o.Faults, false
	if kinds == nil {
		kinds = p.conspire(o)
		if conspired = kinds != nil; !conspired {
			kinds = aim(&p)
		}
		if kinds == nil && whole {
			kinds = p.aimAtStore()
		}
	}
	p.Faults = drawFaults(random, &p, kinds)
	if o.Workloads == nil { // what follows has leases, or leaders of one shard
		p.addBulk()
		p.addSlow()
		p.addEdge()
		p.addHoppers()
	}
	if o.Workloads == nil && o.Faults == nil && !conspired {
		p.stage(o)
	}
	p.spread(shards, conspired || p.Scene != "", o.Workloads)
	if o.Faults == nil {
		p.drawQuorums()
	}
	if whole && o.Faults == nil && !conspired && p.Scene == "" {
		p.addMembers()
	}
	p.Members = p.Homes == nil && p.has(FaultMember) && !p.has(FaultRemove) // who follows the list, and who holds a group, are two things
	p.Users = whole && o.Faults == nil && !conspired && p.Scene == "" && p.drawsUsers()
	p.Backups = whole && o.Faults == nil && !p.Users && p.drawsBackups()
	p.Times = p.Backups
	return p
}

// realDisksShare: one run in so many is on the real log and the real engine.
const realDisksShare = 10

// drawEngine makes runs on the real log and engine shorter: they take about twice as long in real time.
func (p *Plan) drawEngine(o PlanOptions) {
	if rand.New(rand.NewPCG(p.Seed, sourceEngine)).IntN(realDisksShare) == 0 && o.Engine == "" {
		p.Engine = Pebble
		p.Duration /= 2
	}
	override(&p.Engine, o.Engine)
}

func override[T comparable](value *T, fixed T) {
	var zero T
	if fixed != zero {
		*value = fixed
	}
}

func pick[T any](random *rand.Rand, values ...T) T { return values[random.IntN(len(values))] }

func drawLimits(random *rand.Rand, quorum bool) Limits {
	l := Limits{
		RetainLogEntries:    pick(random, uint64(4), 10, 60, 1000),
		FlushLogBytes:       pick(random, int64(1<<10), 4<<10, 1<<20),
		FlushChunkRows:      pick(random, 1, 4, 64),
		MaxInflight:         pick(random, 1, 2, 3),
		MaxDirtyKeys:        pick(random, 3, 12, 1000),
		MaxMessageBytes:     pick(random, 256, 1<<10, 1<<20),
		MaxUncommittedBytes: pick(random, 512, 8<<10, 256<<20),
		WatchRingRecords:    pick(random, 4, 30, 1000),
		ClockDrift:          pick(random, 0, 0.01, 0.02),
		Heartbeat:           100 * time.Millisecond,
	}
	if quorum { // such reads need no clock
		l.ClockDrift = pick(random, 0.02, 0.1, 0.3)
	}
	return l
}

// aim has some runs do one thing only, which hardly succeeds while everything else goes wrong too: depose leaders, run second processes, or
// let disks rot where nobody reads.
func aim(p *Plan) []FaultKind {
	random := rand.New(rand.NewPCG(p.Seed, sourceAim))
	switch rare := random.IntN(8) != 0; {
	case p.Nodes < 3:
		return nil
	case rare && random.IntN(12) == 0:
		return []FaultKind{FaultRotState, FaultRotLog, FaultMisdirected}
	case rare:
		return nil
	}
	return []FaultKind{pick(random, FaultRefuse, FaultRefuse, FaultDoze, FaultLateNews, FaultForgetPromise, FaultDouble, FaultDouble)}
}

// faultRange says how a kind of fault is drawn.
type faultRange struct {
	kind FaultKind
	// perSecond is how often it happens, at most, when the run has it at all.
	perSecond float64
	longest   time.Duration
	amount    func(*rand.Rand) float64
	needs     func(*Plan) bool
}

func between(low, high float64) func(*rand.Rand) float64 {
	return func(random *rand.Rand) float64 { return math.Round((low+random.Float64()*(high-low))*1000) / 1000 }
}

func several(p *Plan) bool { return p.Nodes > 1 }

// beforeShards: a program of the oldest version has one shard.
func beforeShards(p *Plan) bool { return p.Nodes > 1 && p.Shards == 0 }

// realDisks: the log and the engine are those of production.
func realDisks(p *Plan) bool { return p.Engine == Pebble }

// sharded: there is more than one group. expendable: a node can lose one.
func sharded(p *Plan) bool    { return p.Shards > 1 && p.Partition == nil }
func expendable(p *Plan) bool { return sharded(p) && p.Nodes > 2 }
func quorum(p *Plan) bool     { return p.ReadQuorum }

// majority: one node can be lost.
func majority(p *Plan) bool { return p.Nodes > 2 }

// umpired: two sides of equal size need one more node for a quorum.
func umpired(p *Plan) bool { return p.Nodes > 2 && p.Nodes%2 == 1 }

// faultRanges has a line for each kind.
var faultRanges = []faultRange{
	{FaultDelay, 1, 3 * time.Second, between(1, 2500), several},
	{FaultJitter, 0.5, 2 * time.Second, between(1, 200), several},
	{FaultLoss, 0.5, 3 * time.Second, between(0.01, 0.3), several},
	{FaultDuplicate, 0.5, 3 * time.Second, between(0.01, 0.5), several},
	{FaultReorder, 0.5, 3 * time.Second, between(0.01, 0.2), several},
	{FaultOneWay, 1, 3 * time.Second, nil, several},
	{FaultPartition, 0.5, 3 * time.Second, nil, several},
	{FaultPartial, 0.5, 3 * time.Second, nil, several},
	{FaultIsolate, 0.7, 3 * time.Second, nil, several},
	{FaultQuorumSwitch, 1, 2 * time.Second, between(5, 1200), several},
	{FaultBreak, 1, 0, nil, several},
	{FaultClientPartition, 0.5, 2 * time.Second, nil, nil},
	{FaultClientBreak, 1, 0, nil, nil},
	{FaultPause, 1, 2 * time.Second, nil, nil},
	{FaultClockRate, 0.5, 3 * time.Second, between(-0.5, 1), quorum},
	{FaultClockJump, 1, 0, between(1, 5000), quorum},
	{FaultCrash, 0.7, 2 * time.Second, nil, nil},
	{FaultCrashEffect, 2, time.Second, between(1, 150), nil},
	{FaultCrashAll, 0.3, time.Second, nil, nil},
	{FaultSlowDisk, 0.7, 3 * time.Second, between(1, 120), nil},
	{FaultSyncFails, 0.5, time.Second, nil, nil},
	{FaultDiskFull, 0.3, time.Second, nil, nil},
	{FaultRotState, 0.3, 0, between(0, 5), majority},
	{FaultRotLog, 0.3, 0, nil, majority},
	{FaultMisdirected, 0.3, 0, nil, majority},
	{FaultLyingSync, 0.4, time.Second, nil, majority},
	{FaultWipe, 0.3, time.Second, between(0, 200), majority},
	{FaultWipeNoticed, 0.3, time.Second, between(0, 200), majority},
	{FaultOldDisk, 1.5, time.Second, between(0, 200), majority},
	{FaultStaleDisk, 1, 2 * time.Second, between(0, 1), majority},
	{FaultChurn, 1.5, 0, between(0, 1), majority},
	{FaultTransfer, 1.5, 0, nil, several},
	{FaultCrashFile, 2, time.Second, between(1, 300), realDisks},
	{FaultStop, 1, time.Second, nil, nil},
	{FaultOtherVersion, 1.5, time.Second, nil, beforeShards},
	{FaultDouble, 1, 2 * time.Second, between(0, 1), majority},
	{FaultDuel, 1.5, 100 * time.Millisecond, between(30, 250), umpired},
	{FaultSeesaw, 3, 50 * time.Millisecond, between(20, 200), umpired},
	{FaultRefuse, 2, time.Second, between(0, 300), majority},
	{FaultDoze, 1, time.Second, between(0, 300), majority},
	{FaultLateNews, 2, time.Second, between(-300, 300), majority},
	{FaultForgetPromise, 2, time.Second, nil, majority},
	{FaultAmnesia, 3, 0, between(20, 250), majority},
	{FaultUnnoticed, 3, 0, nil, majority},
	{FaultRival, 3, 0, between(10, 80), umpired},
	{FaultFigureEight, 3, 0, between(10, 80), umpired},
	{FaultSuccession, 3, 0, between(10, 80), umpired},
	{FaultLeftBehind, 3, 0, between(10, 80), umpired},
	{FaultUsurper, 3, 0, between(10, 80), umpired},
	{FaultSecondVote, 3, 0, between(10, 80), umpired},
	{FaultMinority, 1, 0, between(0, 15), majority},
	{FaultOutvote, 1, 0, nil, majority},
	{FaultLostSlot, 1.5, 0, between(20, 200), majority},
	{FaultRenew, 1.5, 0, between(20, 250), majority},
	{FaultBounce, 2, 0, between(10, 120), majority},
	{FaultUnreadable, 2, time.Second, nil, sharded},
	{FaultRemove, 2.5, 0, nil, expendable},
	{FaultCrashRecycle, 3, time.Second, between(1, 12), realDisks},
	{FaultSequencerCut, 1, 2 * time.Second, nil, ofStore},
	{FaultSequencerLost, 0.7, time.Second, nil, ofStore},
	{FaultSequencerPaused, 1, 2 * time.Second, nil, ofStore},
	{FaultSequencerMoves, 1.5, 0, nil, ofStore},
	{FaultSessionLoss, 1, 2 * time.Second, between(0.02, 0.5), ofStore},
	{FaultSessionBreaks, 1, time.Second, nil, ofStore},
	{FaultSlowShard, 1, 3 * time.Second, between(1, 150), ofStore},
	{FaultLaggard, 2, 3 * time.Second, between(5, 400), ofStore},
	{FaultCoordinatorLost, 2, time.Second, between(0, 3), ofStore},
	{FaultCoordinatorPaused, 2, 3 * time.Second, between(0, 3), ofStore},
	{FaultCoordinatorCut, 2, 3 * time.Second, between(0, 3), ofStore},
	{FaultCoordinatorMoves, 3, 0, between(0, 3), ofStore},
	{FaultParticipantLost, 2, time.Second, between(0, 3), ofStore},
	{FaultParticipantPaused, 2, 3 * time.Second, between(0, 3), ofStore},
	{FaultParticipantMoves, 3, 0, between(0, 3), ofStore},
	{FaultCommitUnheard, 3, 0, between(0, 3), ofStore},
	{FaultAnchorSilent, 1, 4 * time.Second, between(0, 3), ofStore},
	{FaultMember, 1, 3 * time.Second, nil, everywhere},
	{FaultParticipantSilent, 0.7, 4 * time.Second, between(0, 3), ofStore}, // only in runs that are aimed at transactions: see drawFaults
}

// damageKinds damage or lose data. Each is in fewer runs than other kinds, so that about one run in five has damage: while a node gets
// its data again, less else can go wrong.
var damageKinds = []FaultKind{FaultRotState, FaultRotLog, FaultMisdirected, FaultLyingSync, FaultWipe, FaultWipeNoticed, FaultOldDisk, FaultStaleDisk, FaultRemove, FaultMember}

const damageShare = 0.3 // of what other kinds have

func drawFaults(random *rand.Rand, p *Plan, kinds []FaultKind) (faults []Fault) {
	if random.IntN(20) == 0 {
		return nil // a quiet run
	}
	share := pick(random, 0.15, 0.3, 0.5)
	for _, r := range faultRanges {
		// Every kind draws its own, whether it takes part or not.
		own := rand.New(rand.NewPCG(random.Uint64(), 1))
		odds := share
		if slices.Contains(damageKinds, r.kind) {
			odds *= damageShare
		}
		if r.kind.plotted() {
			odds *= plotOdds
		}
		if kinds == nil && r.kind == FaultParticipantSilent {
			continue // it needs long enough that little else happens
		}
		taken := own.Float64() < odds && (r.needs == nil || r.needs(p))
		if kinds != nil && !slices.Contains(kinds, r.kind) || kinds == nil && !taken || r.needs != nil && !r.needs(p) {
			continue
		}
		faults = append(faults, r.draw(own, p)...)
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

func (r *faultRange) draw(random *rand.Rand, p *Plan) (faults []Fault) {
	rate := r.perSecond * (0.3 + 0.7*random.Float64())
	at := time.Duration(0)
	for {
		at += time.Duration(random.ExpFloat64() / rate * float64(time.Second))
		if at >= p.Duration {
			return faults
		}
		f := Fault{At: at.Round(time.Microsecond), Kind: r.kind, Seed: random.Uint64()}
		if random.IntN(2) == 0 {
			f.Node = 1 + random.IntN(p.Nodes)
		}
		if r.kind.deposing() || r.kind.plotted() || r.kind.staged() {
			f.Node = 0 // only who leads can be deposed
		}
		if random.IntN(3) == 0 && p.Nodes > 1 {
			f.Other = 1 + random.IntN(p.Nodes)
		}
		if r.kind == FaultParticipantSilent {
			f.Duration = (r.longest/2 + time.Duration(random.Float64()*float64(r.longest)/2)).Round(time.Microsecond)
		} else if r.longest > 0 {
			f.Duration = (5*time.Millisecond + time.Duration(random.Float64()*random.Float64()*float64(r.longest))).Round(time.Microsecond)
		}
		if r.amount != nil {
			f.Amount = r.amount(random)
		}
		faults = append(faults, f)
	}
}

// Restrict returns a plan without some parts. What is left behaves as before: each part has chance of its own.
func (p Plan) Restrict(r Restrict) Plan {
	if r.Clients != nil {
		p.Clients = slices.DeleteFunc(slices.Clone(p.Clients), func(c ClientPlan) bool { return !slices.Contains(r.Clients, c.Number) })
	}
	if r.Faults != nil {
		var kept []Fault
		for i, f := range p.Faults {
			if slices.Contains(r.Faults, i) {
				kept = append(kept, f)
			}
		}
		p.Faults = kept
	}
	if r.Duration != 0 {
		p.Duration = min(p.Duration, r.Duration)
		p.Faults = slices.DeleteFunc(slices.Clone(p.Faults), func(f Fault) bool { return f.At >= p.Duration })
	}
	return p
}

// wakeLatency is at most how long it takes until a goroutine that was woken runs.
func (p *Plan) wakeLatency() time.Duration {
	return []time.Duration{50 * time.Microsecond, 200 * time.Microsecond, 2 * time.Millisecond}[p.Seed%3]
}

func (p *Plan) has(kind FaultKind) bool {
	return slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind == kind })
}
