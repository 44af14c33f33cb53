package issuer

import (
	"cmp"
	"errors"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// Channel is the transport's channel for frames between an Asker and a Sequencer. Package driver has the list.
const Channel byte = 8

// Node is what the issuer needs of the node; *driver.Driver is one. All of it returns at once, and calls nothing of the issuer before it has returned.
type Node interface {
	// Later has something done in the driver's goroutine, with no lock held.
	Later(do func())
	// SystemLeaseHolds tells whether at the moment of the call nobody else can lead the system shard.
	SystemLeaseHolds() bool
	// SystemNotice is what the applied state of the system shard says of compaction and alarms.
	SystemNotice() (compacted kv.Revision, alarms uint64)
	// ConfirmSystem asks a quorum whether this node still leads the system shard. done is called once.
	ConfirmSystem(done func(error))
	// ProposeLimit has a limit put into the log of the system shard in the term. LimitApplied or StepDown follows.
	ProposeLimit(term consensus.Term, limit kv.Revision)
	// MayHandOver answers HandOver.
	MayHandOver(term consensus.Term)
	// Relocate moves the leadership of shards that cannot get revisions here, to the sequencer's node if that can be reached.
	Relocate(shards []kv.ShardID, sequencer kv.NodeID)
	// CallClean has a shard called clean that is led here. above, if not 0, is the last revision that was issued to it: only if it is not applied.
	CallClean(shard kv.ShardID, above kv.Revision)
}

// Sender puts frames into the buffers of peers; the transport is one.
type Sender interface {
	// Append returns false, and sends nothing, when there is no connection or its buffer is full.
	Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool
	Flush()
}

// Options of an Issuer.
type Options struct {
	Self kv.NodeID
	// Instance tells this process from all others: a random number, never 0.
	Instance uint64
	// Shards are all shards of the store.
	Shards []kv.ShardID
	Sender Sender
	// ElectionTimeout is that of the driver.
	ElectionTimeout time.Duration
	// Patience is how long the sequencer may be silent before it is asked for a sign of life. Default: a quarter of the election timeout.
	Patience time.Duration
	// Sequencer has the limits of a Sequencer here.
	Sequencer sequencer.Options
	// Refused is told of frames that make no sense. It may be nil, and must return at once.
	Refused func(from kv.NodeID, err error)
}

// WithDefaults returns a copy with unset fields filled in.
func (o Options) WithDefaults() Options {
	o.ElectionTimeout = cmp.Or(o.ElectionTimeout, time.Second)
	o.Patience = cmp.Or(o.Patience, o.ElectionTimeout/4)
	o.Sequencer = o.Sequencer.WithDefaults()
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	if o.Self == 0 || o.Sender == nil || len(o.Shards) == 0 {
		return errors.New("issuer: the node, its transport and the shards must be given")
	}
	if err := o.Sequencer.Validate(); err != nil {
		return err
	}
	return o.asker().Validate()
}

func (o Options) asker() sequencer.AskerOptions {
	return sequencer.AskerOptions{Instance: o.Instance, Patience: o.Patience, ElectionTimeout: o.ElectionTimeout}
}
