package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/corruption"
	"github.com/quoratedb/quorate/kv"
)

// Nodes compare what their replicas have, which must be the same. A scrub finds what a disk has changed since it was written; this finds what was written
// wrong: by memory that fails, or by a mistake of the program. The node that leads the system shard compares all shards, one after the other.

const (
	// hashPatience is how long a node waits for the hashes of others. They read everything they have for it.
	hashPatience = 2 * time.Minute
	// catchUpPatience is how long a replica may take to come to the revision of a question.
	catchUpPatience = 10 * time.Second
	// resendInterval is when an answer is sent again that could not be sent.
	resendInterval = 100 * time.Millisecond
	// maxHashQuestions is how many questions of others wait here. Each node asks one at a time.
	maxHashQuestions = 16
	// maxCompareTries is how often a comparison begins anew because history was compacted meanwhile.
	maxCompareTries = 5
	// accusedInterval is how often a node looks whether it is accused, and accusedRest how long it waits when that could not be decided.
	accusedInterval = time.Second
	accusedRest     = 10 * time.Second
)

// comparisons are what a node asks and answers about hashes.
type comparisons struct {
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]hashQuestion
	// serving has room for the questions that wait here, computing for one hash at a time.
	serving, computing chan struct{}
	caughtUp           chan struct{} // closed when the replicas here have caught up since the start

	checks, incomplete, differences atomic.Int64
}

func newComparisons() *comparisons {
	return &comparisons{waiting: make(map[uint64]hashQuestion), serving: make(chan struct{}, maxHashQuestions), computing: make(chan struct{}, 1),
		caughtUp: make(chan struct{})}
}

// comparisonMetrics say what this node found.
type comparisonMetrics struct{ Checks, Incomplete, Differences int64 }

func (c *comparisons) metrics() comparisonMetrics {
	return comparisonMetrics{Checks: c.checks.Load(), Incomplete: c.incomplete.Load(), Differences: c.differences.Load()}
}

// finding is a shard in which nodes differ.
type finding struct {
	shard    kv.ShardID
	revision kv.Revision
	verdict  corruption.Verdict
}

// compare has all nodes hash what they have of a shard, at a revision that is complete here. An error means that the replica here cannot be compared.
func (s *Server) compare(ctx context.Context, shard kv.ShardID) (finding, error) {
	compacted := kv.Revision(0) // at least
	for range maxCompareTries {
		q, err := s.chooseRevision(ctx, shard, compacted)
		if err != nil {
			return finding{}, err
		}
		hashes, ahead, err := s.collect(ctx, q)
		if err != nil {
			return finding{}, err
		}
		if ahead == 0 {
			return finding{shard, q.Revision, corruption.Judge(len(s.nodeRecords()), hashes)}, nil
		}
		compacted = ahead
	}
	return finding{}, errors.New("history is compacted all the time")
}

// chooseRevision makes a question of the state of the replica here, which has to have come to where others are compacted.
func (s *Server) chooseRevision(ctx context.Context, shard kv.ShardID, compacted kv.Revision) (corruption.Question, error) {
	r := s.replica(shard)
	if r == nil || s.failedShards.of(shard) != nil {
		return corruption.Question{}, errors.New("the replica here has stopped")
	}
	came := make(chan struct{})
	r.WaitRevision(compacted, func(error) { close(came) })
	if !arrivesWithin(ctx, catchUpPatience, came) {
		return corruption.Question{}, errors.New("the replica here is behind the others")
	}
	if err := r.Readable(); err != nil {
		return corruption.Question{}, err
	}
	view := r.View()
	defer view.Close()
	compacted = max(compacted, view.Compacted())
	if view.Closed() < compacted {
		return corruption.Question{}, errors.New("a transaction that is not decided holds the replica back")
	}
	return corruption.Question{Instance: s.instance, Shard: shard, Revision: view.Closed(), Compacted: compacted}, nil
}

// collect has all nodes answer. ahead, if not 0, is where one of them is compacted, farther than the question takes it.
func (s *Server) collect(ctx context.Context, q corruption.Question) (hashes []corruption.Hash, ahead kv.Revision, err error) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	own := false
	take := func(node kv.NodeID, a corruption.Answer) {
		mu.Lock()
		defer mu.Unlock()
		switch a.State {
		case corruption.Hashed:
			hashes = append(hashes, corruption.Hash{Node: node, Sum: a.Sum})
			own = own || node == s.options.NodeID()
		case corruption.Ahead:
			ahead = max(ahead, a.Compacted)
		}
	}
	for _, record := range s.nodeRecords() {
		wait.Go(func() {
			if record.ID == s.options.NodeID() {
				take(record.ID, s.hashAt(ctx, q))
			} else {
				take(record.ID, s.askHash(ctx, record.ID, q))
			}
		})
	}
	wait.Wait()
	if !own && ahead == 0 {
		return nil, 0, errors.New("the replica here could not be read")
	}
	return hashes, ahead, ctx.Err()
}

