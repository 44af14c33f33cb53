package paxos

import "errors"

var (
	// ErrInvalidOptions is wrapped by the errors of Options.Validate and New.
	ErrInvalidOptions = errors.New("paxos: invalid options")
	// ErrInvalidMessage is wrapped by the errors of Step for messages that make no sense.
	ErrInvalidMessage = errors.New("paxos: message makes no sense")
	// ErrInvalidProposal is wrapped by the errors of Propose, ProposeConfig and TransferLeader for
	// arguments that can never be right.
	ErrInvalidProposal = errors.New("paxos: invalid proposal")
	// ErrNotCaughtUp is wrapped by the error of ProposeConfig when too few of the new voters have what was
	// decided: add them as learners first, and wait.
	ErrNotCaughtUp = errors.New("paxos: too few of the voters to be have caught up")
	// ErrFailed is wrapped by everything a core answers after its log could not be read or an
	// invariant broke. It gives out no more work; the driver must stop the replica.
	ErrFailed = errors.New("paxos: the replica has failed")
)
