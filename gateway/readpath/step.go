package readpath

import "github.com/quoratedb/quorate/kv"

// Step is what is to be done before a shard can be read as of a revision.
type Step uint8

const (
	// Complete: nothing. The state here has all that the shard will ever have at or below the revision.
	Complete Step = iota + 1
	// Look: the replica here leads the shard. If it does for certain, after the revision was issued, and nothing that is read is in flight, the state is complete
	// for the read. Otherwise the shard is to be settled.
	Look
	// Arrive: the replica here is on its way. Path.Await has it waited for.
	Arrive
	// Settle: only the leader of the shard knows, on whichever node it is.
	Settle
)

// Local is what the replica of a shard on this node says of itself.
type Local struct {
	Revision kv.Revision // that is applied
	Serving  bool        // it leads, and is ready
}

// Next decides how the state of a shard becomes complete up to a revision that was issued. told is how far the shard had come when the revision was the last
// one; nothing if nobody was asked. The writes of a shard are applied in the order of their revisions (rule 28), so a replica that has come to one above has
// all below. So does one that has come to the last one issued to a clean shard (rules 16, 18). A leader need not wait for that one: it knows what is in
// flight, and the sequencer does not.
func Next(at kv.Revision, told kv.ShardProgress, here Local) Step {
	switch {
	case here.Revision >= at, told.Clean && here.Revision >= told.Last:
		return Complete
	case here.Serving:
		return Look
	case told.Clean:
		return Arrive
	}
	return Settle
}
