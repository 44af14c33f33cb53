package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/rescue"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/storage/wal"
	"github.com/quoratedb/quorate/timeline/calendar"
)

// Rescue is the data directory of a stopped node that is to become all of a cluster, because most of the others are lost for good.
type Rescue struct {
	dir    *datadir.Dir
	known  *datadir.Members
	log    *wal.Log
	engine *lsm.Engine
	node   rescue.Node
	plan   rescue.Plan
	report RescueReport
}

// RescueReport is what a data directory has, and what may be lost.
type RescueReport struct {
	Name     string
	Node     kv.NodeID
	Cluster  kv.ClusterID
	Alone    bool             // there is nothing to be done: the node is all of its cluster
	Lost     []members.Member // other members
	Shards   []RescueShard
	Revision kv.Revision // the newest that any shard here has
	// The revision TimedRevision, and all above it, were there at Time or later. Zero: nobody has recorded when.
	TimedRevision kv.Revision
	Time          time.Time
}

// RescueShard is what it has of a shard.
type RescueShard struct {
	ID kv.ShardID
	// Applied, Committed and Last are entries of its log: in the state on disk, known to be committed, and the last one that is there.
	Applied, Committed, Last uint64
	Revision                 kv.Revision // with all of them
	Learner                  bool        // the replica had no vote: it may be behind by any amount
	Undecided                []kv.TransactionID
}

// OpenRescue locks a data directory, and finds out what is there and what is to be done. Nothing is changed. It must be closed.
func OpenRescue(path string) (r *Rescue, err error) {
	dir, err := datadir.OpenStopped(path)
	if err != nil {
		return nil, err
	}
	r = &Rescue{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("rescue from the data directory %s: %w", path, err), r.Close())
		}
	}()
	if err := r.recall(); err != nil {
		return r, err
	}
	if r.log, err = wal.Open(wal.Options{Dir: filepath.Join(path, datadir.Log)}); err != nil {
		return r, err
	}
	if r.engine, err = lsm.Open(lsm.Options{Dir: filepath.Join(path, datadir.State)}); err != nil {
		return r, err
	}
	for _, group := range r.log.Groups() {
		if err := r.look(group); err != nil {
			return r, fmt.Errorf("shard %d: %w", group, err)
		}
	}
	if r.plan, err = rescue.Decide(r.node); err != nil {
		return r, err
	}
	r.report.Alone, r.report.Lost = r.plan.Nothing, r.plan.Lost
	return r, nil
}

// recall reads what the directory says beside its shards.
func (r *Rescue) recall() error {
	identity := r.dir.Identity
	known, err := datadir.ReadMembers(r.dir.Path)
	switch {
	case err != nil:
		return err
	case known == nil:
		return errors.New("a version before 0.1 wrote it, which did not note what the cluster began with; start the node once with this version and its flags, and end it again")
	case identity.Lost:
		return rescue.ErrIncomplete
	}
	r.known = known
	r.node = rescue.Node{Self: identity.Node, Removed: known.Removed, Paxos: Consensus(identity.Protocol.Name) == ConsensusPaxos, Quorums: identity.Protocol.Phase1 != 0 || identity.Protocol.Phase2 != 0,
		Of: shardsOf(identity.Partition)}
	if len(known.List) > 0 {
		if r.node.Remembered, err = members.Decode(known.List); err != nil {
			return err
		}
	}
	r.report = RescueReport{Name: identity.Name, Node: identity.Node, Cluster: identity.Cluster}
	return nil
}

func (r *Rescue) open(id kv.ShardID) (*shard.Machine, storage.GroupLog, error) {
	log := r.log.Group(consensus.GroupID(id))
	machine, err := shard.Open(r.engine, shard.Options{Shard: id, Sequenced: r.node.Of > 1, Rand: newRand(), LogEnd: log.Last(), Versions: mvcc.Options{CacheBytes: coldCacheBytes}})
	if err == nil && machine.AppliedIndex()+1 < log.First() {
		err = fmt.Errorf("%w: the state ends at entry %d, and the log starts at %d", storage.ErrCorrupt, machine.AppliedIndex(), log.First())
	}
	return machine, log, err
}

// look finds out what there is of a shard. What its log has beyond the state is applied in memory only.
func (r *Rescue) look(group consensus.GroupID) error {
	id := kv.ShardID(group)
	machine, log, err := r.open(id)
	if err != nil {
		return err
	}
	row, found, err := r.engine.Get(keys.Identity(uint64(group)), nil)
	if err != nil {
		return err
	}
	s := rescue.Shard{ID: id}
	if found {
		if s.Replica, err = membership.ReplicaOf(row); err != nil {
			return err
		}
	}
	hard := log.HardState()
	told := RescueShard{ID: id, Applied: uint64(machine.AppliedIndex()), Committed: uint64(max(hard.Commit, machine.AppliedIndex())), Last: uint64(max(log.Last(), machine.AppliedIndex()))}
	scratch := r.engine.NewBatch()
	defer scratch.Close()
	forget := func() error { scratch.Reset(); return nil } // the engine stays as it is
	if s.Term, err = r.replay(machine, log, scratch, forget); err != nil {
		return err
	}
	s.Applied, s.Config, s.Roster, s.Highest, s.Limit = machine.AppliedIndex(), machine.Config(), machine.Roster().Version, machine.Highest(), machine.Limit()
	if id == kv.SystemShard {
		s.List = machine.Members()
		if last := machine.Times().Last(); last.Valid() {
			r.report.TimedRevision, r.report.Time = last.Revision, calendar.Of(last.Time)
		}
	}
	told.Revision, told.Learner = s.Highest, s.Replica != 0 && slices.Contains(s.Config.Learners, s.Replica)
	s.Transactions, s.Heard = machine.Transactions()
	for i := range s.Transactions {
		if t := &s.Transactions[i]; t.Decision.Verdict == kv.Undecided {
			told.Undecided = append(told.Undecided, t.ID)
		}
	}
	r.report.Revision = max(r.report.Revision, s.Highest)
	r.report.Shards, r.node.Shards = append(r.report.Shards, told), append(r.node.Shards, s)
	return nil
}

