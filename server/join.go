package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	// joinTimeout is how long one of them may take to answer.
	joinTimeout = 2 * time.Second
)

// joins tells whether the node has to ask. One whose data was lost and that nobody else is named to be asked begins as it always did. What was remembered without
// an identity is of a first start that was interrupted.
func (o Options) joins() bool {
	if !datadir.HasIdentity(o.Node.DataDir) {
		return o.Node.InitialClusterState == ClusterExisting && len(o.Cluster.Members) > 1
	}
	// What it was created with stood in the identity, which is damaged; a node that was added need never have been told.
	f := o.Cluster.recalled
	return f != nil && f.added && o.repairs() && datadir.ReadIdentity(o.Node.DataDir) == nil
}

// others are those that can be asked: what --initial-cluster says, and what is known of the members.
func (o Options) others() (urls []URL) {
	add := func(u URL) {
		if !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	for _, m := range o.Cluster.Members {
		if m.Name != o.Node.Name {
			for _, u := range m.PeerURLs {
				add(u)
			}
		}
	}
	if f := o.Cluster.recalled; f != nil {
		for i := range f.list.Members {
			for _, text := range f.list.Members[i].PeerURLs {
				if u, err := ParseURL(text); err == nil && f.list.Members[i].ID != f.self {
					add(u)
				}
			}
		}
	}
	return urls
}

// join asks the other nodes, until they have said enough.
func (o Options) join(ctx context.Context) (Options, error) {
	security, err := o.peerSecurity()
	if err != nil {
		return o, err
	}
	deadline := time.Now().Add(joinPatience)
	for {
		answers, silent := o.askAll(ctx, security)
		joined, err := o.judgeAnswers(answers)
		if err == nil && len(answers) > 0 {
			return joined, nil
		}
		if err == nil {
			err = fmt.Errorf("--initial-cluster-state=existing: cannot fetch cluster info from peer urls: no other node of --initial-cluster answered: %s", strings.Join(silent, "; "))
		}
		if len(silent) == 0 || time.Now().After(deadline) {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-time.After(joinPause):
		}
	}
}

// askAll asks all others at once, and says why some did not answer.
func (o Options) askAll(ctx context.Context, security transport.Security) (answers []*transport.Answer, silent []string) {
	urls := o.others()
	told, failures := make([]*transport.Answer, len(urls)), make([]error, len(urls))
	var asking sync.WaitGroup
	for i, u := range urls {
		asking.Go(func() {
			told[i], failures[i] = transport.Ask(ctx, transport.AskOptions{Address: u.HostPort(), Security: security, Name: o.Node.Name, Timeout: joinTimeout})
		})
	}
	asking.Wait()
	for i := range urls {
		if failures[i] != nil {
			silent = append(silent, failures[i].Error())
		} else {
			answers = append(answers, told[i])
		}
	}
	return answers, silent
}

// judgeAnswers goes by the answer with the newest list: a node that lags behind may not have heard yet that this one was added. Of none, nothing follows.
func (o Options) judgeAnswers(answers []*transport.Answer) (Options, error) {
	var newest *transport.Answer
	version := uint64(0)
	for _, a := range answers {
		if newest != nil && a.Cluster != newest.Cluster {
			return o, badf("--initial-cluster-state=existing: node %s (%q) belongs to cluster %s, and node %s (%q) to cluster %s: name nodes of one cluster in --initial-cluster",
				newest.Node, newest.Name, newest.Cluster, a.Node, a.Name, a.Cluster)
		}
		own := uint64(0)
		if a.List != nil {
			_, list, err := decodeTold(a.List)
			if err != nil {
				return o, fmt.Errorf("--initial-cluster-state=existing: node %s (%q): %w", a.Node, a.Name, err)
			}
			own = list.Version
		}
		if newest == nil || own > version || own == version && newest.List == nil {
			newest, version = a, own
		}
	}
	if newest == nil {
		return o, nil
	}
	if newest.List != nil {
		kept, err := settingsTold(newest.Metadata)
		if err != nil {
			return o, fmt.Errorf("--initial-cluster-state=existing: node %s (%q): %w", newest.Node, newest.Name, err)
		}
		o.Cluster = o.Cluster.takeOver(kept)
	}
	f, err := o.foundationFrom(newest)
	if err == nil {
		o.Cluster.recalled = f
	}
	return o, err
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

// selfIn finds this node by its URLs.
func (o Options) selfIn(list *members.List) *members.Member {
	for i := range list.Members {
		if o.Node.ReachedAt(list.Members[i].PeerURLs) {
			return &list.Members[i]
		}
	}
	return nil
}

// ReachedAt tells whether the other nodes reach this one at exactly these URLs. That some have TLS does not matter.
func (n NodeOptions) ReachedAt(texts []string) bool {
	var theirs []URL
	for _, text := range texts {
		if u, err := ParseURL(text); err == nil {
			theirs = append(theirs, u)
		}
	}
	return slices.Equal(plainTexts(n.AdvertisePeerURLs), plainTexts(theirs))
}

// Joining returns options of a node that was added to a cluster with these members, itself among them. What it is to be started with the cluster says later.
func (o Options) Joining(list []kv.NodeRecord) Options {
	o.Node.InitialClusterState, o.Cluster.Members = ClusterExisting, []Member{{Name: o.Node.Name, PeerURLs: slices.Clone(o.Node.AdvertisePeerURLs)}}
	for _, r := range list {
		if o.Node.ReachedAt(r.PeerURLs) {
			continue
		}
		m := Member{Name: r.Name}
		if m.Name == "" || o.Cluster.member(m.Name) != nil {
			m.Name = r.ID.String() // it has not started yet, or another one is called so
		}
		for _, text := range r.PeerURLs {
			if u, err := ParseURL(text); err == nil {
				m.PeerURLs = append(m.PeerURLs, u)
			}
		}
		if len(m.PeerURLs) > 0 {
			o.Cluster.Members = append(o.Cluster.Members, m)
		}
	}
	return o
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
