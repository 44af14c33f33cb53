package server

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// optionError is for people: its text does not begin with "bad options".
type optionError struct{ message string }

func (e *optionError) Error() string        { return e.message }
func (e *optionError) Is(target error) bool { return target == ErrBadOptions }

func badf(format string, arguments ...any) error {
	return &optionError{fmt.Sprintf(format, arguments...)}
}

// Validate reports the first thing that is wrong, in words for the person who
// set it. It expects WithDefaults to have been applied.
func (o Options) Validate() error {
	if err := o.Node.validate(); err != nil {
		return err
	}
	if err := o.Cluster.validate(); err != nil {
		return err
	}
	if least := int64(o.Cluster.MaxRequestBytes) + 1<<20; o.Node.MaxConnectionMemoryBytes < least {
		return badf("--max-connection-memory-bytes=%d: a request of --max-request-bytes=%d does not fit; it must be at least %d",
			o.Node.MaxConnectionMemoryBytes, o.Cluster.MaxRequestBytes, least)
	}
	if o.Cluster.recalled == nil { // otherwise --initial-cluster does not matter
		if err := o.validateMembership(); err != nil {
			return err
		}
	}
	if err := o.validateSecurity(); err != nil {
		return err
	}
	if _, _, err := o.Node.users(); err != nil {
		return badf("%v", err)
	}
	if err := o.Cluster.validateShards(); err != nil {
		return err
	}
	return o.Cluster.Quorums.validate(o.Cluster.Consensus, len(o.foundation().founders))
}

func (n NodeOptions) validate() error {
	switch {
	case strings.ContainsAny(n.Name, ",="):
		return badf("--name=%s: a name must contain neither a comma nor an equals sign, because --initial-cluster is written with them", n.Name)
	case n.Name == "" || !utf8.ValidString(n.Name):
		return badf("--name is empty or not UTF-8 text")
	case n.DataDir == "":
		return badf("--data-dir is empty")
	case n.InitialClusterState != ClusterNew && n.InitialClusterState != ClusterExisting:
		return badf("--initial-cluster-state=%s: must be %q or %q", n.InitialClusterState, ClusterNew, ClusterExisting)
	case n.CorruptCheckInterval < 0:
		return badf("--corrupt-check-time must not be below 0 (it is %v)", n.CorruptCheckInterval)
	case n.MaxLearners < 1:
		return badf("--max-learners must be above 0")
	case n.SnapshotCount == 0:
		return badf("--snapshot-count must be above 0")
	case n.WatchProgressNotifyInterval <= 0:
		return badf("--watch-progress-notify-interval must be above 0 (it is %v)", n.WatchProgressNotifyInterval)
	case n.MaxConcurrentStreams == 0:
		return badf("--max-concurrent-streams must be above 0")
	case n.MaxClientConnections < 1:
		return badf("--max-client-connections must be above 0")
	case n.MaxConnectionMemoryBytes < 1 || n.MaxClientMemoryBytes < n.MaxConnectionMemoryBytes:
		return badf("--max-connection-memory-bytes=%d must be above 0, and not above --max-client-memory-bytes=%d", n.MaxConnectionMemoryBytes, n.MaxClientMemoryBytes)
	}
	if err := n.Audit.validate(); err != nil {
		return err
	}
	return n.validateURLs()
}

func (n NodeOptions) validateURLs() error {
	for _, list := range []struct {
		flag string
		urls []URL
		bind bool

		sockets bool // unix:// is possible
	}{
		{"listen-client-urls", n.ListenClientURLs, true, true},
		{"listen-peer-urls", n.ListenPeerURLs, true, false},
		{"listen-metrics-urls", n.ListenMetricsURLs, true, false},
		{"listen-client-http-urls", n.ListenHTTPURLs, true, true},
		{"advertise-client-urls", n.AdvertiseClientURLs, false, true},
		{"initial-advertise-peer-urls", n.AdvertisePeerURLs, false, false},
	} {
		if len(list.urls) == 0 && list.flag != "listen-metrics-urls" && list.flag != "listen-client-http-urls" {
			return badf("--%s is empty", list.flag)
		}
		for i, u := range list.urls {
			if slices.Contains(list.urls[:i], u) {
				return badf("--%s names %s twice", list.flag, u)
			}
			if err := u.check(list.bind); err != nil {
				return badf("--%s: %v", list.flag, err)
			}
			if u.Path != "" && !list.sockets {
				return badf("--%s: %s: only clients can use sockets in the file system; give http:// or https://", list.flag, u)
			}
		}
	}
	return n.checkListenersDiffer()
}

