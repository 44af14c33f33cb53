package world

import "github.com/quoratedb/quorate/kv"

// Bounds of the arrays of a Cluster's state.
const (
	maxShards = 3
	maxTerms  = 3 // leaders that a shard can have
	maxOps    = 4
	maxNodes  = 1 + maxShards*maxTerms
	maxQueue  = 8 // frames from or to one node
	maxLate   = 3 // frames of older sessions
)

// sequencerNode is where askers believe the sequencer to be.
const sequencerNode kv.NodeID = 50

// shardID is the number of the shard with the index: the system shard is none of them.
func shardID(index int) kv.ShardID { return kv.ShardID(index + 2) }

func shardIndex(id kv.ShardID) int { return int(id) - 2 }

// gateway is a node of its own.
const gateway = 0

func nodeID(node int) kv.NodeID { return kv.NodeID(node + 1) }

// nodeOf is where a shard's leader of a term is.
func (s *Setting) nodeOf(shard int, term uint8) int {
	if s.Together {
		return 1 + int(term)
	}
	return 1 + shard*maxTerms + int(term)
}

// termOf is the inverse: which term the leaders on a node are of.
func (s *Setting) termOf(node int) uint8 { return uint8((node - 1) % maxTerms) }

// Kind is what an operation does.
type Kind uint8

// The kinds.
const (
	Write       Kind = iota // of the one key of a shard, acting on what it finds there
	Read                    // at latest, at the shard's leader
	ReplicaRead             // at latest, at the leader or at any replica that has everything
	Txn                     // over several shards; Shard is its anchor
)

// Op is an operation of a client on a key of the shard with the index.
type Op struct {
	Kind  Kind
	Shard int
	Key   uint8
	Touch [maxShards]Touch // of a transaction: what it does with the key of that number in each shard
}

// Setting is a small world: what may happen in it, and how often.
type Setting struct {
	Name   string
	Shards int
	Ops    []Op
	Window uint64 // of the sequencer
	Watch  bool
	// Batches: leaders gather what they evaluate, and ask for it in one batch, at any moment. Otherwise they ask at once.
	Batches bool
	// Together: leaders of the same term are on one node, whichever their shards. Otherwise each is on a node of its own.
	Together bool
	// Late is how many frames at once may lie about that belong to sessions that have ended, and may still arrive.
	Late int
	// ShardFailovers is how often each shard's leader is replaced.
	ShardFailovers [maxShards]uint8
	// SeqFailovers is how often the sequencer is lost, HandOvers how often it is moved in order; Losses counts frames, Breaks connections that are
	// lost with all that is on them, Refusals proposals that a consensus core does not take.
	SeqFailovers, HandOvers, Losses, Breaks, Refusals uint8
	// Aborts is how often a coordinator gives a transaction up that nothing stands in the way of.
	Aborts uint8
}

// Mutation switches one rule of the protocol off.
type Mutation string

// The mutations of a Cluster. The rule is the one that each breaks.
const (
	Sound                     Mutation = ""
	PreLeasedBlocks           Mutation = "pre-leased-blocks"           // rule 2
	ExpiredSequencerAllocates Mutation = "expired-sequencer-allocates" // rule 4
	ExpiredSequencerReads     Mutation = "expired-sequencer-reads"     // rule 4
	GapIgnored                Mutation = "gap-ignored"                 // rule 9
	UnorderedStream           Mutation = "unordered-stream"            // rule 11
	LateReplyAccepted         Mutation = "late-reply-accepted"         // rule 11
	VoidInLog                 Mutation = "void-in-log"                 // rule 14
	FrontierUnclean           Mutation = "frontier-unclean"            // rule 16
	CleanByBelief             Mutation = "clean-by-belief"             // rule 16
	CleanIgnoresOwn           Mutation = "clean-ignores-own"           // rule 16
	CleanNowLater             Mutation = "clean-now-later"             // rule 16
	CleanAsOfLater            Mutation = "clean-as-of-later"           // rule 16
	CleanBelowAsOf            Mutation = "clean-below-as-of"           // rule 16
	CleanOfOlderEpoch         Mutation = "clean-of-older-epoch"        // rule 16
	StaleReadRev              Mutation = "stale-readrev"               // rule 17
	ShardLocalHeader          Mutation = "shard-local-header"          // rule 17
	LeaseOverlap              Mutation = "lease-overlap"               // rule 18, and assumption A2
	ReadIgnoresInFlight       Mutation = "read-ignores-in-flight"      // rule 18
	FollowerIgnoresLast       Mutation = "follower-ignores-last"       // rule 18
	ReproposeOldRevision      Mutation = "repropose-old-revision"      // rule 19
	NoChain                   Mutation = "no-chain"                    // rule 28
	NeverClean                Mutation = "never-clean"                 // rule 16, liveness
	OlderLeadershipAllocates  Mutation = "older-leadership-allocates"  // rule 16, liveness
	NoPatience                Mutation = "no-patience"                 // rule 9, liveness
	IssueBeforeLocks          Mutation = "issue-before-locks"          // rule 1
	OmitParticipant           Mutation = "omit-participant"            // rule 5
	TwoRevisions              Mutation = "two-revisions"               // rule 5
	NoStamp                   Mutation = "no-stamp"                    // rule 13
	CleanIgnoresPrepared      Mutation = "clean-ignores-prepared"      // rule 16
	CleanTopIsClosed          Mutation = "clean-top-is-closed"         // rule 16
	MultiClearedByLeadership  Mutation = "multi-cleared-by-leadership" // rule 16
	MultiOverwritten          Mutation = "multi-overwritten"           // rule 16
	NeverDoubted              Mutation = "never-doubted"               // rule 16, liveness
	ReadIgnoresLocks          Mutation = "read-ignores-locks"          // rule 18
	ReadIgnoresStamp          Mutation = "read-ignores-stamp"          // rule 18
	FollowerIgnoresStamp      Mutation = "follower-ignores-stamp"      // rule 18
	ReadOnlyInMemory          Mutation = "read-only-in-memory"         // rule 20
	MissingIsAbort            Mutation = "missing-is-abort"            // rule 21
	RecoveryForgetsDecision   Mutation = "recovery-forgets-decision"   // rule 22
	ResolveOffChain           Mutation = "resolve-off-chain"           // rule 28
	ResolveEarly              Mutation = "resolve-early"               // rule 29
	PrepareOffChain           Mutation = "prepare-off-chain"           // rule 30
	StackOnPrepared           Mutation = "stack-on-prepared"           // rule 31
)
