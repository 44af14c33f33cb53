package explore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
)

// replica is one core with its disk and its state machine: an automaton that takes inputs one by one.
type replica struct {
	id          consensus.ReplicaID
	core        consensus.Core // nil while down
	log         *consensustest.Log
	now, kept   machine // in memory; on the disk
	unsynced    []consensus.Append
	staged      map[consensus.Index]machine // snapshots that arrived
	queue       []consensus.Entry           // to be applied
	handed      consensus.Index
	mark        consensus.Mark
	role        consensus.RoleChange
	incarnation int // restarts
}

// machine is the simplest state machine: the values applied, joined.
type machine struct {
	index  consensus.Index
	term   consensus.Term
	config consensus.Config
	values string
}

func (m *machine) apply(e consensus.Entry) error {
	if e.Index != m.index+1 {
		return fmt.Errorf("entry %d is applied after entry %d", e.Index, m.index)
	}
	m.index, m.term = e.Index, e.Term
	switch e.Kind {
	case consensus.EntryCommand:
		m.values = strings.TrimPrefix(m.values+" "+string(e.Data), " ")
	case consensus.EntryConfig:
		config, err := consensus.DecodeConfig(e.Data)
		if err != nil {
			return fmt.Errorf("config entry %d: %w", e.Index, err)
		}
		m.config = config
	}
	return nil
}

// environment is what all replicas of an exploration share.
type environment struct {
	protocol            Protocol
	holdSync, holdApply bool // each sync and each application is an input of its own
	fault               Fault
	judge               func(Invariant) bool
	network             *network
	replaying           bool // nothing new is to be judged
}

// effect is what one input made a replica do.
type effect struct {
	sent      []uint32 // messages, by number
	applied   []consensus.Entry
	durable   []record // became durable
	reads     []consensus.ReadState
	leads     consensus.Term // not 0: this replica announced that it leads
	installed *machine
	refused   bool
	violation *Violation
}

// violated notes the first broken invariant that is to be judged.
func (env *environment) violated(eff *effect, name Invariant, format string, args ...any) {
	if eff.violation == nil && env.judge(name) {
		eff.violation = &Violation{Invariant: name, What: fmt.Sprintf(format, args...)}
	}
}

// frozen returns a copy of a replica that is down.
func (r *replica) frozen() *replica {
	c := *r
	c.log = r.log.Clone()
	return &c
}

// take gives the replica an input and lets it come to rest. A core that panics is down.
func (r *replica) take(env *environment, in input) (eff effect) {
	defer func() {
		if p := recover(); p != nil {
			env.violated(&eff, CoreCheck, "replica %d panics: %v", r.id, p)
			r.crash(env, &eff, input{verb: verbCrash})
		}
	}()
	switch in.verb {
	case verbRestart:
		r.restart(env, &eff)
	case verbCrash:
		r.crash(env, &eff, in)
		return eff
	case verbSync:
		r.sync(env, &eff, int(in.number), true)
	case verbApply:
		r.apply(env, &eff, int(in.number))
	case verbCompact:
		r.kept = r.now
		r.log.Compact(r.kept.index)
		r.core.Compact(r.kept.index)
	default:
		eff.refused = r.ask(env, in) != nil
	}
	r.settle(env, &eff)
	return eff
}

// ask calls the core.
func (r *replica) ask(env *environment, in input) error {
	switch in.verb {
	case verbStep:
		m, snapshot := env.network.open(in.message)
		if snapshot != nil {
			if r.staged == nil {
				r.staged = make(map[consensus.Index]machine)
			}
			r.staged[m.Snapshot.Index] = *snapshot
		}
		return r.core.Step(m)
	case verbCampaign:
		r.core.Campaign()
	case verbTick:
		r.core.Tick()
	case verbLeaderLost:
		r.core.LeaderLost()
	case verbPropose:
		return r.core.Propose([][]byte{[]byte(in.text)})
	case verbConfig:
		target, err := consensus.DecodeConfig([]byte(in.text))
		if err != nil {
			return err
		}
		return r.core.ProposeConfig(target)
	case verbTransfer:
		return r.core.TransferLeader(in.peer)
	case verbHandOver:
		return r.core.HandOver(in.peer)
	case verbRead:
		return r.core.ReadBarrier(consensus.ReadID(in.number))
	case verbSnapshotDone:
		r.core.SnapshotDone(in.peer, in.number == 1)
	}
	return nil
}

func (r *replica) restart(env *environment, eff *effect) {
	r.incarnation++
	r.now = r.kept
	if r.now.index > r.log.Last() {
		r.log.Reset(r.now.index, r.now.term)
	}
	member := consensustest.Member{
		Replica: r.id, Log: r.log, HardState: r.log.HardState(), Applied: r.now.index, Config: r.now.config,
		Limits: consensustest.Limits{ElectionTicks: 10, HeartbeatTicks: 1},
	}
	if env.fault.Start != nil {
		env.fault.Start(&member)
	}
	core, err := env.protocol.Factory(member)
	if err != nil {
		env.violated(eff, CoreCheck, "replica %d does not start: %v", r.id, err)
		return
	}
	if env.fault.Make != nil {
		env.fault.Make(core)
	}
	r.core, r.handed, r.mark, r.role = &broken{Core: core, fault: env.fault}, r.now.index, consensus.Mark{}, consensus.RoleChange{}
}

