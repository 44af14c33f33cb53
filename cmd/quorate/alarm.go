package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (a *app) alarmCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "alarm",
		Short: "Show and clear alarms",
		Long: `An alarm says that something is wrong at a node: NOSPACE that the quota is reached, so that
puts are refused everywhere; CORRUPT that its data differs from that of the others, or, without
a node (0), that nodes differ and nobody knows who is right: all writes are refused. It stays
until somebody clears it.`,
		Example: `  quorate alarm list
  quorate alarm disarm     # when there is space again`,
	}
	command.AddCommand(a.alarmListCommand(), a.alarmDisarmCommand())
	return command
}

func (a *app) alarmListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show all alarms",
		Example: "  quorate alarm list --output json",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.request(ctx, "alarm list", func(ctx context.Context, client *clientv3.Client) error {
				response, err := client.AlarmList(ctx)
				if err != nil {
					return err
				}
				return a.printAlarms("alarms", withNames(ctx, client, response.Alarms))
			})
		}),
	}
}

func (a *app) alarmDisarmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "disarm",
		Short: "Clear all alarms",
		Long: `Clears every alarm, and shows which they were. NOSPACE comes back at once where the size is
still above the quota: delete, compact and defrag first.`,
		Example: "  quorate alarm disarm",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			a.warnOfQuota(ctx)
			return a.request(ctx, "alarm disarm", func(ctx context.Context, client *clientv3.Client) error {
				response, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
				if err != nil {
					return err
				}
				return a.printAlarms("disarmed", withNames(ctx, client, response.Alarms))
			})
		}),
	}
}

// warnOfQuota names the nodes that will raise the alarm again. It is a kindness, for which nobody waits long.
func (a *app) warnOfQuota(ctx context.Context) {
	nodes, err := a.allNodes(ctx, min(a.timeout, time.Second))
	if err != nil {
		return // the request says so, too
	}
	for _, n := range nodes {
		if n.Quota > 0 && n.Size >= n.Quota {
			fmt.Fprintf(a.stderr, "node %s still has %s of a quota of %s, and will raise the alarm again\n", orDash(n.Name), byteSize(n.Size), byteSize(n.Quota))
		}
	}
}

type alarmJSON struct {
	Name  string `json:"name,omitempty"`
	ID    string `json:"id"`
	Alarm string `json:"alarm"`
}

// withNames adds the names of the nodes; if they cannot be had, the IDs must do.
func withNames(ctx context.Context, client *clientv3.Client, alarms []*pb.AlarmMember) []alarmJSON {
	names := map[uint64]string{}
	if len(alarms) > 0 {
		if members, err := client.MemberList(ctx, clientv3.WithSerializable()); err == nil {
			for _, member := range members.Members {
				names[member.ID] = member.Name
			}
		}
	}
	list := make([]alarmJSON, len(alarms)) // [] rather than null when empty
	for i, alarm := range alarms {
		list[i] = alarmJSON{names[alarm.MemberID], fmt.Sprintf("%x", alarm.MemberID), alarm.Alarm.String()}
	}
	return list
}

// printAlarms shows alarms that are active, or that were: what says which.
func (a *app) printAlarms(what string, alarms []alarmJSON) error {
	if a.json() {
		return writeJSON(a.stdout, map[string][]alarmJSON{what: alarms})
	}
	if len(alarms) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no alarms")
		return err
	}
	rows := make([][]string, len(alarms))
	for i, alarm := range alarms {
		rows[i] = []string{orDash(alarm.Name), alarm.ID, alarm.Alarm}
	}
	if err := table(a.stdout, []string{"NAME", "ID", "ALARM"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "(%d %s)\n", len(alarms), what)
	return err
}
