package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// protocolHeader is the gRPC header of Maintenance.Status in which a node names
// the consensus protocol of its system shard; etcd's messages have no field for it.
const protocolHeader = "quorate-protocol"

// In these it says how many shards the cluster has, and how many of them it leads, if there are several.
const (
	shardsHeader    = "quorate-shards"
	shardsLedHeader = "quorate-shards-led"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status",
		// etcdctl's commands with the same purpose.
		SuggestFor: []string{"endpoint", "health"},
		Short:      "Show what every node is doing",
		Long: `Asks every node of the cluster, found through --endpoints, for its state as the node
itself sees it. A node that does not answer is shown as such. The exit code is 3 when no
node answers, or none of them knows a leader. In a cluster of several shards ROLE, TERM, APPLIED
and REVISION are those of shard 1, whose leader numbers all revisions; LEADS is how many shards a
node leads, and quorate shards shows them one by one.`,
		Example: "  quorate status\n  quorate status --endpoints 10.0.0.1:2379 --output json",
		Args:    cobra.NoArgs,
		RunE:    a.command(func(ctx context.Context, _ []string) error { return a.status(ctx) }),
	}
}

// nodeStatus is one row. Pointers and empty texts: not known.
type nodeStatus struct {
	Name      string   `json:"name,omitempty"`
	ID        string   `json:"id,omitempty"`
	Endpoint  string   `json:"endpoint"`
	Reachable bool     `json:"reachable"`
	Role      string   `json:"role,omitempty"` // leader, follower, learner, or no leader
	Protocol  string   `json:"protocol,omitempty"`
	Version   string   `json:"version,omitempty"`
	Term      uint64   `json:"term,omitempty"`
	Applied   uint64   `json:"applied_index,omitempty"`
	Committed uint64   `json:"committed_index,omitempty"`
	Revision  int64    `json:"revision,omitempty"`
	Size      int64    `json:"db_size,omitempty"`
	InUse     int64    `json:"db_size_in_use,omitempty"`
	Quota     int64    `json:"quota,omitempty"`
	Shards    int      `json:"shards,omitempty"` // of the cluster, if there are several
	Leads     *int     `json:"leads,omitempty"`  // how many of them this node leads
	Errors    []string `json:"errors,omitempty"`

	open    bool // accepts connections
	refused bool // does not answer whoever asks
	id      uint64
	members []*pb.Member // the cluster as this node knows it; nil when it did not say
}

func (a *app) status(ctx context.Context) error {
	nodes, err := a.allNodes(ctx, a.timeout)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errors.New("status: interrupted")
	}
	if err := a.printStatus(nodes); err != nil {
		return err
	}
	if !anyReachable(nodes) {
		return nobodyAnswered("status", nodes)
	}
	if !slices.ContainsFunc(nodes, func(n *nodeStatus) bool { return n.Reachable && n.Role != noLeader }) {
		return &unavailableError{"status: no node that answered knows a leader. More than half of the nodes must run and reach each other."}
	}
	return nil
}

func anyReachable(nodes []*nodeStatus) bool {
	return slices.ContainsFunc(nodes, func(n *nodeStatus) bool { return n.Reachable })
}

// nobodyAnswered says why nothing could be shown: nobody was there, or those who were have refused.
func nobodyAnswered(command string, nodes []*nodeStatus) error {
	for _, n := range nodes {
		if n.refused {
			return refused(command, n.Errors[0])
		}
	}
	return &unavailableError{command + ": no node answered. Is one running? `quorate demo` starts a cluster on this machine; --endpoints says where to look."}
}

// noLeader is the role of a node that knows no leader.
const noLeader = "no leader"

// allNodes asks every node of the cluster for its state.
func (a *app) allNodes(ctx context.Context, timeout time.Duration) ([]*nodeStatus, error) {
	endpoints, err := a.cleanEndpoints()
	if err != nil {
		return nil, err
	}
	nodes := a.askAll(ctx, endpoints, timeout)
	// The nodes that were asked know of others, whose addresses nobody gave.
	unasked, names := otherNodes(nodes)
	nodes = append(nodes, a.askAll(ctx, unasked, timeout)...)
	return mergeNodes(nodes, names), nil
}

