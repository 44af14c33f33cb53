package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Options is everything that a node needs to start.
//
// Node differs from node to node. Cluster must be the same on all nodes of a
// cluster: two nodes with different Members or Token derive different cluster
// IDs and refuse to talk; the rest only makes the cluster behave as its present
// leader was told.
type Options struct {
	Node    NodeOptions
	Cluster ClusterOptions
	// Logger takes the log lines of the node's shells. Nil: nothing is logged.
	Logger *slog.Logger
}

// NodeOptions belong to one node.
type NodeOptions struct {
	// Name is the node's name in ClusterOptions.Members.
	Name string
	// DataDir is the directory that holds everything the node stores.
	DataDir string

	// Where the node listens, and under which addresses others reach it.
	ListenClientURLs    []URL
	AdvertiseClientURLs []URL
	ListenPeerURLs      []URL
	AdvertisePeerURLs   []URL // equal, as a set, to the URLs of Name in ClusterOptions.Members
	ListenMetricsURLs   []URL // HTTP with /metrics and /health; empty: not served
	EnablePprof         bool  // /debug/pprof/ beside them

	// InitialClusterState tells what to do with an empty data directory.
	InitialClusterState ClusterState

	// RefuseDamaged: a node that finds its data damaged ends, and leaves everything as it is. Otherwise it sets the
	// data aside and gets it again from the other nodes.
	RefuseDamaged bool

	// ScrubInterval is how often everything on disk is read again, to find damage. 0: DefaultScrubInterval; negative: never.
	ScrubInterval time.Duration

	// SnapshotCount is how many log entries may be applied before the state
	// engine is flushed and the log behind it becomes reclaimable.
	SnapshotCount uint64

	// WatchProgressNotifyInterval is how long a watch that asked for progress
	// stays silent at most.
	WatchProgressNotifyInterval time.Duration

	// MaxConcurrentStreams bounds the calls in flight on one client connection.
	MaxConcurrentStreams uint32
	// MaxClientConnections bounds the connections of clients; fewer if the system does not allow the process so many open files.
	MaxClientConnections int
	// MaxClientMemoryBytes is what all clients together can make the node hold, MaxConnectionMemoryBytes what one connection can.
	MaxClientMemoryBytes, MaxConnectionMemoryBytes int64
	// KeepAlive is about connections of clients.
	KeepAlive KeepAliveOptions
}

// KeepAliveOptions says how idle client connections are probed. A negative
// value switches its rule off, as 0 does in etcd's flags.
type KeepAliveOptions struct {
	MinTime  time.Duration // a client that pings more often than this is disconnected
	Interval time.Duration // the node pings a silent client after this long
	Timeout  time.Duration // and drops it when the answer takes longer than this; negative: no pings either
}

// ClusterOptions must be the same on all nodes.
type ClusterOptions struct {
	// Members are the nodes the cluster starts with, this one included.
	Members []Member
	// Token tells clusters apart whose members have the same addresses.
	Token string

	Consensus  Consensus
	Quorums    Quorums // of Multi-Paxos
	ReadSafety ReadSafety

	HeartbeatInterval time.Duration
	ElectionTimeout   time.Duration

	// QuotaBytes is the size of the store above which writes are refused with
	// etcd's NOSPACE. 0: DefaultQuotaBytes; negative: no quota.
	QuotaBytes      int64
	MaxTxnOps       int // operations in one transaction
	MaxRequestBytes int // size of one request
}

// ClusterState says whether an empty data directory may found a cluster.
type ClusterState string

// The two states, named as etcd's flag values.
const (
	ClusterNew      ClusterState = "new"
	ClusterExisting ClusterState = "existing"
)

// Consensus names the protocol of the replicas.
type Consensus string

// Protocols.
const (
	ConsensusRaft  Consensus = "raft"
	ConsensusPaxos Consensus = "paxos"
)

// ReadSafety says on what a leader bases a linearizable read.
type ReadSafety string

// Kinds of read safety.
const (
	// ReadLease: on promises of a quorum, measured on the monotonic clock with a
	// margin for drift. No message per read.
	ReadLease ReadSafety = "lease"
	// ReadQuorum: on an exchange with a quorum per batch of reads. Trusts no clock.
	ReadQuorum ReadSafety = "quorum"
)

