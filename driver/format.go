package driver

import "fmt"

// The versions of the frames between nodes that this package speaks; a version says what a receiver understands, and both sides of a connection
// use the highest that both know. A frame whose layout changes gets a new channel, so that no frame is ever taken for one of another version, and
// a channel that a node does not know is refused and counted. What a version adds:
//
//	2  consensus frames name the sender's disk
//	3  they also say how far it is written (ChannelMarked instead of ChannelConsensus), and nodes tell each other so (ChannelMarks); membership.FormatMarks
//	4  a node understands requests that say how much time is left of them (package gateway)
//	5  it also understands frames of the gateway that say which shard they are of (package gateway/link)
//	6  it also understands the messages of consensus.Core.HandOver
//	7  it knows of lists of members that change: entries with rosters, answers that say that a node is out
//	7  it also understands entries that say which revision the store had at a time (package timeline)
const (
	FormatOldest uint16 = 2
	FormatNewest uint16 = 7

	// FormatDeadlines: requests may say how much time is left.
	FormatDeadlines uint16 = 4
	// FormatShards: frames of the gateway may say which shard they are of.
	FormatShards uint16 = 5
	// FormatHandOver: leadership may be handed over with the vote of who led.
	FormatHandOver uint16 = 6
	// FormatMembers: the members of the cluster may be changed.
	FormatMembers uint16 = 7
	// FormatTimes: entries of the system shard may be about times.
	FormatTimes uint16 = 7
)

// unknownChannel is what is said about a frame that a newer version may have sent.
func unknownChannel(channel byte) error {
	return fmt.Errorf("driver: a frame came on channel %d, which this version does not know (it speaks versions %d to %d of the frames between nodes): "+
		"the sender is newer and should have noticed; report it", channel, FormatOldest, FormatNewest)
}