func (a *app) askAll(ctx context.Context, endpoints []string, timeout time.Duration) []*nodeStatus {
	nodes := make([]*nodeStatus, len(endpoints))
	var wait sync.WaitGroup
	for i, endpoint := range endpoints {
		wait.Go(func() { nodes[i] = a.ask(ctx, endpoint, timeout) })
	}
	wait.Wait()
	return nodes
}

// ask gets the state of one node, over a connection to that node alone.
func (a *app) ask(ctx context.Context, endpoint string, timeout time.Duration) *nodeStatus {
	n := &nodeStatus{Endpoint: endpoint}
	// A refused connection is refused again within the timeout; say so at once.
	if state := probe(endpoint); state != reachable {
		n.Errors = []string{state}
		return n
	}
	n.open = true
	client, err := a.newClient([]string{endpoint}, timeout)
	if err != nil {
		n.refuse(err)
		return n
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var header metadata.MD
	response, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{}, grpc.Header(&header))
	if err != nil {
		n.refuse(err)
		return n
	}
	n.fill(response, header)
	// Asked locally, so that it works without a quorum.
	list, err := pb.NewClusterClient(client.ActiveConnection()).MemberList(ctx, &pb.MemberListRequest{Linearizable: false})
	if err != nil {
		_, message := codeOf(err)
		n.Errors = append(n.Errors, "member list: "+message)
		return n
	}
	n.members = list.Members
	return n
}

// refuse notes why a node that accepts connections gave no status.
func (n *nodeStatus) refuse(err error) {
	n.Errors, n.refused = []string{unanswered(err)}, refusesUsers(codeOf(err))
}

func (n *nodeStatus) fill(response *pb.StatusResponse, header metadata.MD) {
	n.Reachable = true
	n.id = response.Header.GetMemberId()
	n.ID = fmt.Sprintf("%x", n.id)
	n.Version = response.Version
	n.Term, n.Applied, n.Committed = response.RaftTerm, response.RaftAppliedIndex, response.RaftIndex
	n.Revision = response.Header.GetRevision()
	n.Size, n.InUse, n.Quota = response.DbSize, response.DbSizeInUse, response.DbSizeQuota
	n.Errors = response.Errors
	n.Protocol = strings.Join(header.Get(protocolHeader), ",")
	shards, err := strconv.Atoi(strings.Join(header.Get(shardsHeader), ","))
	if leads, ledErr := strconv.Atoi(strings.Join(header.Get(shardsLedHeader), ",")); err == nil && ledErr == nil {
		n.Shards, n.Leads = shards, &leads
	}
	switch {
	case response.Leader == 0:
		n.Role = noLeader
	case response.Leader == n.id:
		n.Role = "leader"
	case response.IsLearner:
		n.Role = "learner"
	default:
		n.Role = "follower"
	}
}

// otherNodes finds, in what the reachable nodes know of the cluster, one
// endpoint of each node that was not asked, and the names of all.
func otherNodes(nodes []*nodeStatus) (endpoints []string, names map[uint64]*pb.Member) {
	names = map[uint64]*pb.Member{}
	asked := map[string]bool{}
	answered := map[uint64]bool{}
	for _, n := range nodes {
		asked[n.Endpoint] = true
		answered[n.id] = n.Reachable
		for _, member := range n.members {
			names[member.ID] = member
		}
	}
	for id, member := range names {
		urls := memberEndpoints(member)
		if answered[id] || len(urls) == 0 || slices.ContainsFunc(urls, func(u string) bool { return asked[u] }) {
			continue
		}
		endpoints = append(endpoints, urls[0])
	}
	slices.Sort(endpoints)
	return endpoints, names
}