// checkListenersDiffer finds one address used for two purposes, which would
// otherwise show up as a confusing "address already in use".
func (n NodeOptions) checkListenersDiffer() error {
	lists := []struct {
		flag string
		urls []URL
	}{{"listen-client-urls", n.ListenClientURLs}, {"listen-peer-urls", n.ListenPeerURLs}, {"listen-metrics-urls", n.ListenMetricsURLs},
		{"listen-client-http-urls", n.ListenHTTPURLs}}
	for i, a := range lists {
		for _, b := range lists[i+1:] {
			for _, u := range a.urls {
				if (u.Port != 0 || u.Path != "") && slices.ContainsFunc(b.urls, func(other URL) bool { return u.plain() == other.plain() }) {
					return badf("--%s and --%s both name %s; each needs an address of its own", a.flag, b.flag, u)
				}
			}
		}
	}
	return nil
}

func (c ClusterOptions) validate() error {
	switch {
	case c.Consensus != ConsensusRaft && c.Consensus != ConsensusPaxos:
		return badf("--consensus=%s: must be %q or %q", c.Consensus, ConsensusRaft, ConsensusPaxos)
	case c.ReadSafety != ReadLease && c.ReadSafety != ReadQuorum:
		return badf("--read-safety=%s: must be %q or %q", c.ReadSafety, ReadLease, ReadQuorum)
	case c.HeartbeatInterval <= 0:
		return badf("--heartbeat-interval must be above 0 (it is %v)", c.HeartbeatInterval)
	case c.ElectionTimeout <= 0:
		return badf("--election-timeout must be above 0 (it is %v)", c.ElectionTimeout)
	case c.ElectionTimeout < MinElectionHeartbeats*c.HeartbeatInterval:
		return badf("--election-timeout (%v) must be at least %d times --heartbeat-interval (%v)", c.ElectionTimeout, MinElectionHeartbeats, c.HeartbeatInterval)
	case c.ElectionTimeout > MaxElectionTimeout:
		return badf("--election-timeout (%v) is too long: at most %v", c.ElectionTimeout, MaxElectionTimeout)
	case c.MaxTxnOps < 1 || c.MaxTxnOps > MaxMaxTxnOps:
		return badf("--max-txn-ops=%d: must be between 1 and %d", c.MaxTxnOps, MaxMaxTxnOps)
	case c.MaxRequestBytes < 1 || c.MaxRequestBytes > MaxMaxRequestBytes:
		return badf("--max-request-bytes=%d: must be between 1 and %d (32 MiB)", c.MaxRequestBytes, MaxMaxRequestBytes)
	}
	if err := c.AutoCompaction.Validate(); err != nil {
		return badf("%v", err)
	}
	return nil
}

func (o Options) validateMembership() error {
	if err := checkMembers(o.Cluster.Members, o.Cluster.Token); err != nil {
		return err
	}
	self := o.Cluster.member(o.Node.Name)
	if self == nil {
		return badf("--name=%s is not in --initial-cluster=%s: every node must find its own name there", o.Node.Name, FormatMembers(o.Cluster.Members))
	}
	if !sameURLs(self.PeerURLs, o.Node.AdvertisePeerURLs) {
		return badf("--initial-advertise-peer-urls=%s does not match --initial-cluster, which says %s: both must name the same URLs, spelt the same "+
			"(a name that appears twice in --initial-cluster is one node with two URLs)",
			joinURLs(o.Node.AdvertisePeerURLs), FormatMembers([]Member{*self}))
	}
	return nil
}
