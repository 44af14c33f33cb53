package paxos

import "github.com/quoratedb/quorate/consensus"

// FromRecord is what tests read the log with.
var FromRecord = fromRecord

// What follows breaks a core from inside; the explorer must notice.

// BreakQuorums lets the core do with so few promises and acceptances, whether they meet or not.
func BreakQuorums(made consensus.Core, first, second int) {
	made.(*core).quorums = quorums{first, second}
}

// ForgetPromise makes an acceptor forget what it has promised beyond what it has accepted.
func ForgetPromise(made consensus.Core) {
	c := made.(*core)
	if c.lead != nil || c.campaign != nil || len(c.writes) > 0 || c.HasReady() {
		return
	}
	c.promised = consensus.BootstrapTerm
	for i := range c.window.slots {
		c.promised = max(c.promised, c.window.slots[i].ballot)
	}
	c.hard.Term, c.seenPromised = c.promised, c.promised
}

// ForgetBallots makes a replica forget which ballots it has seen, its own among them.
func ForgetBallots(made consensus.Core) {
	if c := made.(*core); c.lead == nil && c.campaign == nil {
		c.highestSeen = consensus.BootstrapTerm
	}
}

// CountUnsynced makes a core count writes that are not durable.
func CountUnsynced(made consensus.Core) {
	c := made.(*core)
	c.acked, c.ackedTerm = c.marked.Seq, c.promised
}