// compareAll compares all shards, and returns those in which nodes differ. whole: all nodes have told of all shards.
func (s *Server) compareAll(ctx context.Context) (found []finding, whole bool) {
	s.comparisons.checks.Add(1)
	whole = true
	for _, d := range s.descriptors {
		f, err := s.compare(ctx, d.Shard)
		if whole = whole && err == nil && f.verdict.Complete; err != nil {
			s.logger.Debug("a shard could not be compared", s.ofShard(consensus.GroupID(d.Shard), "reason", err)...)
			continue
		}
		if f.verdict.Differ() {
			s.comparisons.differences.Add(1)
			found = append(found, f)
		}
	}
	if !whole {
		s.comparisons.incomplete.Add(1)
	}
	return found, whole
}

// checkCorruption compares the replicas of all nodes from time to time, where the system shard is led, and raises the alarm.
func (s *Server) checkCorruption() {
	if !arrives(s.context, s.ready) {
		return
	}
	ticker := time.NewTicker(s.options.Node.CorruptCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
		}
		if s.leaderOf(kv.SystemShard) != s.options.NodeID() || s.leaving.Load() || len(s.nodeRecords()) == 1 {
			continue
		}
		found, _ := s.compareAll(s.context)
		for _, f := range found {
			s.raiseCorrupt(f)
		}
	}
}

// raiseCorrupt raises the alarm of those who are wrong.
func (s *Server) raiseCorrupt(f finding) {
	s.logDifference(f)
	nodes := f.verdict.Wrong
	if f.verdict.Undecided {
		nodes = []kv.NodeID{0}
	}
	for _, node := range nodes {
		alarm := kv.Alarm{Node: node, Type: kv.AlarmCorrupt}
		if s.raised(alarm) {
			continue
		}
		if err := s.submit(&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmActivate, Alarm: alarm}}); err != nil {
			s.logger.Warn("raising the CORRUPT alarm failed", "error", err)
		}
	}
}

func (s *Server) logDifference(f finding) {
	if !s.quiet.allows(fmt.Sprint("difference ", f.shard), s.namesOf(f.verdict.Wrong), s.clock()) {
		return
	}
	attributes := s.ofShard(consensus.GroupID(f.shard), "revision", f.revision, "wrong", s.namesOf(f.verdict.Wrong))
	s.logger.Error("the replicas of the nodes differ: writes are refused until the alarm CORRUPT is cleared", attributes...)
}

// namesOf tells which nodes are meant.
func (s *Server) namesOf(nodes []kv.NodeID) (names string) {
	for _, record := range s.nodeRecords() {
		if slices.Contains(nodes, record.ID) {
			names += record.Name + " "
		}
	}
	if names == "" {
		return "nobody knows who"
	}
	return names[:len(names)-1]
}

// watchAccusation ends this node when an alarm names it and it finds that it is wrong. Who raised the alarm does not matter: any client can.
func (s *Server) watchAccusation() {
	if !arrives(s.context, s.ready) {
		return
	}
	ticker := time.NewTicker(accusedInterval)
	defer ticker.Stop()
	acquitted, rests := false, time.Duration(0) // of the alarm that stands
	for {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
		}
		if !s.raised(kv.Alarm{Node: s.options.NodeID(), Type: kv.AlarmCorrupt}) {
			acquitted = false
			continue
		}
		if acquitted || s.clock() < rests {
			continue
		}
		found, whole := s.compareAll(s.context)
		if err := s.guilty(found); err != nil {
			s.fail(err)
			return
		}
		acquitted, rests = whole && len(found) == 0, s.clock()+accusedRest
	}
}

// guilty is why this node must not go on; nil if it may.
func (s *Server) guilty(found []finding) error {
	for _, f := range found {
		if slices.Contains(f.verdict.Wrong, s.options.NodeID()) {
			return fmt.Errorf("this node has other data than the others: shard %d at revision %d; it stops, so that nobody reads it. See \"Replicas that differ\" in docs/operations.md", f.shard, f.revision)
		}
	}
	return nil
}

// checkAtStart compares this node with the others before it serves clients. Who is away is left out.
func (s *Server) checkAtStart() error {
	if !s.options.Node.InitialCorruptCheck {
		return nil
	}
	found, whole := s.compareAll(s.context)
	for _, f := range found {
		s.logDifference(f)
		if f.verdict.Accuses(s.options.NodeID()) {
			return fmt.Errorf("--initial-corrupt-check: this node has other data than the others, or they have: shard %d at revision %d, wrong: %s. See \"Replicas that differ\" in docs/operations.md",
				f.shard, f.revision, s.namesOf(f.verdict.Wrong))
		}
	}
	s.logger.Info("compared this node with the others, and found no difference", "all_nodes_answered", whole)
	return nil
}
