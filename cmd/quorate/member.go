package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// memberTimeout is how long a change of members may take: it is over when all shards have followed.
const memberTimeout = 30 * time.Second

func (a *app) memberCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "member",
		Short: "Show, add, promote, replace and remove the nodes of the cluster",
		Long: `Who the nodes of the cluster are. Changes are made one at a time: each is over when all shards
have followed, and until then the next one is refused. A new node is added first, and started
then; it begins with an empty data directory. One that was removed never comes back under
its ID: it is added again, and its data directory emptied before.`,
		Example: `  quorate member list
  quorate member add n4 --peer-urls http://10.0.0.4:2380 --learner
  quorate member promote n4     # when it has the data
  quorate member remove n1
  quorate member replace n2 --peer-urls http://10.0.0.5:2380`,
	}
	command.AddCommand(a.memberListCommand(), a.memberAddCommand(), a.memberPromoteCommand(), a.memberUpdateCommand(), a.memberRemoveCommand(), a.memberReplaceCommand())
	return command
}

type memberJSON struct {
	ID         string   `json:"id"`
	Name       string   `json:"name,omitempty"` // none: it has not started yet
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls,omitempty"`
	Learner    bool     `json:"learner,omitempty"`
}

func membersJSON(members []*pb.Member) []memberJSON {
	list := make([]memberJSON, len(members)) // [] rather than null when empty
	for i, m := range members {
		list[i] = memberJSON{ID: fmt.Sprintf("%x", m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner}
	}
	return list
}

func (a *app) memberListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show the nodes of the cluster",
		Example: "  quorate member list --output json",
		Args:    cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.request(ctx, "member list", func(ctx context.Context, client *clientv3.Client) error {
				response, err := client.MemberList(ctx)
				if err != nil {
					return err
				}
				return a.printMembers(response.Members)
			})
		}),
	}
}

func (a *app) printMembers(members []*pb.Member) error {
	if a.json() {
		return writeJSON(a.stdout, map[string][]memberJSON{"members": membersJSON(members)})
	}
	rows := make([][]string, len(members))
	for i, m := range members {
		state, role := "started", "voter"
		if m.Name == "" {
			state = "not started"
		}
		if m.IsLearner {
			role = "learner"
		}
		rows[i] = []string{fmt.Sprintf("%x", m.ID), orDash(m.Name), state, role, strings.Join(m.PeerURLs, ","), orDash(strings.Join(m.ClientURLs, ","))}
	}
	return table(a.stdout, []string{"ID", "NAME", "STATE", "ROLE", "PEER URLS", "CLIENT URLS"}, rows)
}

func (a *app) memberAddCommand() *cobra.Command {
	learner := false
	var urls []string
	command := &cobra.Command{
		Use:   "add NAME --peer-urls URL[,URL]",
		Short: "Add a node, which is started afterwards",
		Long: `Adds a node, and prints what it is to be started with: its flags, or the variables that stand for
them. A learner has no vote until it is promoted; a node that is to vote at once counts for the
quorum before it has any data, if it is the second of two.`,
		Example: "  quorate member add n4 --peer-urls http://10.0.0.4:2380 --learner",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			if len(urls) == 0 {
				return usagef("--peer-urls is missing: where the other nodes reach the new one, as in --initial-advertise-peer-urls there")
			}
			return a.memberAdd(ctx, arguments[0], urls, learner)
		}),
	}
	command.Flags().StringSliceVar(&urls, "peer-urls", nil, "where the other nodes reach the new one: http://host:port,http://host:port")
	command.Flags().BoolVar(&learner, "learner", false, "without a vote, until it is promoted")
	return command
}

func (a *app) memberAdd(ctx context.Context, name string, urls []string, learner bool) error {
	if name == "" || strings.ContainsAny(name, ",=") {
		return usagef("%q is no name: it is written with commas and equals signs in --initial-cluster", name)
	}
	return a.request(ctx, "member add", func(ctx context.Context, client *clientv3.Client) error {
		add := client.MemberAdd
		if learner {
			add = client.MemberAddAsLearner
		}
		response, err := add(ctx, urls)
		if err != nil {
			return err
		}
		added, initial := response.Member, initialCluster(response.Members, response.Member.ID, name)
		if a.json() {
			return writeJSON(a.stdout, struct {
				Added          memberJSON   `json:"added"`
				InitialCluster string       `json:"initial_cluster"`
				Members        []memberJSON `json:"members"`
			}{membersJSON([]*pb.Member{added})[0], initial, membersJSON(response.Members)})
		}
		_, err = fmt.Fprintf(a.stdout, "Member %x added to cluster %x\n\nETCD_NAME=%q\nETCD_INITIAL_CLUSTER=%q\nETCD_INITIAL_ADVERTISE_PEER_URLS=%q\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
			added.ID, response.Header.GetClusterId(), name, initial, strings.Join(added.PeerURLs, ","))
		return err
	})
}

// initialCluster is what a node that was added is told of the others. One that has never started has no name yet, and is told by its ID.
func initialCluster(members []*pb.Member, added uint64, name string) string {
	var pairs []string
	for _, m := range members {
		called := m.Name
		switch {
		case m.ID == added:
			called = name
		case called == "":
			called = fmt.Sprintf("%x", m.ID)
		}
		for _, u := range m.PeerURLs {
			pairs = append(pairs, called+"="+u)
		}
	}
	return strings.Join(pairs, ",")
}

