package world

import "github.com/quoratedb/quorate/txn"

const (
	maxShards  = 3
	maxClients = 2
	maxTerms   = 2 // of a shard
	maxTxns    = 6
	maxMsgs    = 16
	maxLate    = 2
)

// Client is one transaction. Bit s is for the s-th shard, from 0 on; the 0th is the anchor, and always takes part.
type Client struct{ Writes, Reads uint8 }

func (c Client) participants() uint8 { return c.Writes | c.Reads | 1 }

// Setting is what is explored.
type Setting struct {
	Name     string
	Protocol txn.Protocol
	Shards   int
	Clients  []Client
	// Attempts bounds the transactions of one leadership of the anchor.
	Attempts int
	// Bounds of faults: leader changes of each shard, questions or answers lost, questions that come a second time, shards lost for ever, cancels, deadlines,
	// revisions refused.
	Failovers [maxShards]uint8
	Losses    uint8
	Doubles   uint8
	Lost      uint8
	// Dies, if not 0, is the only shard that can be lost, counted from 1.
	Dies      uint8
	Cancels   uint8
	Deadlines uint8
	Refusals  uint8
	// Prepared, if not 0, are the shards that have prepared the first client's transaction, and answered, when the exploration begins. If all have, it has its
	// revision, too. That leads deep.
	Prepared uint8
	// Recoverers are the shards whose recovery ever looks at what is undecided; 0: all.
	Recoverers uint8
	// Silent: what is lost is only asked of the anchor, so that recoveries take ballots.
	Silent bool
}

// Mutation is a rule that is broken.
type Mutation string

// The mutations of the world. Others are inside the cores (Poke).
const (
	Sound                Mutation = ""
	MissingIsAbort       Mutation = "missing-is-abort"         // the anchor says abort for a transaction that is live
	ResolveAnything      Mutation = "resolve-anything"         // a resolve counts for whatever is prepared, not for its transaction
	PromiseNotDurable    Mutation = "promise-not-durable"      // a new leader does not know of promises
	PrepareNotDurable    Mutation = "prepare-not-durable"      // a prepare is answered before it is logged
	AcceptNotDurable     Mutation = "accept-not-durable"       // so is an accept
	AcceptUnprepared     Mutation = "accept-unprepared"        // the coordinator's decision is accepted after a promise
	BallotZeroRecovery   Mutation = "ballot-zero-recovery"     // a recoverer uses the coordinator's ballot
	AcceptLower          Mutation = "accept-lower"             // a lower ballot than promised is accepted
	PromiseForgets       Mutation = "promise-forgets"          // a promise drops what was accepted
	PrepareAfterPromise  Mutation = "prepare-after-promise"    // a prepare begins a new register
	DecideElsewhere      Mutation = "decide-elsewhere"         // the anchor prepares and commits in another leadership; with two-phase commit to refuse one would do
	PrepareElsewhere     Mutation = "prepare-elsewhere"        // the anchor prepares in another leadership (of three-phase commit)
	ForgetEntirely       Mutation = "forget-entirely"          // records go, and nothing refuses what comes late
	AcceptedIsDecided    Mutation = "accepted-is-decided"      // the anchor says what it has accepted as if it were decided
	LossIsRefusal        Mutation = "loss-is-refusal"          // an answer that is lost is taken for a refusal
	LossIsResolved       Mutation = "loss-is-resolved"         // a resolve without answer counts as done
	UnknownIsTimeout     Mutation = "unknown-is-timeout"       // a client whose commit was asked for is told that nothing is done
	AnswerBeforeDecision Mutation = "answer-before-decision"   // it is told success when there is a revision
	ApplyTwice           Mutation = "apply-twice"              // a resolve that comes twice has effects twice
	OmitWriter           Mutation = "omit-writer"              // the revision is not for all that write
	NoRecovery           Mutation = "no-recovery"              // nobody goes on for a coordinator that is gone
	NoNotice             Mutation = "no-notice"                // an idle coordinator does not say what is finished
	NobodyKnows          Mutation = "missing-is-undecided"     // the anchor never says abort for what it does not know
	OldForgotten         Mutation = "old-leadership-forgotten" // a new coordinator takes what was before it for finished
)

// Poke breaks a rule inside a core, before each of its inputs.
type Poke struct {
	Coordinator func(*txn.Coordinator)
	Recovery    func(*txn.Recovery)
}