// replay applies all that the log has beyond the state, whether it is known to be committed or not. Whatever is in the batch is written now and then. It returns the
// highest term that the shard knows of.
func (r *Rescue) replay(machine *shard.Machine, log storage.GroupLog, batch storage.Batch, write func() error) (term consensus.Term, err error) {
	term = max(log.HardState().Term, machine.AppliedTerm())
	applied := machine.AppliedIndex()
	if applied == 0 {
		return term, nil
	}
	if at, err := log.Term(applied); !r.node.Paxos && (err != nil || at != machine.AppliedTerm()) {
		return term, nil // a snapshot was installed, and what the log has is of before
	}
	all := replaying{machine: machine, log: log, upTo: log.Last(), paxos: r.node.Paxos, fill: true, batch: batch, write: write}
	told, err := all.run()
	return max(term, told), err
}

// Report says what there is.
func (r *Rescue) Report() RescueReport { return r.report }

// listenTimeout is how long another member may take to accept a connection.
const listenTimeout = 2 * time.Second

// Listening are the lost members at whose addresses for other nodes somebody takes connections, which may be they. needless: with them and this node most
// members that have a vote would be there, and nothing would have to be rescued.
func (r *Rescue) Listening(ctx context.Context) (there []members.Member, needless bool) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	lost := r.report.Lost
	taken := make([]bool, len(lost))
	var asking sync.WaitGroup
	for i := range lost {
		asking.Go(func() {
			taken[i] = slices.ContainsFunc(lost[i].PeerURLs, func(text string) bool { return takesConnections(ctx, text) })
		})
	}
	asking.Wait()
	voters, up := 0, 0
	if len(r.report.Shards) > 0 && !r.report.Shards[0].Learner {
		voters, up = 1, 1
	}
	for i := range lost {
		if !lost[i].Learner {
			voters++
		}
		if taken[i] {
			there = append(there, lost[i])
			if !lost[i].Learner {
				up++
			}
		}
	}
	return there, len(there) > 0 && up > voters/2
}

func takesConnections(ctx context.Context, text string) bool {
	u, err := ParseURL(text)
	if err != nil {
		return false
	}
	c, err := (&net.Dialer{}).DialContext(ctx, u.network(), u.HostPort())
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was said
	return true
}

// Carry makes the directory that of the only node of a new cluster, and returns its ID. It can be called again, on a directory opened anew, if it did not end.
func (r *Rescue) Carry(ctx context.Context) (kv.ClusterID, error) {
	if r.plan.Nothing {
		return r.dir.Identity.Cluster, nil
	}
	fail := func(err error) (kv.ClusterID, error) {
		return 0, fmt.Errorf("rescue from the data directory %s: %w; it is not whole until a rescue has ended: run it again", r.dir.Path, err)
	}
	known := *r.known
	known.Cluster, known.List, known.Rescued = kv.ClusterID(randomID()), r.plan.List.Append(nil), true
	// First of all: from here on the node is none of the cluster that it comes from.
	if err := r.dir.Refound(&known); err != nil {
		return fail(err)
	}
	var resets []storage.GroupAppend
	for i := range r.plan.Shards {
		id, fate := r.node.Shards[i].ID, &r.plan.Shards[i]
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		if err := r.carry(id, fate); err != nil {
			return fail(fmt.Errorf("shard %d: %w", id, err))
		}
		resets = append(resets, storage.GroupAppend{Group: consensus.GroupID(id), Reset: &storage.LogPosition{Index: fate.Start.Index, Term: fate.Start.Term},
			HardState: &consensus.HardState{Term: fate.Start.Term, Commit: fate.Start.Index}})
	}
	flushed := make(chan error, 1)
	r.engine.Flush(func(err error) { flushed <- err })
	if err := <-flushed; err != nil {
		return fail(err)
	}
	if err := r.log.Write(resets, nil); err != nil {
		return fail(err)
	}
	if err := r.log.Sync(); err != nil {
		return fail(err)
	}
	return known.Cluster, nil
}

// carry changes the state of a shard.
func (r *Rescue) carry(id kv.ShardID, fate *shard.Rescued) error {
	machine, log, err := r.open(id)
	if err != nil {
		return err
	}
	batch := r.engine.NewBatch()
	defer batch.Close()
	write := func() error {
		err := r.engine.Apply(batch)
		batch.Reset()
		return err
	}
	if _, err := r.replay(machine, log, batch, write); err != nil {
		return err
	}
	if err := machine.Rescue(fate, batch); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	machine.Freeze()
	for done := false; !done; {
		if done, err = machine.FlushChunk(batch, 4096); err == nil {
			err = write()
		}
		if err != nil {
			return err
		}
	}
	machine.FlushDone()
	return nil
}

// Close lets go of the directory.
func (r *Rescue) Close() (err error) {
	if r.engine != nil {
		err = errors.Join(err, r.engine.Close())
	}
	if r.log != nil {
		err = errors.Join(err, r.log.Close())
	}
	return errors.Join(err, r.dir.Close())
}
