package members

import "github.com/quoratedb/quorate/kv"

// Finding is what somebody has found out, or not yet.
type Finding uint8

// Findings.
const (
	NotAsked Finding = iota
	Holds
	Fails
)

// Found makes a finding of an answer.
func Found(holds bool) Finding {
	if holds {
		return Holds
	}
	return Fails
}

// Findings are what the node that is asked for a change has found out about the cluster.
type Findings struct {
	// Strict are the connections that --strict-reconfig-check goes by; nil: it is off.
	Strict func() Connections
	// InSync: the learner that is to be promoted has what was committed, in every shard.
	InSync Finding
	// Settled: in every shard everybody is what the list says, but for nodes that have never run.
	Settled Finding
}

// Lack is what has to be found out before it is known whether a cluster is fit for a change.
type Lack uint8

// Lacks.
const (
	LacksNothing Lack = iota
	LacksInSync
	LacksSettled
)

// Fit says whether the cluster is fit for a change of its list, or what has to be found out first. The order of its refusals is etcd's, and behind them comes
// whether the change before is over.
func (l *List) Fit(r *kv.MemberRequest, f Findings) (Lack, error) {
	promotes := r.Action == kv.MemberPromote
	if !promotes {
		if err := l.strictly(r, f); err != nil {
			return LacksNothing, err
		}
	}
	if _, err := l.Evaluate(r); err != nil {
		return LacksNothing, err
	}
	if promotes {
		switch f.InSync {
		case NotAsked:
			return LacksInSync, nil
		case Fails:
			return LacksNothing, kv.ErrLearnerNotReady
		}
		if err := l.strictly(r, f); err != nil {
			return LacksNothing, err
		}
	}
	if r.Action == kv.MemberRemove && l.Member(r.ID).Name == "" { // one that never started is taken back at any time
		return LacksNothing, nil
	}
	switch f.Settled {
	case NotAsked:
		return LacksSettled, nil
	case Fails:
		return LacksNothing, kv.ErrUnhealthy
	}
	return LacksNothing, nil
}

func (l *List) strictly(r *kv.MemberRequest, f Findings) error {
	if f.Strict == nil {
		return nil
	}
	return l.Strictly(r, f.Strict())
}

// Behind tells whether somebody who has applied so much, by shard, lacks some of what there was.
func Behind(there, applied map[kv.ShardID]uint64) bool {
	for shard, index := range there {
		if applied[shard] < index {
			return true
		}
	}
	return false
}

// Supersedes tells whether a node that goes by a list goes by this one from now on. applied: the replica of the system shard on the node has it. Of the same
// version that one may say more: what nodes have published of themselves.
func (l *List) Supersedes(known *List, applied bool) bool {
	return l.Version > known.Version || applied && l.Version == known.Version && l.Version > 0
}
