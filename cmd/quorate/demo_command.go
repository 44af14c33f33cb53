package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/cmd/quorate/demo"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/server"
)

func (a *app) demoCommand() *cobra.Command {
	dataDir, protocol := "", ""
	shards, kind, commit := 1, "", ""
	every, tls := time.Duration(0), false
	command := &cobra.Command{
		Use:   "demo",
		Short: "Run three nodes on this machine, to try things out",
		Long: `Starts three real nodes as processes on this machine, on ports 2379, 22379 and 32379
if they are free, prints how to reach them, and runs until Ctrl-C. Data goes to a
temporary directory, which is removed at the end, unless --data-dir is given.`,
		Example: `  quorate demo
  quorate demo --kill-leader-every 10s    # watch fail-overs, with a check that no write is lost
  quorate demo --consensus paxos          # Multi-Paxos in place of Raft
  quorate demo --tls                      # certificates for nodes and clients, and how to connect
  quorate demo --shards 16                # keys in 16 shards, by hash
  quorate demo --data-dir ./demo-data     # keep the data; start again with the same command`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every != 0 && every < minKillInterval {
				return fmt.Errorf("--kill-leader-every=%v: at least %v, so that a killed node can come back before the next one is killed", every, minKillInterval)
			}
			if protocol != string(server.ConsensusRaft) && protocol != string(server.ConsensusPaxos) {
				return fmt.Errorf("--consensus=%s: must be %q or %q", protocol, server.ConsensusRaft, server.ConsensusPaxos)
			}
			if commit != string(server.Commit2PC) && commit != string(server.Commit3PC) {
				return fmt.Errorf("--commit-protocol=%s: must be %q or %q", commit, server.Commit2PC, server.Commit3PC)
			}
			flags, err := demoShards(shards, kind)
			if err != nil {
				return err
			}
			flags = append(flags, "--commit-protocol="+commit)
			a.running = true
			return a.demo(cmd.Context(), dataDir, append(flags, "--consensus="+protocol), every, tls)
		},
	}
	command.Flags().BoolVar(&tls, "tls", false, "speak TLS, with certificates of an authority that is made for the demonstration")
	command.Flags().StringVar(&dataDir, "data-dir", "", "keep the data in this directory (default: a temporary one)")
	command.Flags().StringVar(&protocol, "consensus", string(server.ConsensusRaft), "the protocol between the nodes: raft or paxos")
	command.Flags().IntVar(&shards, "shards", 1, "how many shards hold the keys")
	command.Flags().StringVar(&kind, "partition", partition.Hash.String(), "which keys a shard has: range or hash")
	command.Flags().StringVar(&commit, "commit-protocol", string(server.Commit2PC), "how the shards of a transaction over several agree: 2pc or 3pc")
	command.Flags().DurationVar(&every, "kill-leader-every", 0, "kill -9 the leader in this interval and restart it (0: never)")
	return command
}

const minKillInterval = 2 * time.Second

// demoShards are the flags that give each node so many shards. Shards by range have keys that begin with letters, from a to z.
func demoShards(shards int, kind string) ([]string, error) {
	parsed, err := partition.ParseKind(kind)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--partition: %w", err)
	case shards < 1 || shards > partition.MaxShards:
		return nil, fmt.Errorf("--shards=%d: must be between 1 and %d", shards, partition.MaxShards)
	case shards == 1:
		return nil, nil
	}
	scheme := partition.Scheme{Kind: parsed, Shards: shards}
	if parsed == partition.Range {
		const letters = 26
		if shards > letters {
			return nil, fmt.Errorf("--shards=%d: by range there are at most %d here, split between letters; --partition hash has more", shards, letters)
		}
		for i := range shards - 1 {
			scheme.SplitKeys = append(scheme.SplitKeys, []byte{'a' + byte((i+1)*letters/shards)})
		}
	}
	return strings.Fields(scheme.Flags()), nil
}

func (a *app) demo(ctx context.Context, dataDir string, flags []string, every time.Duration, tls bool) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	// Under the name etcd the program takes the flags of serve without the word.
	arguments := []string{"serve"}
	if startedAsEtcd(program) {
		arguments = nil
	}
	arguments = append(arguments, flags...)
	return demo.Run(ctx, demo.Options{
		Program:         program,
		Arguments:       arguments,
		Environment:     a.environment,
		DataDir:         dataDir,
		KillLeaderEvery: every,
		TLS:             tls,
		Output:          a.stdout,
	})
}