func memberEndpoints(member *pb.Member) []string {
	var endpoints []string
	for _, u := range member.ClientURLs {
		if path, is := strings.CutPrefix(u, "unixs://"); is {
			u = "unix://" + path
		}
		endpoints = append(endpoints, strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(u, "http://"), "https://"), "/"))
	}
	return endpoints
}

// mergeNodes makes one row per node: two endpoints of one node are one row, a
// node that did not answer gets its name from what the others know, and a node
// without any known address is still listed.
func mergeNodes(nodes []*nodeStatus, members map[uint64]*pb.Member) []*nodeStatus {
	var merged []*nodeStatus
	seen := map[uint64]bool{}
	for _, n := range nodes {
		if !n.Reachable {
			n.adopt(members)
		}
		if n.id != 0 && seen[n.id] {
			continue
		}
		if member := members[n.id]; member != nil {
			n.Name = member.Name
		}
		seen[n.id] = true
		merged = append(merged, n)
	}
	for id, member := range members {
		if !seen[id] {
			merged = append(merged, &nodeStatus{Name: member.Name, ID: fmt.Sprintf("%x", id), id: id, Errors: []string{"its client address is not known: it has not started yet"}})
		}
	}
	slices.SortStableFunc(merged, func(a, b *nodeStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return merged
}

// adopt recognizes an unreachable node by its address.
func (n *nodeStatus) adopt(members map[uint64]*pb.Member) {
	for id, member := range members {
		if slices.Contains(memberEndpoints(member), n.Endpoint) {
			n.id, n.ID = id, fmt.Sprintf("%x", id)
		}
	}
}

func (a *app) printStatus(nodes []*nodeStatus) error {
	shards, sequencer := shardsOf(nodes)
	if a.json() {
		return writeJSON(a.stdout, struct {
			Shards    int           `json:"shards,omitempty"`
			Sequencer string        `json:"sequencer,omitempty"`
			Nodes     []*nodeStatus `json:"nodes"`
		}{shards, sequencer, nodes})
	}
	header := []string{"NAME", "ID", "ENDPOINT", "ROLE", "PROTOCOL", "TERM", "APPLIED", "REVISION", "SIZE", "IN USE", "QUOTA", "ERRORS"}
	rows := make([][]string, len(nodes))
	for i, n := range nodes {
		rows[i] = n.row()
	}
	if shards == 0 {
		return table(a.stdout, header, rows)
	}
	const afterRole = 4
	for i, n := range nodes {
		leads := "-"
		if n.Leads != nil {
			leads = strconv.Itoa(*n.Leads)
		}
		rows[i] = slices.Insert(rows[i], afterRole, leads)
	}
	if err := table(a.stdout, slices.Insert(header, afterRole, "LEADS"), rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%d shards; sequencer: %s\n", shards, orDash(sequencer))
	return err
}

// shardsOf is how many shards there are, 0 if there is one, and the name of the node that leads shard 1: the sequencer is there.
func shardsOf(nodes []*nodeStatus) (shards int, sequencer string) {
	for _, n := range nodes {
		shards = max(shards, n.Shards)
		if n.Shards > 1 && n.Role == "leader" {
			sequencer = cmp.Or(n.Name, n.ID)
		}
	}
	return shards, sequencer
}

func (n *nodeStatus) row() []string {
	remarks := strings.Join(n.Errors, "; ")
	if !n.Reachable {
		state := "unreachable"
		if n.refused {
			state = "refuses"
		}
		return []string{orDash(n.Name), orDash(n.ID), orDash(n.Endpoint), state, "-", "-", "-", "-", "-", "-", "-", remarks}
	}
	quota := "none"
	if n.Quota > 0 {
		quota = byteSize(n.Quota)
	}
	return []string{
		orDash(n.Name), n.ID, n.Endpoint, n.Role, orDash(n.Protocol),
		fmt.Sprint(n.Term), fmt.Sprint(n.Applied), fmt.Sprint(n.Revision),
		byteSize(n.Size), byteSize(n.InUse), quota, remarks,
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
