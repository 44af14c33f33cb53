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
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (a *app) memberReplaceCommand() *cobra.Command {
	var urls []string
	patience := time.Duration(0)
	command := &cobra.Command{
		Use:   "replace OLD --peer-urls URL[,URL]",
		Short: "Put a new node in the place of another one",
		Long: `Adds a node without a vote, waits until it has started and has the data, gives it a vote, and
removes the old one, which may be down. Start the new one meanwhile, with --join and an empty data
directory. The command can be given again at any time: it goes on where it was. It refuses what
would leave too few nodes to have a quorum.`,
		Example: "  quorate member replace n1 --peer-urls http://10.0.0.4:2380",
		Args:    cobra.ExactArgs(1),
		RunE: a.command(func(ctx context.Context, arguments []string) error {
			if len(urls) == 0 {
				return usagef("--peer-urls is missing: where the other nodes reach the new one, as in --initial-advertise-peer-urls there")
			}
			slices.Sort(urls)
			return a.memberReplace(ctx, arguments[0], urls, patience)
		}),
	}
	command.Flags().StringSliceVar(&urls, "peer-urls", nil, "where the other nodes reach the new one: http://host:port,http://host:port")
	command.Flags().DurationVar(&patience, "patience", time.Hour, "how long to wait for the new node to start and to get the data, and for the cluster to be fit for each change")
	return command
}

// replacementStep is what is to be done next.
type replacementStep int

const (
	replaceAdd replacementStep = iota
	replacePromote
	replaceAwait // the new one has a vote, and is to answer before the old one goes
	replaceRemove
	replaced
)

// nextReplacement decides what is to be done next, by the members that there are and those that answer. old is a name or an ID; urls are those of the new one. Whose
// it is comes back with it.
func nextReplacement(list []*pb.Member, old string, urls []string, up map[uint64]bool) (replacementStep, *pb.Member, error) {
	var gone, added *pb.Member
	for _, m := range list {
		theirs := slices.Sorted(slices.Values(m.PeerURLs))
		switch {
		case slices.Equal(theirs, urls):
			added = m
		case slices.ContainsFunc(theirs, func(u string) bool { return slices.Contains(urls, u) }):
			return 0, nil, usagef("a part of --peer-urls is of member %x (%s), which has %s: give the new node addresses of its own", m.ID, orDash(m.Name), strings.Join(m.PeerURLs, ","))
		}
	}
	gone, err := memberCalled(list, old)
	switch {
	case added == nil && err != nil:
		return 0, nil, err
	case added != nil && gone == added:
		return 0, nil, usagef("--peer-urls are those of %s itself. A node that lost its data and keeps its addresses is not replaced: start it with an empty data directory and "+
			"--initial-cluster-state=existing", old)
	case gone != nil && gone.IsLearner:
		return 0, nil, usagef("%s has no vote: remove it, and add the other one", old)
	case added == nil:
		return replaceAdd, nil, refuseLoss(list, gone, up, 1)
	case added.IsLearner:
		return replacePromote, added, refuseLoss(list, gone, up, 1)
	case gone != nil:
		err := refuseLoss(list, gone, up, 0)
		if err != nil && !up[added.ID] && refuseLoss(list, gone, withUp(up, added.ID), 0) == nil {
			return replaceAwait, added, nil
		}
		return replaceRemove, gone, err
	}
	return replaced, added, nil
}

// withUp is who answers, and one more.
func withUp(up map[uint64]bool, id uint64) map[uint64]bool {
	up = maps.Clone(up)
	up[id] = true
	return up
}