// Defaults; those of etcd where etcd has the option.
const (
	DefaultName                        = "default"
	DefaultToken                       = "etcd-cluster"
	DefaultClientPort                  = 2379
	DefaultPeerPort                    = 2380
	DefaultHeartbeatInterval           = 100 * time.Millisecond
	DefaultElectionTimeout             = time.Second
	DefaultSnapshotCount               = 10_000
	DefaultScrubInterval               = 24 * time.Hour
	DefaultQuotaBytes                  = 2 << 30
	DefaultMaxTxnOps                   = 128
	DefaultMaxRequestBytes             = 3 << 19 // 1.5 MiB
	DefaultWatchProgressNotifyInterval = 10 * time.Minute
	DefaultKeepAliveMinTime            = 5 * time.Second
	DefaultKeepAliveInterval           = 2 * time.Hour
	DefaultKeepAliveTimeout            = 20 * time.Second
	DefaultMaxConcurrentStreams        = math.MaxUint32
	DefaultMaxClientConnections        = 5_000
	DefaultMaxClientMemoryBytes        = 192 << 20
	DefaultMaxConnectionMemoryBytes    = 128 << 20
)

// Limits that Validate enforces.
const (
	// MaxElectionTimeout is etcd's limit.
	MaxElectionTimeout = 50 * time.Second
	// MinElectionHeartbeats is how many heartbeats an election timeout must span: etcd's rule.
	MinElectionHeartbeats = 5
	// MaxMaxRequestBytes keeps one request far below the frame limit between nodes.
	MaxMaxRequestBytes = 32 << 20
	// MaxMaxTxnOps bounds the work that one transaction can cause at once.
	MaxMaxTxnOps = 100_000
)

// ErrBadOptions is wrapped by everything that Validate and the parsers of
// option values return.
var ErrBadOptions = errors.New("bad options")

// optionError is for people: its text does not begin with "bad options".
type optionError struct{ message string }

func (e *optionError) Error() string        { return e.message }
func (e *optionError) Is(target error) bool { return target == ErrBadOptions }

func badf(format string, arguments ...any) error {
	return &optionError{fmt.Sprintf(format, arguments...)}
}

// WithDefaults returns a copy in which everything that was left empty has its
// default. A node with nothing but defaults is a cluster of one.
func (o Options) WithDefaults() Options {
	o.Node = o.Node.withDefaults()
	o.Cluster = o.Cluster.withDefaults(o.Node)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (n NodeOptions) withDefaults() NodeOptions {
	n.Name = cmp.Or(n.Name, DefaultName)
	n.DataDir = cmp.Or(n.DataDir, n.Name+".quorate")
	fillURLs(&n.ListenClientURLs, DefaultClientPort)
	fillURLs(&n.AdvertiseClientURLs, DefaultClientPort)
	fillURLs(&n.ListenPeerURLs, DefaultPeerPort)
	fillURLs(&n.AdvertisePeerURLs, DefaultPeerPort)
	n.ListenMetricsURLs = slices.Clone(n.ListenMetricsURLs)
	n.InitialClusterState = cmp.Or(n.InitialClusterState, ClusterNew)
	n.SnapshotCount = cmp.Or(n.SnapshotCount, DefaultSnapshotCount)
	n.ScrubInterval = cmp.Or(n.ScrubInterval, DefaultScrubInterval)
	n.WatchProgressNotifyInterval = cmp.Or(n.WatchProgressNotifyInterval, DefaultWatchProgressNotifyInterval)
	n.MaxConcurrentStreams = cmp.Or(n.MaxConcurrentStreams, DefaultMaxConcurrentStreams)
	n.MaxClientConnections = cmp.Or(n.MaxClientConnections, DefaultMaxClientConnections)
	n.MaxClientMemoryBytes = cmp.Or(n.MaxClientMemoryBytes, DefaultMaxClientMemoryBytes)
	n.MaxConnectionMemoryBytes = cmp.Or(n.MaxConnectionMemoryBytes, DefaultMaxConnectionMemoryBytes)
	n.KeepAlive.MinTime = cmp.Or(n.KeepAlive.MinTime, DefaultKeepAliveMinTime)
	n.KeepAlive.Interval = cmp.Or(n.KeepAlive.Interval, DefaultKeepAliveInterval)
	n.KeepAlive.Timeout = cmp.Or(n.KeepAlive.Timeout, DefaultKeepAliveTimeout)
	return n
}

func (c ClusterOptions) withDefaults(node NodeOptions) ClusterOptions {
	c.Members = cloneMembers(c.Members)
	if len(c.Members) == 0 {
		c.Members = []Member{{Name: node.Name, PeerURLs: slices.Clone(node.AdvertisePeerURLs)}}
	}
	c.Token = cmp.Or(c.Token, DefaultToken)
	c.Consensus = cmp.Or(c.Consensus, ConsensusRaft)
	c.ReadSafety = cmp.Or(c.ReadSafety, ReadLease)
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, DefaultHeartbeatInterval)
	c.ElectionTimeout = cmp.Or(c.ElectionTimeout, DefaultElectionTimeout)
	c.QuotaBytes = cmp.Or(c.QuotaBytes, DefaultQuotaBytes)
	c.MaxTxnOps = cmp.Or(c.MaxTxnOps, DefaultMaxTxnOps)
	c.MaxRequestBytes = cmp.Or(c.MaxRequestBytes, DefaultMaxRequestBytes)
	return c
}

