// Package explore visits every state that a small group of real consensus cores can reach: messages arrive in any order, twice or never,
// replicas crash between any two effects and come back with what was on their disks, and within bounds there are
// elections, proposals, reads, changes of membership, transfers, compactions and snapshots. In every state the invariants of the papers are
// judged (see Invariant) by an observer who sees all disks and remembers the whole past.
//
// A core is never copied and knows nothing of this. A replica is a deterministic automaton, so each input is tried once in each of
// its states, and a state of the group is a tuple of such states, the messages in flight, what the observer remembers,
// and what is left of the bounds. The search goes breadth first, so that what it finds is short; the last part of the
// states it may visit it looks for on random ways, which lead deeper.
//
// A broken invariant comes with the events that lead to it as a text in the language of package consensustest. A Fault breaks a
// core on purpose: tests use it to show that every invariant can fail, and that it is noticed.
package explore
