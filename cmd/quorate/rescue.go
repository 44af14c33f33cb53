package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/server"
)

func (a *app) rescueCommand() *cobra.Command {
	directory, yes, lost := "", false, false
	command := &cobra.Command{
		Use:   "rescue --data-dir DIR",
		Short: "Make a new cluster of what one stopped node has, when most nodes are lost for good",
		Long: `Makes the data directory of a stopped node that of the only node of a new cluster. This is for
when most nodes of a cluster are lost for good: as long as they can come back, wait for them.

It says first what the directory has and what may be lost, and changes nothing before that is
confirmed. Of several nodes that are left take the one that has most; the others cannot come back
with their data. Grow the new cluster again with empty directories and quorate serve --join.`,
		Example: `  quorate rescue --data-dir /var/lib/quorate          # says what is there, and asks
  quorate rescue --data-dir /var/lib/quorate --yes
  quorate serve --name n3 --data-dir /var/lib/quorate ...   # as before`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			if directory == "" {
				return usagef("--data-dir is missing: that of a node which is stopped")
			}
			a.running = true
			return a.rescue(cmd.Context(), directory, yes, lost)
		},
	}
	command.Flags().StringVar(&directory, "data-dir", "", "the data directory of the node")
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	command.Flags().BoolVar(&lost, "others-are-lost", false, "go on although somebody listens at the addresses of most members: it is not they")
	a.addOutputFlag(command)
	return command
}

func (a *app) rescue(ctx context.Context, directory string, yes, lost bool) (err error) {
	r, err := server.OpenRescue(directory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	report := r.Report()
	if !a.json() {
		if err := a.printRescue(&report); err != nil {
			return err
		}
	}
	if report.Alone {
		return a.rescued(&report, report.Cluster.String(), false)
	}
	if !lost {
		if err := a.refuseIfListening(ctx, r); err != nil {
			return err
		}
	}
	if !yes {
		if err := a.confirm(ctx); err != nil {
			return err
		}
	}
	cluster, err := r.Carry(ctx)
	if err != nil {
		return err
	}
	return a.rescued(&report, cluster.String(), true)
}

// refuseIfListening says no if most members seem to run, and says so if some do.
func (a *app) refuseIfListening(ctx context.Context, r *server.Rescue) error {
	there, needless := r.Listening(ctx)
	var names []string
	for i := range there {
		names = append(names, fmt.Sprintf("%s (%s)", cmp.Or(there[i].Name, there[i].ID.String()), strings.Join(there[i].PeerURLs, ",")))
	}
	switch {
	case needless:
		return usagef("nothing was changed: somebody listens at the addresses of %s. If these are the members, they and this node are most of the cluster, and need no rescue: start this node. "+
			"If they are lost, and it is somebody else, give --others-are-lost", strings.Join(names, ", "))
	case len(names) > 0:
		fmt.Fprintf(a.stderr, "Somebody listens at the addresses of %s. If these are the members, stop them first: they do not come into the new cluster with their data.\n", strings.Join(names, ", "))
	}
	return nil
}

func (a *app) printRescue(r *server.RescueReport) error {
	fmt.Fprintf(a.stdout, "Node %s (%s) of cluster %s.\n", r.Name, r.Node, r.Cluster)
	if r.Alone {
		return nil
	}
	fmt.Fprintln(a.stdout, "These members count as lost for good:")
	for _, m := range r.Lost {
		fmt.Fprintf(a.stdout, "  %s (%s) %s\n", cmp.Or(m.Name, "never started"), m.ID, strings.Join(m.PeerURLs, ","))
	}
	fmt.Fprintln(a.stdout)
	var rows [][]string
	unknown, undecided, learner := uint64(0), map[string]bool{}, false
	for _, s := range r.Shards {
		tail := s.Last - s.Committed
		unknown, learner = unknown+tail, learner || s.Learner
		for _, id := range s.Undecided {
			undecided[fmt.Sprint(id)] = true
		}
		rows = append(rows, []string{fmt.Sprint(s.ID), fmt.Sprint(s.Applied), fmt.Sprint(s.Committed), fmt.Sprint(s.Last), fmt.Sprint(tail), fmt.Sprint(s.Revision), fmt.Sprint(len(s.Undecided))})
	}
	if err := table(a.stdout, []string{"SHARD", "ON DISK", "COMMITTED", "LAST", "NOT KNOWN", "REVISION", "UNDECIDED"}, rows); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nThe newest revision here is %d.", r.Revision)
	if !r.Time.IsZero() {
		fmt.Fprintf(a.stdout, " Revision %d was there at %s, as far as is recorded.", r.TimedRevision, r.Time.Format(time.RFC3339))
	}
	fmt.Fprint(a.stdout, "\n\nWhat was acknowledged by other nodes only, and came here never, is lost, and its revisions may be given to\nother writes.")
	if unknown > 0 {
		fmt.Fprintf(a.stdout, "\nOf %d entries the node does not know whether they were acknowledged. They take effect.", unknown)
	}
	if len(undecided) > 0 {
		fmt.Fprintf(a.stdout, "\n%d transactions over several shards are undecided. They are committed where what is here proves that they were,\nand undone otherwise.", len(undecided))
	}
	if len(r.Shards) > 1 {
		fmt.Fprint(a.stdout, "\nA transaction of which only a part came here may have taken effect in that part alone.")
	}
	if learner {
		fmt.Fprint(a.stdout, "\nThe node had no vote: nothing that was acknowledged need have come here. Take one that had a vote, if there is one.")
	}
	_, err := fmt.Fprint(a.stdout, "\n\n")
	return err
}

// confirm asks whether to go on.
func (a *app) confirm(ctx context.Context) error {
	if !isTerminal(a.stdin) {
		return usagef("nothing was changed: give --yes to go on, as standard input is no terminal to ask at")
	}
	fmt.Fprint(a.stderr, "Make a new cluster of this? The old one must never run again. Type yes: ")
	line, err := untilInterrupted(ctx, func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// rescueJSON is what --output json prints.
type rescueJSON struct {
	Node     string            `json:"node"`
	Name     string            `json:"name"`
	Was      string            `json:"was_cluster"`
	Cluster  string            `json:"cluster"`
	Changed  bool              `json:"changed"`
	Revision int64             `json:"revision"`
	Shards   []rescueShardJSON `json:"shards"`
}

type rescueShardJSON struct {
	ID        uint64 `json:"id"`
	Applied   uint64 `json:"applied"`
	Committed uint64 `json:"committed"`
	Last      uint64 `json:"last"`
	Revision  int64  `json:"revision"`
	Undecided int    `json:"undecided_transactions"`
}

func (a *app) rescued(r *server.RescueReport, cluster string, changed bool) error {
	if a.json() {
		out := rescueJSON{Node: r.Node.String(), Name: r.Name, Was: r.Cluster.String(), Cluster: cluster, Changed: changed, Revision: int64(r.Revision)}
		for _, s := range r.Shards {
			out.Shards = append(out.Shards, rescueShardJSON{uint64(s.ID), s.Applied, s.Committed, s.Last, int64(s.Revision), len(s.Undecided)})
		}
		return writeJSON(a.stdout, out)
	}
	if !changed {
		_, err := fmt.Fprintln(a.stdout, "The node is all of its cluster: there is nothing to be done.")
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "Node %s is all of the new cluster %s. Start it as before, and add others with empty data directories (quorate serve --join).\n", r.Name, cluster)
	return err
}