func fillURLs(field *[]URL, port uint16) {
	if len(*field) == 0 {
		*field = []URL{{Host: "localhost", Port: port}}
		return
	}
	*field = slices.Clone(*field)
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
	if err := o.validateMembership(); err != nil {
		return err
	}
	return o.Cluster.Quorums.validate(o.Cluster.Consensus, len(o.Cluster.Members))
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
	return n.validateURLs()
}

func (n NodeOptions) validateURLs() error {
	for _, list := range []struct {
		flag string
		urls []URL
		bind bool
	}{
		{"listen-client-urls", n.ListenClientURLs, true},
		{"listen-peer-urls", n.ListenPeerURLs, true},
		{"listen-metrics-urls", n.ListenMetricsURLs, true},
		{"advertise-client-urls", n.AdvertiseClientURLs, false},
		{"initial-advertise-peer-urls", n.AdvertisePeerURLs, false},
	} {
		if len(list.urls) == 0 && list.flag != "listen-metrics-urls" {
			return badf("--%s is empty", list.flag)
		}
		for i, u := range list.urls {
			if slices.Contains(list.urls[:i], u) {
				return badf("--%s names %s twice", list.flag, u)
			}
			if err := u.check(list.bind); err != nil {
				return badf("--%s: %v", list.flag, err)
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
	}{{"listen-client-urls", n.ListenClientURLs}, {"listen-peer-urls", n.ListenPeerURLs}, {"listen-metrics-urls", n.ListenMetricsURLs}}
	for i, a := range lists {
		for _, b := range lists[i+1:] {
			for _, u := range a.urls {
				if u.Port != 0 && slices.Contains(b.urls, u) {
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

// URL is an address in etcd's spelling: http://host:port. There is no TLS yet,
// so there is no other scheme.
type URL struct {
	Host string // name or IP address, without brackets
	Port uint16 // 0: any free port; only to listen on
}

// String gives http://host:port.
func (u URL) String() string { return "http://" + u.HostPort() }

// HostPort gives what net.Dial and net.Listen take.
func (u URL) HostPort() string {
	return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
}

// check applies etcd's rules: listeners bind IP addresses or localhost.
func (u URL) check(bind bool) error {
	switch {
	case u.Host == "":
		return fmt.Errorf("%s has no host; to listen on all addresses write 0.0.0.0", u)
	case bind && u.Host != "localhost" && net.ParseIP(u.Host) == nil:
		return fmt.Errorf("%s: to listen it takes an IP address or localhost, not a name", u)
	case !bind && u.Port == 0:
		return fmt.Errorf("%s: nobody can connect to port 0", u)
	}
	return nil
}

// ParseURL reads http://host:port and says clearly what it does not take.
func ParseURL(text string) (URL, error) {
	parsed, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return URL{}, badf("%q is not a URL: it must look like http://10.0.0.1:2379", text)
	}
	switch parsed.Scheme {
	case "http":
	case "https", "unixs":
		return URL{}, badf("%s: TLS is not there yet; refusing to serve without the protection that %s:// promises (use http:// only on a network you trust)", text, parsed.Scheme)
	case "unix":
		return URL{}, badf("%s: unix sockets are not there yet; use http://127.0.0.1:port", text)
	default:
		return URL{}, badf("%q must begin with http://, as in http://10.0.0.1:2379", text)
	}
	if parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
		return URL{}, badf("%s: a URL here is http://host:port and nothing else", text)
	}
	return parseHostPort(text, parsed.Host)
}

func parseHostPort(text, hostPort string) (URL, error) {
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil || portText == "" {
		return URL{}, badf("%s has no port: it must look like http://10.0.0.1:2379", text)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return URL{}, badf("%s: %q is not a port (0 to 65535)", text, portText)
	}
	return URL{Host: host, Port: uint16(port)}, nil
}

// ParseURLs reads a comma-separated list. As in etcd a repeated URL counts once.
func ParseURLs(text string) ([]URL, error) {
	var urls []URL
	for _, part := range strings.Split(text, ",") {
		u, err := ParseURL(part)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls, nil
}

func joinURLs(urls []URL) string {
	texts := make([]string, len(urls))
	for i, u := range urls {
		texts[i] = u.String()
	}
	return strings.Join(texts, ",")
}
