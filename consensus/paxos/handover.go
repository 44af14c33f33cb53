package paxos

import "github.com/quoratedb/quorate/consensus"

// A hand-over by TransferLeader takes two round trips before the successor proposes: the word to it, its phase 1, which asks the leader that sent the word,
// too. Here that one answers before it is asked: it chooses the ballot for the successor, says so (KindHandOver), promises that ballot, and its promise
// follows when it is durable. A promise tells everything that was accepted above the successor's decided mark, so it holds whatever the
// successor has or lacks. With three voters, that one is a quorum with the leader that was.

// HandOver implements consensus.Core.
func (c *core) HandOver(to consensus.ReplicaID) error {
	if !c.mayHandOver(to) {
		return c.TransferLeader(to)
	}
	c.touched = true
	c.flush() // what is accepted here is proposed to the others first
	ballot, from := ballotOf(roundOf(c.highestSeen)+1, to), c.lead.peer(to).decided
	c.former = &handedOver{ballot: c.promised, next: ballot, last: c.lead.last, match: make(map[consensus.ReplicaID]consensus.Index)}
	for _, p := range c.lead.peers {
		c.former.match[p.id] = p.match
	}
	c.send(consensus.Message{To: to, Kind: KindHandOver, Term: c.promised, LogTerm: ballot})
	c.promise(ballot)
	c.becomeFollower(0)
	c.answerPrepare(to, from)
	return nil
}

// handedOver is what a replica knows of the slots that it proposed in a leadership which it handed over. What a phase-2 quorum accepts under that ballot is
// decided, as it would have been. Who led hears so a round trip before the next leader can say it.
type handedOver struct {
	ballot, next consensus.Term // of that leadership, and the one that was promised with it
	last         consensus.Index
	match        map[consensus.ReplicaID]consensus.Index // what others have accepted
}

// acceptedLate takes an acknowledgement of what was proposed in the leadership that was handed over.
func (c *core) acceptedLate(m *consensus.Message) {
	if h := c.former; h != nil && m.Term == h.ballot && !m.Reject && m.Index <= h.last {
		h.match[m.From] = max(h.match[m.From], m.Index)
		c.decideLate()
	}
}

// decideLate moves the decided mark over what was decided under the ballot that was handed over.
func (c *core) decideLate() {
	h := c.former
	if h == nil || c.lead != nil || c.promised != h.next || c.commitBallot > h.ballot {
		return // whoever leads tells it
	}
	voters := c.config().Voters
	mark := c.decided
	for mark < h.last {
		s := c.window.at(mark + 1)
		if s == nil || s.ballot != h.ballot {
			break
		}
		has := func(id consensus.ReplicaID) bool { return id == c.self && s.write <= c.acked || h.match[id] > mark }
		if count(voters, has) < c.quorums.phase2(len(voters)) {
			break
		}
		mark++
	}
	if mark > c.decided {
		c.commitBallot, c.commitMark = h.ballot, mark
		c.advance()
	}
}

// mayHandOver tells whether nothing is under way here that only a leader of this ballot could end.
func (c *core) mayHandOver(to consensus.ReplicaID) bool {
	l := c.lead
	if c.failed() || l == nil || to == c.self || !hasVoter(c.config(), to) || ballotOf(roundOf(c.highestSeen)+1, to) >= maxNumber {
		return false
	}
	return l.transferTo == 0 && l.barrier != 0 && l.blocked == 0 && l.extending == nil && !c.shipping[to]
}

// onHandOver campaigns at once under the ballot that the leader chose, and has promised. If that one is not new here, another does, without that promise.
func (c *core) onHandOver(m *consensus.Message) {
	ballot := m.LogTerm
	if ballot <= c.highestSeen {
		ballot = ballotOf(roundOf(c.highestSeen)+1, c.self)
	}
	c.succeed(m, ballot)
}
