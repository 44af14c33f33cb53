package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/kv"
)

func (a *app) fenceCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "fence",
		Short: "Have the cluster refuse writes, for a migration, and accept them again",
		Long: `Behind a fence the whole cluster refuses what would change keys, leases, users or roles,
until the fence is released. It is in the log: a restart of nodes, or another leader, does
not end it. Reads, watches, and keeping leases alive go on; leases that run out end when the
fence is released. quorate backup create --fence raises it, and backs up what is behind it.`,
		Example: `  quorate fence status
  quorate fence release`,
	}
	command.AddCommand(
		a.fenceAction("raise", "Have the cluster refuse writes", pb.AlarmRequest_ACTIVATE),
		a.fenceAction("status", "Tell whether the cluster is fenced", pb.AlarmRequest_GET),
		a.fenceAction("release", "Have the cluster accept writes again", pb.AlarmRequest_DEACTIVATE))
	return command
}

// fenceAction is one of the three commands, which end by telling how it stands.
func (a *app) fenceAction(use, short string, action pb.AlarmRequest_AlarmAction) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		Example: "  quorate fence " + use + " --output json",
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.request(ctx, "fence "+use, func(ctx context.Context, client *clientv3.Client) error {
				raised, revision, err := askFence(ctx, client, action)
				if err != nil {
					return err
				}
				return a.printFence(raised && action != pb.AlarmRequest_DEACTIVATE, revision)
			})
		}),
	}
}

// askFence raises, releases or looks for the fence, and tells whether it was or is there, and at which revision the store is.
func askFence(ctx context.Context, client *clientv3.Client, action pb.AlarmRequest_AlarmAction) (there bool, revision int64, err error) {
	response, err := pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType(kv.AlarmFence)})
	if err != nil {
		return false, 0, err
	}
	return len(response.Alarms) > 0, response.Header.GetRevision(), nil
}

func (a *app) printFence(raised bool, revision int64) error {
	if a.json() {
		return writeJSON(a.stdout, struct {
			Fenced   bool  `json:"fenced"`
			Revision int64 `json:"revision"`
		}{raised, revision})
	}
	text := "no fence: the cluster accepts writes; it is at revision %d\n"
	if raised {
		text = "fenced: the cluster refuses writes at revision %d, until quorate fence release\n"
	}
	_, err := fmt.Fprintf(a.stdout, text, revision)
	return err
}
