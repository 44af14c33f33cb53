package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
)

func (a *app) transactionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "transactions",
		Short: "Show the transactions over several shards that are not decided",
		Long: `Asks all nodes for the transactions over several shards that are prepared and not decided. Their
keys wait: writes of them, and reads that could see what becomes of them. Most are there for
milliseconds. AGE is for how long the present leaders of its shards know of a transaction, and
UNDECIDED are those shards that have not heard the end. Of a shard without a leader nothing is
known; a node that does not answer is named.

ANCHOR is the shard that coordinates. With --commit-protocol=2pc it alone decides: if it has no
leader, its transactions wait until it has one. With 3pc a majority of the shards goes on.`,
		Example: "  quorate transactions\n  quorate transactions --endpoints 10.0.0.2:2379 --output json",
		Args:    cobra.NoArgs,
		RunE:    a.command(func(ctx context.Context, _ []string) error { return a.showTransactions(ctx) }),
	}
}

// transactionList is what the nodes know that answered.
type transactionList struct {
	Commit       string              `json:"commit_protocol,omitempty"`
	Transactions []transactionStatus `json:"transactions"`
	Silent       []string            `json:"unanswered,omitempty"` // nodes that did not
}

// transactionStatus is one row.
type transactionStatus struct {
	ID             string   `json:"id"`
	AgeSeconds     float64  `json:"age_seconds"`
	Anchor         uint64   `json:"anchor_shard"`
	AnchorLeaderID string   `json:"anchor_leader_id,omitempty"`
	AnchorLeader   string   `json:"anchor_leader,omitempty"`
	Participants   []uint64 `json:"participant_shards"`
	Undecided      []uint64 `json:"undecided_shards"`
}

func (a *app) showTransactions(ctx context.Context) error {
	nodes, err := a.allNodes(ctx, a.timeout)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errors.New("transactions: interrupted")
	case !anyReachable(nodes):
		return nobodyAnswered("transactions", nodes)
	}
	all := &gatheredTransactions{byID: map[kv.TransactionID]*native.Transaction{}}
	names := map[uint64]string{}
	for _, n := range nodes {
		names[n.id] = n.Name
		if err := a.gatherTransactions(ctx, n, all); err != nil {
			return err
		}
	}
	shown := all.list(names)
	if a.json() {
		return writeJSON(a.stdout, shown)
	}
	rows := make([][]string, len(shown.Transactions))
	for i := range shown.Transactions {
		rows[i] = shown.Transactions[i].row()
	}
	if err := table(a.stdout, []string{"ID", "AGE", "ANCHOR", "LEADER", "SHARDS", "UNDECIDED"}, rows); err != nil {
		return err
	}
	if len(shown.Silent) > 0 {
		fmt.Fprintf(a.stdout, "not asked, because they do not answer: %s\n", strings.Join(shown.Silent, ", "))
	}
	return nil
}

// gatheredTransactions are those of several nodes.
type gatheredTransactions struct {
	commit string
	byID   map[kv.TransactionID]*native.Transaction
	silent []string
}

// gatherTransactions asks one node.
func (a *app) gatherTransactions(ctx context.Context, n *nodeStatus, all *gatheredTransactions) error {
	silent := func() { all.silent = append(all.silent, cmp.Or(n.Name, n.ID, n.Endpoint)) }
	if !n.Reachable {
		silent()
		return nil
	}
	client, err := a.newClient([]string{n.Endpoint}, a.timeout)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	answer, err := invokeOwn(ctx, client, native.ListTransactions)
	switch code, message := codeOf(err); {
	case err == nil:
	case code == codes.Unimplemented:
		return errors.New("transactions: the node is no node of Quorate, or of a version before transactions over several shards; `quorate status` shows more")
	case code == codes.Unavailable || code == codes.DeadlineExceeded:
		silent()
		return nil
	default:
		return refused("transactions", message)
	}
	list, err := native.DecodeTransactionList(answer)
	if err != nil {
		return err
	}
	all.add(&list)
	return nil
}

// add takes what one node knows. Each shard has one leader, at most.
func (all *gatheredTransactions) add(list *native.TransactionList) {
	all.commit = cmp.Or(all.commit, list.Commit)
	for i := range list.Transactions {
		t := &list.Transactions[i]
		known := all.byID[t.ID]
		if known == nil {
			all.byID[t.ID] = t
			continue
		}
		known.AgeMilliseconds = max(known.AgeMilliseconds, t.AgeMilliseconds)
		known.AnchorLeader = cmp.Or(known.AnchorLeader, t.AnchorLeader)
		known.Undecided = append(known.Undecided, t.Undecided...)
	}
}

// list shows all, the oldest first.
func (all *gatheredTransactions) list(names map[uint64]string) *transactionList {
	shown := &transactionList{Commit: all.commit, Transactions: []transactionStatus{}, Silent: all.silent}
	sorted := slices.SortedFunc(maps.Values(all.byID), func(a, b *native.Transaction) int {
		return cmp.Or(cmp.Compare(b.AgeMilliseconds, a.AgeMilliseconds), cmp.Compare(a.ID.Anchor, b.ID.Anchor),
			cmp.Compare(a.ID.Term, b.ID.Term), cmp.Compare(a.ID.Number, b.ID.Number))
	})
	for _, t := range sorted {
		slices.Sort(t.Undecided)
		status := transactionStatus{
			ID: fmt.Sprintf("%d.%d.%d", t.ID.Anchor, t.ID.Term, t.ID.Number), AgeSeconds: float64(t.AgeMilliseconds) / 1000,
			Anchor: uint64(t.ID.Anchor), AnchorLeader: names[uint64(t.AnchorLeader)],
			Participants: shardNumbers(t.Participants), Undecided: shardNumbers(slices.Compact(t.Undecided)),
		}
		if t.AnchorLeader != 0 {
			status.AnchorLeaderID = t.AnchorLeader.String()
		}
		shown.Transactions = append(shown.Transactions, status)
	}
	return shown
}

func shardNumbers(ids []kv.ShardID) []uint64 {
	numbers := make([]uint64, len(ids))
	for i, id := range ids {
		numbers[i] = uint64(id)
	}
	return numbers
}

func (t *transactionStatus) row() []string {
	leader := t.AnchorLeader
	if leader == "" {
		leader = orDash(t.AnchorLeaderID)
	}
	age := time.Duration(t.AgeSeconds * float64(time.Second)).Round(10 * time.Millisecond)
	return []string{t.ID, age.String(), fmt.Sprint(t.Anchor), leader, listed(t.Participants), listed(t.Undecided)}
}

// mostListed is how many shards of a transaction a row names.
const mostListed = 8

func listed(shards []uint64) string {
	var names []string
	for _, id := range shards[:min(len(shards), mostListed)] {
		names = append(names, fmt.Sprint(id))
	}
	if more := len(shards) - mostListed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return orDash(strings.Join(names, " "))
}
