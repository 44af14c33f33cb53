package explore

import (
	"fmt"
	"strings"

	"github.com/quoratedb/quorate/consensus"
)

// verb is one thing that can be done to a replica.
type verb uint8

const (
	verbRestart verb = iota
	verbCrash
	verbSync
	verbApply
	verbCompact
	verbStep
	verbCampaign
	verbTick
	verbLeaderLost
	verbPropose
	verbConfig
	verbTransfer
	verbHandOver
	verbRead
	verbSnapshotDone
	// Not inputs of a replica but actions in a world.
	verbDeliver
	verbDuplicate
	verbDrop
)

// input is given to one replica. Its fields mean what the verb says.
type input struct {
	verb    verb
	message uint32
	peer    consensus.ReplicaID
	number  uint64
	text    string
}

// action is one event in a world: an input of a replica, or the fate of a message.
type action struct {
	input
	node consensus.ReplicaID
}

// names are the commands of the scenario language.
var names = map[verb]string{
	verbRestart: "restart", verbCrash: "crash", verbSync: "sync", verbApply: "apply", verbCompact: "compact",
	verbCampaign: "campaign", verbTick: "tick", verbLeaderLost: "leader-lost", verbPropose: "propose", verbConfig: "config",
	verbTransfer: "transfer", verbHandOver: "handover", verbRead: "read",
	verbDeliver: "deliver", verbDuplicate: "duplicate", verbDrop: "drop",
}

// command writes an action that is about a replica in the scenario language.
func (a action) command() string {
	s := fmt.Sprintf("%s %d", names[a.verb], a.node)
	switch a.verb {
	case verbPropose:
		s += " " + a.text
	case verbConfig:
		if target, err := consensus.DecodeConfig([]byte(a.text)); err == nil {
			s += " " + strings.ReplaceAll(target.String(), "  ", " ")
		}
	case verbTransfer, verbHandOver:
		s += fmt.Sprintf(" to=%d", a.peer)
	case verbRead:
		s += fmt.Sprintf(" id=%d", a.number)
	case verbSync, verbApply:
		s += fmt.Sprintf(" n=%d", a.number)
	case verbCrash:
		s += [...]string{"", " synced", " state-first"}[a.number]
	}
	return s
}

// The actions from which a setting makes its beginning.

// Campaign lets the replica campaign.
func Campaign(id consensus.ReplicaID) action { return action{input{verb: verbCampaign}, id} }

// Propose lets the replica propose the value.
func Propose(id consensus.ReplicaID, value string) action {
	return action{input{verb: verbPropose, text: value}, id}
}

// Change lets the replica propose the membership.
func Change(id consensus.ReplicaID, target consensus.Config) action {
	return action{input{verb: verbConfig, text: string(consensus.AppendConfig(nil, target))}, id}
}

// Compact lets the replica make its state durable and forget the log before it.
func Compact(id consensus.ReplicaID) action { return action{input{verb: verbCompact}, id} }

// Tick lets the replica's clock advance.
func Tick(id consensus.ReplicaID) action { return action{input{verb: verbTick}, id} }