// memberChange is a command about one member that is there.
func (a *app) memberChange(use, short, example string, do func(context.Context, *clientv3.Client, *pb.Member) (done string, err error)) *cobra.Command {
	what := "member " + strings.Fields(use)[0]
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.request(ctx, what, func(ctx context.Context, client *clientv3.Client) error {
				m, err := findMember(ctx, client, arguments[0])
				if err != nil {
					return err
				}
				done, err := do(ctx, client, m)
				switch {
				case errors.Is(err, rpctypes.ErrMemberNotFound):
					return noSuchMember(arguments[0])
				case err != nil:
					return err
				case a.json():
					return writeJSON(a.stdout, map[string]memberJSON{strings.Fields(done)[0]: membersJSON([]*pb.Member{m})[0]})
				}
				_, err = fmt.Fprintf(a.stdout, "Member %x %s\n", m.ID, done)
				return err
			})
		}),
	}
}

func (a *app) memberPromoteCommand() *cobra.Command {
	return a.memberChange("promote NAME|ID", "Give a learner a vote", "  quorate member promote n4",
		func(ctx context.Context, client *clientv3.Client, m *pb.Member) (string, error) {
			response, err := client.MemberPromote(ctx, m.ID)
			if err != nil {
				return "", err
			}
			m.IsLearner = false
			return fmt.Sprintf("promoted in cluster %x", response.Header.GetClusterId()), nil
		})
}

func (a *app) memberRemoveCommand() *cobra.Command {
	command := a.memberChange("remove NAME|ID", "Remove a node", "  quorate member remove n1",
		func(ctx context.Context, client *clientv3.Client, m *pb.Member) (string, error) {
			response, err := client.MemberRemove(ctx, m.ID)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("removed from cluster %x", response.Header.GetClusterId()), nil
		})
	command.Long = `Removes a node for ever: it stops, and does not start again with its data. What it led, others lead.`
	return command
}

func (a *app) memberUpdateCommand() *cobra.Command {
	var urls []string
	command := a.memberChange("update NAME|ID --peer-urls URL[,URL]", "Change where the other nodes reach a node", "  quorate member update n2 --peer-urls http://10.0.0.22:2380",
		func(ctx context.Context, client *clientv3.Client, m *pb.Member) (string, error) {
			if len(urls) == 0 {
				return "", usagef("--peer-urls is missing: where the other nodes reach the node from now on")
			}
			response, err := client.MemberUpdate(ctx, m.ID, urls)
			if err != nil {
				return "", err
			}
			m.PeerURLs = urls
			return fmt.Sprintf("updated in cluster %x", response.Header.GetClusterId()), nil
		})
	command.Flags().StringSliceVar(&urls, "peer-urls", nil, "where the other nodes reach it: http://host:port,http://host:port")
	return command
}

func noSuchMember(argument string) error {
	return &notFoundError{"there is no member " + argument + "; `quorate member list` shows all"}
}

// findMember finds a member by its ID, or by its name.
func findMember(ctx context.Context, client *clientv3.Client, argument string) (*pb.Member, error) {
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	return memberCalled(list.Members, argument)
}

func memberCalled(list []*pb.Member, argument string) (*pb.Member, error) {
	var named []*pb.Member
	id, notAnID := strconv.ParseUint(argument, 16, 64)
	for _, m := range list {
		if notAnID == nil && m.ID == id {
			return m, nil
		}
		if m.Name == argument {
			named = append(named, m)
		}
	}
	switch len(named) {
	case 0:
		return nil, noSuchMember(argument)
	case 1:
		return named[0], nil
	}
	return nil, usagef("%d members are called %s: give the ID of one, as `quorate member list` shows it", len(named), argument)
}

func (a *app) moveLeaderCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "move-leader NAME|ID",
		Short: "Have another node lead",
		Long: `Hands the leadership over to another node, while clients are served. In a cluster of several shards
it is that of shard 1, whose leader numbers all revisions.`,
		Example: "  quorate move-leader n2",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			return a.request(ctx, "move-leader", func(ctx context.Context, client *clientv3.Client) error {
				target, err := findMember(ctx, client, arguments[0])
				if err != nil {
					return err
				}
				from, err := a.leaderEndpoint(ctx)
				if err != nil {
					return err
				}
				leader, err := a.newClient([]string{from}, a.timeout)
				if err != nil {
					return err
				}
				defer leader.Close()
				if _, err := leader.MoveLeader(ctx, target.ID); err != nil {
					return err
				}
				if a.json() {
					return writeJSON(a.stdout, map[string]string{"leader": fmt.Sprintf("%x", target.ID)})
				}
				_, err = fmt.Fprintf(a.stdout, "leadership moved to %s (%x)\n", orDash(target.Name), target.ID)
				return err
			})
		}),
	}
}

// leaderEndpoint is where the node that leads can be asked.
func (a *app) leaderEndpoint(ctx context.Context) (string, error) {
	nodes, err := a.allNodes(ctx, a.timeout)
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if n.Reachable && n.Role == "leader" {
			return n.Endpoint, nil
		}
	}
	return "", errors.New("the node that leads cannot be asked; `quorate status` shows all")
}
