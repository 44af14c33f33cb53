// Package liveness keeps promises between pairs of nodes, for all consensus
// groups at once, and says when a node must be taken for dead.
//
// Every node sends every other a heartbeat each HeartbeatInterval. A heartbeat
// asks "stand by me". Its receiver, the supporter, thereby makes a promise of
// PromiseDuration and acknowledges it; the sender, the supported node, may count
// on the promise once the acknowledgement is there. A leader that holds valid
// promises of a quorum may answer linearizable reads from memory.
//
// # What is promised
//
// A supporter S that promised node L on S's clock until U does not, before U,
// vote for anybody but L in a group that follows a leader on L, nor campaign in
// it. S counts U from the moment it received the heartbeat. L counts from the
// moment it SENT it, and gives DriftMargin away:
//
//	S is bound until     received(S's clock) + P
//	L counts on it until sent(L's clock)     + P - DriftMargin
//
// Why this is safe. Let both clocks run at a rate between 1-r and 1+r of real
// time. The heartbeat was sent at real time t and received at t' >= t. S is bound
// in real time at least until t' + P/(1+r) >= t + P/(1+r). L stops counting at
// the latest at t + (P-DriftMargin)/(1-r). The second is not later than the first if
//
//	DriftMargin >= P * 2r/(1+r)
//
// With a margin of a twentieth of P (in a node with the default flags: heartbeats each 100 ms, P = 300 ms, a margin of 15 ms), that holds for r
// up to 2.5 %; clocks of real machines stay under 0.1 %. Only rates matter, never the
// readings: no clock is compared with another.
//
// The argument needs these, and nothing else:
//
//   - The time given to Receive was read AFTER the message was taken from the network
//     (a reading from before could be older than the sending). The time given to
//     Advance was read BEFORE the messages it makes leave. Both are what a
//     driver does that reads its clock, and then calls.
//   - A holder reads its clock after it has read the value it wants to serve, and then
//     compares with what Support says. A pause between the two is then harmless.
//   - Acknowledgements are matched by sequence number to the recorded time of sending. A
//     late, duplicated or reordered one cannot extend anything beyond what that
//     time justifies; one for an earlier process of this node is ignored.
//   - Only a heartbeat newer than all before extends a promise, unless nothing newer has come for two intervals: then the number of the newest one
//     was wrong, by whoever sent it, and must not silence the node for ever. (A supporter that extends too
//     much is safe, but slow to notice a death.)
//   - After a restart a node does not know what it had promised. It neither votes nor
//     campaigns for StartupWait, which is at least PromiseDuration (MayVote).
//   - Nor does a new process under the same name, since the old one may live: two were started by mistake. S is bound to each by
//     itself, and the epoch changes with the process.
//   - Death does not end a promise. A closed and refused connection (PeerDown) only lets a
//     supporter conclude that no more heartbeats will come, so that it may act when the promise
//     ends instead of at SuspectAfter.
//
// # Epochs: a promise is not retroactive
//
// S may have voted for X in a group just before it promised something to L, an older
// leader of that group. Holding S's promise then proves nothing to L. Therefore a promise has an
// Epoch. It changes when S made a new promise after the old one had ended
// (S was free meanwhile), when S restarted, and when S withdrew. L may count S's promise for a
// group that it leads in term T only if it knows that S was in term T at some
// moment after the epoch began. Then S has voted in no higher term before that moment, and
// was bound from then on without interruption.
//
// How L comes to know is its driver's business: in package driver each frame of S says which leader S follows in which term, under a promise
// of which epoch.
//
// S, for its part, must go by the last leader it followed in the group, even when
// the core has forgotten it because a stray message of a higher term came in. It
// may drop that leader in two ways: wait until the promise to it has lapsed, or call Withdraw:
// promises to L from then on are of a new epoch, and S is free at the time Withdraw returns, if it has not said
// meanwhile that it follows L.
//
// # Whose promise it is
//
// A promise is to a process, and so is the vow to follow a leader. S must therefore know which process of node L leads. It learns
// that only from the leader's own messages, and not all of them tell: those of an older version do not, nor do two processes
// whose messages come together. Whatever else S knows is a guess. A heartbeat of L's present process may come before or after the first word of
// that process as a leader; both happen when leadership is handed over to a process that has just started.
//
//   - While S does not know, a promise to any process of L binds it (Supporting with instance 0). That keeps every promise.
//   - When another process of L has taken over and the promise to the one before ends, S may be waiting for a leader that no longer
//     exists. It does not let go: the present process may be the one that leads. It withdraws, says no more that it follows, and is free when
//     what was promised so far has ended. A word from the leader meanwhile ends the doubt: S follows again, under the new epoch.
//   - What was withdrawn counts only until S next says that it follows. From then on L counts on the new epoch, and S must
//     withdraw again before it may let go.
//
// # Pauses
//
// When Advance finds that more than PauseThreshold has passed since the
// last time, this process slept (SIGSTOP, a suspended machine, a starved host). What others promised
// us lapsed by the clock meanwhile, and that needs no further care. But their silence was ours:
// nobody is reported as lapsed for two heartbeat intervals after the pause.
//
// Package liveness is a core: no goroutine, lock, clock or socket. Times are readings of
// one monotonic clock of this process, from any origin.
package liveness
