package raft

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// Options configure one member of a group. Zero values mean the defaults below.
type Options struct {
	Replica consensus.ReplicaID

	// ElectionTicks without word from a leader let a follower campaign; the library adds a random part
	// of up to as many again. A leader that hears no quorum for as long steps down. Default 10.
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

	// What was restored from disk. HardState.Commit may be stale: Applied counts too.
	HardState consensus.HardState
	// Applied is the index up to which the state machine is restored, Config the membership at it.
	// Both are zero for a replica that has yet to receive its first snapshot.
	Applied consensus.Index
	Config  consensus.Config
}

// WithDefaults returns a copy in which every zero limit has its default.
func (o Options) WithDefaults() Options {
	setDefault(&o.ElectionTicks, 10)
	setDefault(&o.HeartbeatTicks, 1)
	setDefault(&o.MaxMessageBytes, 1<<20)
	setDefault(&o.MaxInflightMessages, 256)
	setDefault(&o.MaxInflightBytes, max(64<<20, o.MaxMessageBytes))
	setDefault(&o.MaxUncommittedBytes, 256<<20)
	setDefault(&o.MaxApplyBytes, 16<<20)
	return o
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// Validate tells what is wrong with the options, defaults filled in.
func (o Options) Validate() error {
	switch {
	case o.Replica == 0 || o.Replica > consensus.MaxReplicaID:
		return fmt.Errorf("%w: %d is not a replica id", ErrInvalidOptions, o.Replica)
	case o.HeartbeatTicks < 1 || o.ElectionTicks <= o.HeartbeatTicks:
		return fmt.Errorf("%w: an election timeout of %d ticks must be longer than the heartbeat interval of %d, and that at least 1",
			ErrInvalidOptions, o.ElectionTicks, o.HeartbeatTicks)
	case o.MaxMessageBytes < 1 || o.MaxInflightMessages < 1 || o.MaxUncommittedBytes < 1 || o.MaxApplyBytes < 1:
		return fmt.Errorf("%w: limits must be positive", ErrInvalidOptions)
	case o.MaxInflightBytes < o.MaxMessageBytes:
		return fmt.Errorf("%w: %d bytes in flight cannot hold one message of %d", ErrInvalidOptions, o.MaxInflightBytes, o.MaxMessageBytes)
	case o.HardState.Term > maxNumber:
		return fmt.Errorf("%w: term %d is out of range", ErrInvalidOptions, o.HardState.Term)
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
	if err := o.Config.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	return nil
}
