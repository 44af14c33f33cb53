package txn

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// Protocol is how transactions are decided. It is the same for all shards of a cluster, for ever.
type Protocol uint8

// Protocols.
const (
	TwoPhase   Protocol = iota + 1 // the anchor decides
	ThreePhase                     // a majority of the participants decides
)

// Options of a Coordinator. The first four have no default.
type Options struct {
	Protocol Protocol
	// Anchor is the shard that is led here, Term the term of the leadership: nobody else coordinates with the same two, before or after.
	Anchor kv.ShardID
	Term   uint64
	Table  *partition.Table
	// Finished is what the anchor's own replica has heard of as finished (kv.CommitRequest.Finished of the anchor's own transactions) when its leadership begins.
	Finished kv.Finished
	// MaxTransactions bounds the requests that wait, and the transactions that are not finished, each. Default 1024.
	MaxTransactions int
	// RetryAfter is how long to wait after a question that was not answered. It doubles up to 16 times as much. Default 100 ms.
	RetryAfter time.Duration
	// NoticeAfter is how long participants may keep what is finished before they are told so; sooner they hear of it with other messages. Default 1 s.
	NoticeAfter time.Duration
}

// WithDefaults returns a copy with defaults.
func (o Options) WithDefaults() Options {
	if o.MaxTransactions == 0 {
		o.MaxTransactions = 1024
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = 100 * time.Millisecond
	}
	if o.NoticeAfter == 0 {
		o.NoticeAfter = time.Second
	}
	return o
}

// Validate tells what is missing.
func (o Options) Validate() error {
	switch {
	case o.Protocol != TwoPhase && o.Protocol != ThreePhase:
		return fmt.Errorf("txn: there is no protocol %d: give two-phase or three-phase commit", o.Protocol)
	case o.Anchor == 0 || o.Term == 0 || o.Table == nil:
		return errors.New("txn: a coordinator needs its shard, the term in which it is led here, and the table of all shards")
	case o.MaxTransactions < 1 || o.RetryAfter < 0 || o.NoticeAfter < 0:
		return errors.New("txn: a coordinator needs room for one transaction, and times that are not negative")
	}
	return nil
}

// Call names a request that waits for its answer, within one Coordinator.
type Call uint64

// Ask is a question to the leader of a shard, of one of the kinds kv.KindTxn... It is answered with Answered of who asks, as it is.
type Ask struct {
	Shard   kv.ShardID
	Request *kv.Request
	// Deadline is when the answer is of no use any more; 0: the shell decides how long it tries. In the time of Tick.
	Deadline time.Duration
}

// Ready is work for the shell of a Coordinator.
type Ready struct {
	Asks []Ask
	// Numbers are revisions that are needed.
	Numbers []Number
	// Reads are to be answered at latest, by a read of several shards.
	Reads []Read
	Done  []Done
}

// Number asks for a revision for a transaction: for exactly these writers, or, with none, for the revision that is the present at some moment after the
// question. It is answered with Coordinator.Numbered.
type Number struct {
	ID      kv.TransactionID
	Writers []kv.ShardID
	// AuthVersion is that of the request; kv.Unjudged: nobody has asked for the transaction.
	AuthVersion uint64
}

// Read is a read-only transaction to be answered as of one revision that is the latest at some moment after the question. It is answered with Coordinator.Seen.
type Read struct {
	Call     Call
	Request  *kv.Request
	Deadline time.Duration // as Ask's
}

// Done says how a request ended.
type Done struct {
	Owner    any
	Response *kv.Response
	Err      error
}
