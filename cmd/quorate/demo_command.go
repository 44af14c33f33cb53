package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/cmd/quorate/demo"
	"github.com/quoratedb/quorate/server"
)

func (a *app) demoCommand() *cobra.Command {
	dataDir, protocol := "", ""
	every := time.Duration(0)
	command := &cobra.Command{
		Use:   "demo",
		Short: "Run three nodes on this machine, to try things out",
		Long: `Starts three real nodes as processes on this machine, on ports 2379, 22379 and 32379
if they are free, prints how to reach them, and runs until Ctrl-C. Data goes to a
temporary directory, which is removed at the end, unless --data-dir is given.`,
		Example: `  quorate demo
  quorate demo --kill-leader-every 10s    # watch fail-overs, with a check that no write is lost
  quorate demo --consensus paxos          # Multi-Paxos in place of Raft
  quorate demo --data-dir ./demo-data     # keep the data; start again with the same command`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every != 0 && every < minKillInterval {
				return fmt.Errorf("--kill-leader-every=%v: at least %v, so that a killed node can come back before the next one is killed", every, minKillInterval)
			}
			if protocol != string(server.ConsensusRaft) && protocol != string(server.ConsensusPaxos) {
				return fmt.Errorf("--consensus=%s: must be %q or %q", protocol, server.ConsensusRaft, server.ConsensusPaxos)
			}
			a.running = true
			return a.demo(cmd.Context(), dataDir, protocol, every)
		},
	}
	command.Flags().StringVar(&dataDir, "data-dir", "", "keep the data in this directory (default: a temporary one)")
	command.Flags().StringVar(&protocol, "consensus", string(server.ConsensusRaft), "the protocol between the nodes: raft or paxos")
	command.Flags().DurationVar(&every, "kill-leader-every", 0, "kill -9 the leader in this interval and restart it (0: never)")
	return command
}

const minKillInterval = 2 * time.Second

func (a *app) demo(ctx context.Context, dataDir, protocol string, every time.Duration) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	// Under the name etcd the program takes the flags of serve without the word.
	arguments := []string{"serve"}
	if startedAsEtcd(program) {
		arguments = nil
	}
	arguments = append(arguments, "--consensus="+protocol)
	return demo.Run(ctx, demo.Options{
		Program:         program,
		Arguments:       arguments,
		Environment:     a.environment,
		DataDir:         dataDir,
		KillLeaderEvery: every,
		Output:          a.stdout,
	})
}
