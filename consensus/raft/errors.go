package raft

import "errors"

var (
	// ErrInvalidOptions is wrapped by the errors of Options.Validate and New.
	ErrInvalidOptions = errors.New("raft: invalid options")
	// ErrInvalidMessage is wrapped by the errors of Step for messages that make no sense.
	ErrInvalidMessage = errors.New("raft: message makes no sense")
	// ErrInvalidProposal is wrapped by the errors of Propose, ProposeConfig and TransferLeader for
	// arguments that can never be right.
	ErrInvalidProposal = errors.New("raft: invalid proposal")
	// ErrFailed is wrapped by everything a core answers after its log could not be read. It gives
	// out no more work; the driver must stop the replica.
	ErrFailed = errors.New("raft: the replica has failed")
)
