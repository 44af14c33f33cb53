package paxos

import (
	"cmp"
	"fmt"
	"math/rand/v2"

	"github.com/quoratedb/quorate/consensus"
)

// Options configure one member of a group. Zero values mean the defaults below.
type Options struct {
	// Replica is part of every ballot it makes, so it must fit into 16 bits.
	Replica consensus.ReplicaID

	// Phase1Quorum is how many voters must promise before a replica leads, Phase2Quorum how many must
	// accept before a value is decided. 0 means a majority. In every membership their sum must exceed the
	// number of voters (Howard, Malkhi, Spiegelman: Flexible Paxos, 2016). All replicas
	// of a group must be given the same numbers.
	Phase1Quorum, Phase2Quorum int

	// ElectionTicks without word from a leader let a follower campaign; a random part of up to as
	// many again is added. A leader that hears no phase-2 quorum for as long steps down. Default 10.
	ElectionTicks int
	// HeartbeatTicks lie between two heartbeats. Default 1.
	HeartbeatTicks int
	// MaxMessageBytes bounds the entries of one message (one entry always fits). Default 1 MiB.
	MaxMessageBytes int
	// MaxInflightMessages and MaxInflightBytes bound what is sent to one replica and not acknowledged.
	// Defaults 256 and 64 MiB.
	MaxInflightMessages int
	MaxInflightBytes    int
	// MaxUncommittedBytes bounds what a leader takes in beyond what it has applied; then Propose
	// answers consensus.ErrOverloaded. Default 256 MiB.
	MaxUncommittedBytes int
	// MaxApplyBytes bounds the committed entries handed out and not yet acknowledged with AckApplied.
	// Default 16 MiB.
	MaxApplyBytes int
	// MaxWindowSlots bounds how far beyond the decided mark a slot may be proposed or accepted. Default 65536.
	MaxWindowSlots int

	// Rand draws the random part of election timeouts. It must not be nil.
	Rand *rand.Rand

	// What was restored from disk. HardState.Commit may be stale: Applied counts too.
	HardState consensus.HardState
	// Applied is the index up to which the state machine is restored, Config the membership at it.
	// Both are zero for a replica that has yet to receive its first snapshot.
	Applied consensus.Index
	Config  consensus.Config
}

// WithDefaults returns a copy in which every zero limit has its default.
func (o Options) WithDefaults() Options {
	o.ElectionTicks = cmp.Or(o.ElectionTicks, 10)
	o.HeartbeatTicks = cmp.Or(o.HeartbeatTicks, 1)
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 1<<20)
	o.MaxInflightMessages = cmp.Or(o.MaxInflightMessages, 256)
	o.MaxInflightBytes = cmp.Or(o.MaxInflightBytes, max(64<<20, o.MaxMessageBytes))
	o.MaxUncommittedBytes = cmp.Or(o.MaxUncommittedBytes, 256<<20)
	o.MaxApplyBytes = cmp.Or(o.MaxApplyBytes, 16<<20)
	o.MaxWindowSlots = cmp.Or(o.MaxWindowSlots, 1<<16)
	return o
}

// Validate tells what is wrong with the options, defaults filled in.
func (o Options) Validate() error {
	switch {
	case o.Replica == 0 || o.Replica > maxReplica:
		return fmt.Errorf("%w: %d is not a replica id; Paxos takes 1 to %d", ErrInvalidOptions, o.Replica, maxReplica)
	case o.HeartbeatTicks < 1 || o.ElectionTicks <= o.HeartbeatTicks:
		return fmt.Errorf("%w: an election timeout of %d ticks must be longer than the heartbeat interval of %d, and that at least 1",
			ErrInvalidOptions, o.ElectionTicks, o.HeartbeatTicks)
	case o.MaxMessageBytes < 1 || o.MaxInflightMessages < 1 || o.MaxUncommittedBytes < 1 || o.MaxApplyBytes < 1 || o.MaxWindowSlots < 1:
		return fmt.Errorf("%w: limits must be positive", ErrInvalidOptions)
	case o.MaxInflightBytes < o.MaxMessageBytes:
		return fmt.Errorf("%w: %d bytes in flight cannot hold one message of %d", ErrInvalidOptions, o.MaxInflightBytes, o.MaxMessageBytes)
	case o.HardState.Term > maxNumber:
		return fmt.Errorf("%w: ballot %d is out of range", ErrInvalidOptions, o.HardState.Term)
	case o.Rand == nil:
		return fmt.Errorf("%w: no source of randomness for election timeouts", ErrInvalidOptions)
	case o.Phase1Quorum < 0 || o.Phase2Quorum < 0:
		return fmt.Errorf("%w: quorums of %d and %d replicas", ErrInvalidOptions, o.Phase1Quorum, o.Phase2Quorum)
	}
	return o.validateState()
}

func (o Options) validateState() error {
	if o.Config.Empty() {
		if o.Applied != 0 {
			return fmt.Errorf("%w: entry %d is applied but there is no membership", ErrInvalidOptions, o.Applied)
		}
		return nil
	}
	if o.Applied < consensus.BootstrapIndex {
		return fmt.Errorf("%w: a group begins at index %d, term %d, not at 0: bootstrap the state machine and the log there",
			ErrInvalidOptions, consensus.BootstrapIndex, consensus.BootstrapTerm)
	}
	if err := o.quorums().validate(o.Config); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	return nil
}

func (o Options) quorums() quorums { return quorums{o.Phase1Quorum, o.Phase2Quorum} }
