// Package readpath decides how a linearizable read goes in a store of several shards with one count of revisions, and what it waits for. It is pure: its
// shell (package gateway) tells it what happens, and does what Ready returns until there is nothing left to do.
//
// A read learns the present first: the last revision R that was issued to anybody, at some moment after it arrived. So R is at or above everything that
// was answered before (rule 17). Then the state of each shard that it is about must be complete up to R somewhere; Next says how. The state is read as of
// R, and that is the answer, whatever happens meanwhile. The numbers of rules are those of docs/protocols/sequencer.md.
//
// A Read is in at most one place:
//
//	waiting   for the next question
//	asked     it shares the question that is on its way
//	arriving  for the replica of a shard here to come to a revision
package readpath
