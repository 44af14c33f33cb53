package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
)

// force makes the node all of a cluster, because --force-new-cluster says so, unless it did so before, or most of the others are there.
func (o Options) force(ctx context.Context) (Options, error) {
	f := o.Cluster.recalled
	switch {
	case f == nil || !datadir.HasIdentity(o.Node.DataDir):
		return o, badf("--force-new-cluster: the data directory %s has no data of a node that a cluster could be made of", o.Node.DataDir)
	case f.rescued && f.size() > 1:
		o.Logger.Warn("--force-new-cluster is ignored: it was followed before. Remove it; if most members are lost once more, run `quorate rescue`")
		return o, nil
	} // one that was interrupted goes on
	if err := o.refuseIfAnswered(ctx, f); err != nil {
		return o, err
	}
	if err := o.forceRescue(ctx); err != nil {
		return o, err
	}
	return o.Recall()
}

func (o Options) forceRescue(ctx context.Context) (err error) {
	r, err := patiently(func() (*Rescue, error) { return OpenRescue(o.Node.DataDir) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	report := r.Report()
	if report.Alone {
		o.Logger.Warn("--force-new-cluster is ignored: the node is all of its cluster. Remove it")
		return nil
	}
	for _, s := range report.Shards {
		o.Logger.Warn("rescued", "shard", uint64(s.ID), "revision", s.Revision, "committed", s.Committed, "last", s.Last, "learner", s.Learner, "undecided_transactions", len(s.Undecided))
	}
	cluster, err := r.Carry(ctx)
	if err != nil {
		return err
	}
	o.Logger.Warn("this node is all of a new cluster, with what it had", "cluster_id", cluster, "was", report.Cluster, "revision", report.Revision, "lost_members", membersText(&members.List{Members: report.Lost}))
	return nil
}

// refuseIfAnswered asks the other members: with enough of them there is nothing to be rescued.
func (o Options) refuseIfAnswered(ctx context.Context, f *foundation) error {
	security, err := o.peerSecurity()
	if err != nil {
		return err
	}
	answers, _ := o.askAll(ctx, security)
	there := map[kv.NodeID]bool{f.self: true}
	for _, a := range answers {
		if a.Cluster == f.cluster {
			there[a.Node] = true
		}
	}
	voters, up := 0, 0
	var names []string
	for i := range f.list.Members {
		m := &f.list.Members[i]
		if m.Learner {
			continue
		}
		voters++
		if there[m.ID] {
			up++
		}
		if there[m.ID] && m.ID != f.self {
			names = append(names, fmt.Sprintf("%s (%q)", m.ID, m.Name))
		}
	}
	if up > voters/2 && voters > 1 {
		return badf("--force-new-cluster: %s answered: they and this node are most of the cluster's members, and need no rescue. Remove the flag, and start this node", strings.Join(names, ", "))
	}
	return nil
}
