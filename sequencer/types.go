package sequencer

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Epoch counts sequencers: the term in which the leader of the system shard was elected. 0: none.
type Epoch uint64

// Leadership counts the leaders of one shard: the term in which one was elected. 0: none.
type Leadership uint64

// Generation counts the descriptors of one shard: each split or move makes a new one.
type Generation uint64

// Batch counts what one leadership asks for, from 1 on.
type Batch uint64

// Session is one conversation of a node with one sequencer. Of the same process, a higher number is a later one.
type Session struct {
	Instance uint64 // of the node's process, never 0
	Number   uint64 // from 1 on
}

// Alloc asks for N numbers in a row for a shard. With 0 it asks what the next one would be.
type Alloc struct {
	Shard      kv.ShardID
	Generation Generation
	Leadership Leadership
	Batch      Batch
	N          uint64
	// Bounds are what was decided by: if they do not hold, none is issued.
	Bounds kv.Bounds
}

// Numbers answers an Alloc: First and the N-1 after it. With N = 0, none was issued, and First is one above the last that was.
type Numbers struct {
	Shard      kv.ShardID
	Leadership Leadership
	Batch      Batch
	First      kv.Revision
	N          uint64
	// Compacted, if not 0, is that of the Bounds: history was not compacted any further when they were issued. 0: nothing is said about it.
	Compacted kv.Revision
}

// MultiTicket counts what an asker asks for transactions, over all sessions.
type MultiTicket uint64

// AllocMulti asks for the revision of a transaction over several shards (rule 5).
type AllocMulti struct {
	Ticket MultiTicket
	// Writers are the shards in which the transaction writes, exactly.
	Writers []ShardGeneration
}

// MultiRevision answers an AllocMulti.
type MultiRevision struct {
	Ticket   MultiTicket
	Revision kv.Revision
}

// Doubt tells the leader of a shard that somebody waits for the last number of the shard, which is a transaction's. The shard is to be called clean as of it:
// when nothing is prepared there any more, the transaction has taken effect, or never will.
type Doubt struct {
	Shard kv.ShardID
	Last  kv.Revision
}

// Clean is the word of a shard's leader that of everything issued to the shard up to AsOf nothing can take effect any more, except what has,
// up to Top.
type Clean struct {
	Epoch      Epoch
	Shard      kv.ShardID
	Generation Generation
	Leadership Leadership
	AsOf, Top  kv.Revision
}

// ShardGeneration names a shard as the asking node knows it.
type ShardGeneration struct {
	Shard      kv.ShardID
	Generation Generation
}

// ShardFrontier is what the sequencer says of one shard in a Frontier.
type ShardFrontier struct {
	Shard kv.ShardID
	// Last: whoever has everything of the shard up to this revision has everything up to Now of the same frame (rule 16). Meaningless unless Clean.
	Last kv.Revision
	// Clean: nothing that an earlier sequencer numbered can still take effect.
	Clean bool
	// Newer, if not 0, is the generation of the shard that replaced the one asked about: nothing else is said then (rule 12).
	Newer Generation
}

// Limits of what one frame may ask for.
const (
	// MaxBatchNumbers is how many numbers one Alloc asks for at most.
	MaxBatchNumbers = 1 << 20
	// MaxBatches is how many batches of one leadership may be unanswered.
	MaxBatches = 64
	// MaxWaiting is how many batches of one session may wait at the sequencer.
	MaxWaiting = 1 << 16
	// MaxNamed is how many shards the unanswered AllocMultis of one session may name, each as often as it is named.
	MaxNamed = 1 << 16
	// maxFrontier is for how many shards one frame may ask.
	maxFrontier = 1 << 16
	// maxRevision is above any revision that is ever issued.
	maxRevision kv.Revision = 1 << 62
)

// Errors of frames. Nothing of such a frame has taken effect.
var (
	ErrMalformed = errors.New("sequencer: malformed message from another node")
	errUnknown   = errors.New("sequencer: a message of a kind that this version does not know; is the sender newer?")
	errVersion   = errors.New("sequencer: a message of a format version that this version does not know")
	errClaims    = errors.New("sequencer: a message claims what cannot be")
)

// Options of a Sequencer.
type Options struct {
	// Window is how many numbers the limit is raised ahead. It is raised again when half of them are used. Default 65,536.
	Window uint64
	// MaxShards bounds the shards that are remembered. Default 65,536.
	MaxShards int
	// Issued is told of numbers when they are issued, before anybody else can know of them; Batch is 0 if they were taken, and Shard is if they are a
	// transaction's. It may be nil, and must return at once.
	Issued func(Numbers)
	// Doubts is how often the frontier of a shard whose last number is a transaction's is asked for until the shard's leader hears of it. Default 8.
	Doubts int
}

// WithDefaults returns a copy in which what is 0 has its default.
func (o Options) WithDefaults() Options {
	if o.Window == 0 {
		o.Window = 1 << 16
	}
	if o.MaxShards == 0 {
		o.MaxShards = 1 << 16
	}
	if o.Doubts == 0 {
		o.Doubts = 8
	}
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Window < 2 || o.Window > 1<<32:
		return fmt.Errorf("sequencer: a window of %d numbers, must be 2 to 2^32", o.Window)
	case o.MaxShards < 1:
		return fmt.Errorf("sequencer: at most %d shards, must be at least 1", o.MaxShards)
	case o.Doubts < 1:
		return fmt.Errorf("sequencer: a leader is to be asked after %d questions, must be at least 1", o.Doubts)
	}
	return nil
}

// AskerOptions are the options of an Asker.
type AskerOptions struct {
	// Instance is the random number of this process, never 0.
	Instance uint64
	// Patience is how long the sequencer may be silent before it is asked for a sign of life, and that long again before the session is given up.
	Patience time.Duration
	// ElectionTimeout is how long shards may wait for a sequencer that cannot be reached before they are to be handed over.
	ElectionTimeout time.Duration
}

// Validate tells what is wrong with the options.
func (o AskerOptions) Validate() error {
	switch {
	case o.Instance == 0:
		return errors.New("sequencer: a process needs an instance other than 0")
	case o.Patience <= 0:
		return fmt.Errorf("sequencer: a patience of %v, must be positive", o.Patience)
	case o.ElectionTimeout < 2*o.Patience:
		return fmt.Errorf("sequencer: an election timeout of %v is less than twice the patience of %v", o.ElectionTimeout, o.Patience)
	}
	return nil
}
