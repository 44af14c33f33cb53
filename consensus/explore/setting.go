package explore

import "github.com/quoratedb/quorate/consensus"

// Setting is a small world: who is in it, how it begins, and what may happen in it. Messages are always delivered in any order or
// never; everything else is bounded.
type Setting struct {
	Name string
	// Voters founds the group, replicas 1 to Voters; Joiners are members of nothing.
	Voters, Joiners int
	// Begin happens before the exploration, each action followed by the delivery of all messages, but those to and from Deaf, which are lost.
	Begin []Action
	Deaf  consensus.ReplicaID
	// HoldSync and HoldApply make each sync and each application an event of its own, so that a crash can come between.
	HoldSync, HoldApply bool
	// Candidates are who may campaign, all if empty. Whoever is asked for a vote has heard nothing of its leader for long enough.
	Candidates []consensus.ReplicaID
	// Budget bounds the events.
	Budget Budget
	// Targets are the memberships that may be proposed, each once.
	Targets []consensus.Config
	// Lost are kinds of messages that never arrive.
	Lost []consensus.MessageKind
}

// Action is one event at a replica.
type Action = action

// Budget says how often something may happen.
type Budget struct {
	Campaigns, Proposals, Crashes, Duplicates, Ticks, Compactions, Drops, Transfers, HandOvers, Reads int8
	Configs                                                                                           int8 // how many of the targets are left
}
