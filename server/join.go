package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/tlsconf"
	"github.com/quoratedb/quorate/transport"
)

// A node with an empty data directory and --initial-cluster-state=existing asks the others what cluster there is, and who it is in it. It was either added to
// the cluster before, or it is one that the cluster began with, and has lost what it had.

const (
	// joinPatience is how long the others are asked until one answers: all nodes may be starting.
	joinPatience = 10 * time.Second
	joinPause    = 200 * time.Millisecond
)

// joins tells whether the node has to ask. One whose data was lost and that nobody else is named to be asked begins as it always did.
func (o Options) joins() bool {
	return o.Node.InitialClusterState == ClusterExisting && len(o.Cluster.Members) > 1 && !datadir.HasIdentity(o.Node.DataDir)
}

// join asks the nodes of --initial-cluster, one after the other, until one has said enough.
func (o Options) join(ctx context.Context) (Options, error) {
	security, err := o.peerSecurity()
	if err != nil {
		return o, err
	}
	deadline := time.Now().Add(joinPatience)
	for {
		f, err := o.askAll(ctx, security)
		if err == nil {
			o.Cluster.recalled = f
			return o, nil
		}
		var unreachable *unreachableError
		if !errors.As(err, &unreachable) || time.Now().After(deadline) {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-time.After(joinPause):
		}
	}
}

// unreachableError: nobody answered yet.
type unreachableError struct{ reasons []string }

func (e *unreachableError) Error() string {
	return "--initial-cluster-state=existing: cannot fetch cluster info from peer urls: no other node of --initial-cluster answered: " + strings.Join(e.reasons, "; ")
}

func (o Options) askAll(ctx context.Context, security transport.Security) (*foundation, error) {
	unreachable := &unreachableError{}
	for _, m := range o.Cluster.Members {
		if m.Name == o.Node.Name {
			continue
		}
		for _, url := range m.PeerURLs {
			answer, err := transport.Ask(ctx, transport.AskOptions{Address: url.HostPort(), Security: security, Name: o.Node.Name, Timeout: 2 * time.Second})
			if err != nil {
				unreachable.reasons = append(unreachable.reasons, err.Error())
				continue
			}
			return o.foundationFrom(answer)
		}
	}
	return nil, unreachable
}

// foundationFrom makes the foundation of what a node of the cluster said.
func (o Options) foundationFrom(answer *transport.Answer) (*foundation, error) {
	asked := fmt.Sprintf("node %s (%q)", answer.Node, answer.Name)
	if answer.List == nil { // a version before: its cluster is what --initial-cluster says, or there is no place in it
		if answer.Cluster != o.Cluster.computedID() {
			return nil, badf("--initial-cluster-state=existing: %s belongs to cluster %s, and --initial-cluster with --initial-cluster-token make cluster %s; "+
				"it is of a version that takes no new members: upgrade it first", asked, answer.Cluster, o.Cluster.computedID())
		}
		return nil, nil
	}
	if why := o.Cluster.judgePeer(answer.Metadata); why != "" {
		return nil, badf("--initial-cluster-state=existing: this node does not fit to the cluster that %s belongs to: %s", asked, why)
	}
	founders, list, err := decodeTold(answer.List)
	if err != nil {
		return nil, fmt.Errorf("--initial-cluster-state=existing: %s: %w", asked, err)
	}
	self := o.selfIn(list)
	if self == nil {
		return nil, badf("--initial-cluster-state=existing: error validating peerURLs: no member of cluster %s has the peer URLs %s, says %s; its members have %s. "+
			"Add this node first (member add), or correct --initial-advertise-peer-urls", answer.Cluster, joinURLs(o.Node.AdvertisePeerURLs), asked, peerURLsOf(list))
	}
	f := &foundation{cluster: answer.Cluster, self: self.ID, founders: founders, list: list}
	f.added = !slices.ContainsFunc(founders, func(r kv.NodeRecord) bool { return r.ID == self.ID })
	if list.Version == 0 {
		f.founders = list.Records()
	}
	return f, nil
}

// selfIn finds this node by its URLs; that some have TLS does not matter.
func (o Options) selfIn(list *members.List) *members.Member {
	own := plainTexts(o.Node.AdvertisePeerURLs)
	for i := range list.Members {
		var theirs []URL
		for _, text := range list.Members[i].PeerURLs {
			if u, err := ParseURL(text); err == nil {
				theirs = append(theirs, u)
			}
		}
		if slices.Equal(own, plainTexts(theirs)) {
			return &list.Members[i]
		}
	}
	return nil
}

func plainTexts(urls []URL) (texts []string) {
	for _, u := range urls {
		texts = append(texts, u.plain().String())
	}
	slices.Sort(texts)
	return texts
}

func peerURLsOf(list *members.List) string {
	var all []string
	for i := range list.Members {
		all = append(all, strings.Join(list.Members[i].PeerURLs, ","))
	}
	return strings.Join(all, " ")
}

// peerSecurity is what this node proves to the others with; nil: plain text.
func (o Options) peerSecurity() (transport.Security, error) {
	if !withTLS(o.Node.ListenPeerURLs) {
		return nil, nil
	}
	return tlsconf.Open(o.Node.PeerTLS, hostsOf(o.Node.ListenPeerURLs, o.Node.AdvertisePeerURLs), nil)
}