// refuseLoss says no if those that answer would be no quorum without the old node; joining: the new one is still to get its vote, and answers then.
func refuseLoss(list []*pb.Member, gone *pb.Member, up map[uint64]bool, joining int) error {
	voters, answering := joining, joining
	for _, m := range list {
		if !m.IsLearner && m != gone {
			voters++
			if up[m.ID] {
				answering++
			}
		}
	}
	if gone == nil || answering > voters/2 {
		return nil
	}
	return &unavailableError{fmt.Sprintf("member replace: without %s, %d of %d nodes with a vote would answer, which is no quorum: start the others first; if they are lost for good, see `quorate rescue --help`. "+
		"This step was not done", gone.Name, answering, voters)}
}

// silentError is about a node that the cluster needs, and that does not answer.
type silentError struct{ node string }

func (e *silentError) Error() string {
	return e.node + " has a vote, and does not answer: without it and the old one there is no quorum. Start it"
}

func (a *app) memberReplace(ctx context.Context, old string, urls []string, patience time.Duration) error {
	client, err := a.connect(ctx, "member replace")
	if err != nil {
		return err
	}
	defer client.Close()
	var loss *unavailableError
	var silent *silentError
	said := ""
	say := func(text string) {
		if said != text {
			said = text
			fmt.Fprintln(a.stderr, text)
		}
	}
	for deadline := time.Now().Add(patience); ; {
		done, err := a.replaceOnce(ctx, client, old, urls, say)
		switch {
		case done != nil:
			if a.json() {
				return writeJSON(a.stdout, map[string]memberJSON{"replacement": membersJSON([]*pb.Member{done})[0]})
			}
			_, err := fmt.Fprintf(a.stdout, "Member %x (%s) has taken the place of %s\n", done.ID, orDash(done.Name), old)
			return err
		case err == nil:
			continue
		case errors.As(err, &loss):
			return err
		case errors.As(err, &silent):
			say("waiting: " + err.Error())
			if ctx.Err() == nil && time.Now().After(deadline) {
				return &unavailableError{fmt.Sprintf("member replace: %v; %s was not removed. Give the command again, and it goes on", err, old)}
			}
		case ctx.Err() != nil || !passes(err):
			return a.explain(ctx, "member replace", err)
		case time.Now().After(deadline):
			return fmt.Errorf("%w; give the command again, and it goes on", a.explain(ctx, "member replace", err))
		}
		say("waiting: " + plain(err.Error()))
		select {
		case <-ctx.Done():
		case <-time.After(joinPause):
		}
	}
}

// replaceOnce does one step. done: it was the last.
func (a *app) replaceOnce(ctx context.Context, client *clientv3.Client, old string, urls []string, say func(string)) (done *pb.Member, err error) {
	up := map[uint64]bool{}
	nodes, err := a.allNodes(ctx, min(a.timeout, 2*time.Second))
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		up[n.id] = up[n.id] || n.Reachable
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	step, m, err := nextReplacement(list.Members, old, urls, up)
	if err != nil {
		return nil, err
	}
	switch step {
	case replaceAdd:
		added, err := client.MemberAddAsLearner(ctx, urls)
		if err != nil {
			return nil, err
		}
		say(fmt.Sprintf("added %x, without a vote; start it with an empty data directory, --join=%s and --initial-advertise-peer-urls=%s", added.Member.ID, strings.Join(a.endpoints, ","), strings.Join(urls, ",")))
	case replacePromote:
		if m.Name == "" {
			say(fmt.Sprintf("%x has not started yet", m.ID))
		} else {
			say(m.Name + " is to get the data, and a vote")
		}
		if _, err := client.MemberPromote(ctx, m.ID); err != nil {
			return nil, err
		}
		say(cmp.Or(m.Name, fmt.Sprintf("%x", m.ID)) + " has a vote")
	case replaceAwait:
		return nil, &silentError{cmp.Or(m.Name, fmt.Sprintf("%x", m.ID))}
	case replaceRemove:
		if _, err := client.MemberRemove(ctx, m.ID); err != nil {
			return nil, err
		}
		say(fmt.Sprintf("removed %s (%x)", orDash(m.Name), m.ID))
	case replaced:
		return m, nil
	}
	return nil, nil
}
