// Package issuer is the shell of package sequencer at one node of a store of several shards. It has the node's Asker at all times, and a Sequencer
// while this node leads the system shard. docs/protocols/sequencer.md has the rules; comments name their numbers.
//
// # Who calls what
//
//	the driver    driver.Numbers: Hold, Take, Ask; driver.Sequencing: who leads what here, what is applied, hand-overs, shards to be called clean
//	the gateway   gateway.Revisions: Now, Learn, Known, Hear; Multi, for coordinators of transactions
//	the transport HandleMessage, PeerUp, PeerDown
//	the server    Tick, Stop
//
// # One mutex
//
// There is no goroutine and no clock here: frames are answered where they arrive, without a round of the driver, so that nobody waits for the sync of
// this node. Everything is under one mutex, but what Now and Known return.
//
// When this node issues revisions, the driver holds the mutex from Hold to Take, while it evaluates a batch. Others may wait for that long (half a
// heartbeat interval, or one request). So nothing that the driver may wait for may be done by them: under the mutex nothing is called but the cores, the
// transport's buffers, and those methods of Node that return at once. Whoever waits for an answer (Ask, Learn, Multi) is called later, with the mutex free, in the
// order of what happened. Hold, Take and Ask are called with the lock of a replica, so they leave that to the next round (Node.Later).
//
// # When a frame may leave
//
// A frame of the sequencer is good only if nobody else can have led the system shard when it was made (rule 4). So it leaves when, after that, the lease is
// found valid, or a quorum has confirmed this node's leadership. Until then it waits, and what comes meanwhile gathers in the core: one frame to each
// node. With StepDown it is discarded, and the sequencer too. Revisions in it are a gap, and no harm. A number that was taken beside the sequencer needs
// the lease; without it, it is a gap, and the driver asks like the others.
//
// # Bounds
//
// What waits for Learn and Multi is bounded by who calls it; nobody waits longer than two election timeouts. All else is in the cores.
package issuer
