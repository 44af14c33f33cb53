package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// defragTimeout is longer than that of requests: giving back space takes as long as reading and writing the data.
const defragTimeout = 5 * time.Minute

func (a *app) defragCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "defrag",
		Short: "Give the disk space of deleted data back, on every node",
		Long: `Asks every node of the cluster, found through --endpoints, one after the other, to drop what
was deleted from its files now rather than when it next merges them. Requests go on meanwhile.
What a compaction has not forgotten is not deleted: see quorate compact.`,
		Example: "  quorate compact --latest --physical && quorate defrag",
		Args:    cobra.NoArgs,
		RunE:    a.command(func(ctx context.Context, _ []string) error { return a.defrag(ctx) }),
	}
}

// defragmented is what one node made of it.
type defragmented struct {
	Name     string `json:"name,omitempty"`
	ID       string `json:"id,omitempty"`
	Endpoint string `json:"endpoint"`
	Before   int64  `json:"db_size_before,omitempty"`
	After    int64  `json:"db_size_after,omitempty"`
	Error    string `json:"error,omitempty"`
}

func (a *app) defrag(ctx context.Context) error {
	nodes, err := a.allNodes(ctx, min(a.timeout, requestTimeout))
	if err != nil {
		return err
	}
	results := make([]*defragmented, len(nodes))
	failed, unreachable := 0, 0
	for i, n := range nodes {
		results[i] = a.defragNode(ctx, n)
		if results[i].Error != "" {
			failed++
		}
		if !n.Reachable {
			unreachable++
		}
	}
	if err := a.printDefrag(results); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("defrag: interrupted")
	case !anyReachable(nodes):
		return nobodyAnswered("defrag", nodes)
	case unreachable > 0:
		return &unavailableError{fmt.Sprintf("defrag: %d of %s cannot be reached", unreachable, plural(int64(len(nodes)), "node"))}
	case failed > 0:
		return fmt.Errorf("defrag: %d of %s did not do it", failed, plural(int64(len(nodes)), "node"))
	}
	return nil
}

func (a *app) defragNode(ctx context.Context, n *nodeStatus) *defragmented {
	result := &defragmented{Name: n.Name, ID: n.ID, Endpoint: n.Endpoint, Before: n.Size}
	if !n.Reachable {
		result.Error = slices.Concat(n.Errors, []string{"unreachable"})[0]
		return result
	}
	client, err := a.newClient([]string{n.Endpoint}, a.timeout)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if _, err := client.Defragment(ctx, n.Endpoint); err != nil {
		_, result.Error = codeOf(err)
		return result
	}
	after := a.ask(ctx, n.Endpoint, min(a.timeout, requestTimeout))
	result.After = after.Size
	if !after.Reachable {
		result.Error = "it does not say its size: " + after.Errors[0]
	}
	return result
}

func (a *app) printDefrag(results []*defragmented) error {
	if a.json() {
		return writeJSON(a.stdout, struct {
			Nodes []*defragmented `json:"nodes"`
		}{results})
	}
	var rows [][]string
	for _, r := range results {
		before, after := "-", "-"
		if r.Before > 0 {
			before = byteSize(r.Before)
		}
		if r.After > 0 {
			after = byteSize(r.After)
		}
		rows = append(rows, []string{orDash(r.Name), orDash(r.ID), orDash(r.Endpoint), before, after, r.Error})
	}
	return table(a.stdout, []string{"NAME", "ID", "ENDPOINT", "SIZE BEFORE", "SIZE AFTER", "ERROR"}, rows)
}
