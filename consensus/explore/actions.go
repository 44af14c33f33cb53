package explore

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// readsPerReplica separates the read ids of the replicas.
const readsPerReplica = 100

func readAskedOf(id consensus.ReadID) consensus.ReplicaID {
	return consensus.ReplicaID(id / readsPerReplica)
}

// actions lists what may happen next.
func (u *universe) actions(w *world) (all []action) {
	last := ^uint32(0)
	for _, m := range w.flight {
		if m == last {
			continue // equal messages
		}
		last = m
		to := u.view(w, u.network.letters[m].header.To)
		if to != nil && to.up {
			all = append(all, action{input{verb: verbDeliver, message: m}, 0})
			if w.left.Duplicates > 0 {
				all = append(all, action{input{verb: verbDuplicate, message: m}, 0})
			}
		}
		if u.network.letters[m].snapshot != nil && w.left.Drops > 0 {
			all = append(all, action{input{verb: verbDrop, message: m}, 0})
		}
	}
	for i := range w.replicas {
		id := consensus.ReplicaID(i + 1)
		if v := u.view(w, id); v.up {
			all = u.atReplica(w, v, all)
		} else {
			all = append(all, action{input{verb: verbRestart}, id})
		}
	}
	return all
}

// atReplica lists what a running replica may do.
func (u *universe) atReplica(w *world, v *view, all []action) []action {
	add := func(in input) { all = append(all, action{in, v.id}) }
	if v.dueSync > 0 {
		add(input{verb: verbSync, number: uint64(v.dueSync)})
	}
	if v.queued > 0 {
		add(input{verb: verbApply, number: 1})
	}
	if w.left.Crashes > 0 {
		add(input{verb: verbCrash})
		if v.unsynced {
			add(input{verb: verbCrash, number: 1})
		}
		if v.installing {
			add(input{verb: verbCrash, number: 2})
		}
	}
	if w.left.Ticks > 0 {
		add(input{verb: verbTick})
	}
	if w.left.Compactions > 0 && v.applied > v.base && !v.installing {
		add(input{verb: verbCompact})
	}
	if v.status.Role != consensus.RoleLeader {
		if c := u.setting.Candidates; w.left.Campaigns > 0 && (len(c) == 0 || slices.Contains(c, v.id)) {
			add(input{verb: verbCampaign})
		}
		return all
	}
	return u.atLeader(w, v, all)
}

func (u *universe) atLeader(w *world, v *view, all []action) []action {
	add := func(in input) { all = append(all, action{in, v.id}) }
	if w.left.Proposals > 0 {
		add(input{verb: verbPropose, text: fmt.Sprintf("v%d", u.setting.Budget.Proposals-w.left.Proposals+1)})
	}
	if w.left.Configs > 0 {
		target := u.setting.Targets[len(u.setting.Targets)-int(w.left.Configs)]
		add(input{verb: verbConfig, text: string(consensus.AppendConfig(nil, target))})
	}
	if w.left.Reads > 0 {
		add(input{verb: verbRead, number: uint64(v.id)*readsPerReplica + uint64(w.left.Reads)})
	}
	if w.left.Transfers > 0 {
		for i := range w.replicas {
			if to := consensus.ReplicaID(i + 1); to != v.id && v.status.Config.Votes(to) {
				add(input{verb: verbTransfer, peer: to})
			}
		}
	}
	if w.left.HandOvers > 0 {
		for i := range w.replicas {
			if to := consensus.ReplicaID(i + 1); to != v.id && v.status.Config.Votes(to) {
				add(input{verb: verbHandOver, peer: to})
			}
		}
	}
	return all
}

// spend takes what the action costs from the budget.
func (w *world) spend(a action) {
	b := &w.left
	switch a.verb {
	case verbDuplicate:
		b.Duplicates--
	case verbDrop:
		b.Drops--
	case verbCrash:
		b.Crashes--
	case verbTick:
		b.Ticks--
	case verbCompact:
		b.Compactions--
	case verbCampaign:
		b.Campaigns--
	case verbPropose:
		b.Proposals--
	case verbConfig:
		b.Configs--
	case verbRead:
		b.Reads--
	case verbTransfer:
		b.Transfers--
	case verbHandOver:
		b.HandOvers--
	}
}