// crash loses what is not on the disk. With number 1 the writes that wait have just reached it, and nobody was told; with
// number 2 only the state of a snapshot among them has.
func (r *replica) crash(env *environment, eff *effect, in input) {
	switch in.number {
	case 1:
		r.sync(env, eff, len(r.unsynced), false)
	case 2:
		for i := range r.unsynced {
			if s := r.unsynced[i].Snapshot; s != nil {
				r.kept = r.staged[s.Index]
			}
		}
	}
	r.log.Crash()
	r.core, r.unsynced, r.queue, r.staged = nil, nil, nil, nil
	r.handed, r.mark, r.role, r.now = 0, consensus.Mark{}, consensus.RoleChange{}, r.kept
}

// settle does the work of the core until there is no more.
func (r *replica) settle(env *environment, eff *effect) {
	for rounds := 0; r.core != nil && eff.violation == nil; rounds++ {
		switch {
		case r.core.HasReady():
			r.work(env, eff, r.core.Ready())
		case !env.holdSync && r.due() > 0:
			r.sync(env, eff, len(r.unsynced), true)
		case !env.holdApply && len(r.queue) > 0:
			r.apply(env, eff, len(r.queue))
		default:
			if !env.replaying {
				r.check(env, eff)
			}
			return
		}
		if rounds == 10_000 {
			env.violated(eff, CoreCheck, "replica %d does not come to rest", r.id)
		}
	}
}

// due tells how many writes a sync must cover so that somebody's waiting ends.
func (r *replica) due() int {
	return 1 + slices.IndexFunc(r.unsynced, func(a consensus.Append) bool { return a.Sync })
}

// work carries out one Ready.
func (r *replica) work(env *environment, eff *effect, rd consensus.Ready) {
	if rd.Role != nil {
		r.role = *rd.Role
		if r.role.Role == consensus.RoleLeader {
			eff.leads = r.role.Term
		}
	}
	r.send(env, eff, rd.Messages)
	if a := rd.Append; !a.Empty() {
		if !r.mark.Less(a.Mark) {
			env.violated(eff, CoreCheck, "replica %d gives out mark %v after %v", r.id, a.Mark, r.mark)
		}
		r.mark = a.Mark
		if a.Snapshot != nil {
			r.handed, r.queue = a.Snapshot.Index, nil
		}
		r.log.Write(a)
		r.unsynced = append(slices.Clip(r.unsynced), a)
	}
	for _, e := range rd.Committed {
		if e.Index != r.handed+1 {
			env.violated(eff, StateMachineSafety, "replica %d hands out entry %d after entry %d", r.id, e.Index, r.handed)
		}
		r.handed = e.Index
	}
	r.queue = append(slices.Clip(r.queue), rd.Committed...)
	eff.reads = append(eff.reads, rd.Reads...)
}

// sync makes the oldest count writes durable and, if acknowledge is set, tells the core.
func (r *replica) sync(env *environment, eff *effect, count int, acknowledge bool) {
	if count == 0 {
		return
	}
	done := r.unsynced[:count]
	r.unsynced = slices.Clone(r.unsynced[count:])
	before := env.seenTerm(r.log.Durable())
	r.log.Sync(count)
	if env.fault.Disk != nil {
		env.fault.Disk(r.log)
	}
	if after := env.seenTerm(r.log.Durable()); after < before {
		env.violated(eff, PromiseKept, "on the disk of replica %d the term went from %d to %d", r.id, before, after)
	}
	for i := range done {
		for _, e := range done[i].Entries {
			rec, err := env.protocol.record(e)
			if err != nil {
				env.violated(eff, CoreCheck, "replica %d writes what cannot be read: %v", r.id, err)
				return
			}
			eff.durable = append(eff.durable, rec)
		}
		if s := done[i].Snapshot; s != nil {
			r.now = r.staged[s.Index]
			r.kept = r.now
			installed := r.kept
			eff.installed = &installed
			if r.now.index != s.Index || !r.now.config.Equal(s.Config) {
				env.violated(eff, SnapshotContent, "replica %d installs a snapshot at %d that it did not get", r.id, s.Index)
			}
		}
	}
	if acknowledge {
		r.core.AckAppend(done[count-1].Mark)
		for i := range done {
			r.send(env, eff, done[i].AfterSync)
		}
	}
}

// apply applies the oldest count entries.
func (r *replica) apply(env *environment, eff *effect, count int) {
	for _, e := range r.queue[:count] {
		if err := r.now.apply(e); err != nil {
			env.violated(eff, StateMachineSafety, "replica %d: %v", r.id, err)
			return
		}
		eff.applied = append(eff.applied, e)
	}
	r.queue = slices.Clone(r.queue[count:])
	r.core.AckApplied(r.now.index)
}

func (r *replica) send(env *environment, eff *effect, messages []consensus.Message) {
	for i := range messages {
		m := &messages[i]
		if !env.replaying {
			r.checkSpeech(env, eff, m)
		}
		var snapshot *machine
		if m.Class == consensus.ClassSnapshot {
			// The driver ships the state as it is when the message leaves, and raises the message to it.
			copied := r.now
			snapshot = &copied
			if r.now.index >= m.Snapshot.Index && env.fault.Snapshot == nil {
				m.Snapshot = &consensus.SnapshotMeta{Index: r.now.index, Term: r.now.term, Config: r.now.config}
			} else if env.fault.Snapshot != nil {
				env.fault.Snapshot(m.Snapshot, snapshot.index)
				snapshot.index, snapshot.term, snapshot.config = m.Snapshot.Index, m.Snapshot.Term, m.Snapshot.Config
			}
		}
		eff.sent = append(eff.sent, env.network.number(m, snapshot))
	}
}
