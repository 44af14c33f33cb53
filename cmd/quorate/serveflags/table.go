package serveflags

import (
	"math"
	"time"

	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/server"
)

// Groups, in the order of help and documentation.
const (
	groupNode    = "Node"
	groupCluster = "Cluster"
	groupShards  = "Shards"
	groupTLS     = "TLS"
	groupLimits  = "Limits"
	groupUpkeep  = "Upkeep"
	groupAudit   = "Audit log"
	groupLog     = "Log and metrics"
)

// maxQuorum only keeps numbers sensible; the server's options know how many nodes there are.
const maxQuorum = 1 << 15

// Groups lists the headings of the applied flags.
func Groups() []string {
	return []string{groupNode, groupCluster, groupShards, groupTLS, groupLimits, groupUpkeep, groupAudit, groupLog}
}

// Table lists every flag: the applied ones first, in the order of help.
func Table() []*Flag {
	var table []*Flag
	for _, part := range [][]*Flag{nodeFlags(), clusterFlags(), shardFlags(), tlsFlags(), limitFlags(), upkeepFlags(), auditFlags(), logFlags(), refusedFlags(), ignoredFlags()} {
		table = append(table, part...)
	}
	return table
}

func nodeFlags() []*Flag {
	return []*Flag{
		{Name: "name", Group: groupNode, Default: server.DefaultName,
			Usage: "Name of this node; it must be one of the names in --initial-cluster.", Limits: "no comma, no equals sign",
			set: setText(func(s *settings) *string { return &s.options.Node.Name })},
		{Name: "data-dir", Group: groupNode, Default: "NAME.quorate",
			Usage: "Directory of everything the node stores. Started under the name etcd, the default is NAME.etcd.", Limits: "empty, or this node's from before",
			set: setText(func(s *settings) *string { return &s.options.Node.DataDir })},
		{Name: "auto-repair", Group: groupNode, Kind: Bool, Default: "true", Ours: true,
			Usage: "Set damaged data aside and get it again from the other nodes. With false, the node refuses to start, or ends, and leaves everything as it is.",
			set:   func(s *settings, value string) error { s.options.Node.RefuseDamaged = value == "false"; return nil }},
		{Name: "scrub-interval", Group: groupNode, Kind: Duration, Default: "24h", Ours: true,
			Usage: "How often everything on disk is read again, to find damage where nobody else reads.", Limits: "from 1s on; 0: never",
			set: setDurationOrNever(time.Second, func(s *settings, d time.Duration) { s.options.Node.ScrubInterval = d })},
		{Name: "listen-client-urls", Group: groupNode, Default: "http://localhost:2379",
			Usage: "Where clients connect. Needs --advertise-client-urls beside it.", Limits: "http:// or https://, IP address or localhost, port; unix://path",
			set: func(s *settings, value string) error {
				s.listenClient = true
				return setURLs(func(s *settings) *[]server.URL { return &s.options.Node.ListenClientURLs })(s, value)
			}},
		{Name: "advertise-client-urls", Group: groupNode, Default: "http://localhost:2379",
			Usage: "The same, as clients on other machines reach it; shown by the member list.", Limits: "http:// or https://, host, port; unix://path",
			set: func(s *settings, value string) error {
				s.advertiseClient = true
				return setURLs(func(s *settings) *[]server.URL { return &s.options.Node.AdvertiseClientURLs })(s, value)
			}},
		{Name: "listen-peer-urls", Group: groupNode, Default: "http://localhost:2380",
			Usage: "Where the other nodes connect.", Limits: "http:// or https://, IP address or localhost, port",
			set: setURLs(func(s *settings) *[]server.URL { return &s.options.Node.ListenPeerURLs })},
		{Name: "max-concurrent-streams", Group: groupNode, Kind: Unsigned, Default: "4294967295",
			Usage: "Calls in flight on one client connection.", Limits: "1 to 4294967295",
			set: setNumber(1, math.MaxUint32, func(s *settings, n int64) { s.options.Node.MaxConcurrentStreams = uint32(n) })},
		{Name: "grpc-keepalive-min-time", Group: groupNode, Kind: Duration, Default: "5s",
			Usage: "A client that pings more often than this is disconnected. 0: never.", Limits: "from 0 on",
			set: setDuration(0, func(s *settings, d time.Duration) { s.options.Node.KeepAlive.MinTime = orNever(d) })},
		{Name: "grpc-keepalive-interval", Group: groupNode, Kind: Duration, Default: "2h",
			Usage: "A client that was silent for this long is pinged. 0: never.", Limits: "from 0 on",
			set: setDuration(0, func(s *settings, d time.Duration) { s.options.Node.KeepAlive.Interval = orNever(d) })},
		{Name: "grpc-keepalive-timeout", Group: groupNode, Kind: Duration, Default: "20s",
			Usage: "A pinged client that does not answer within this time is disconnected. 0: never.", Limits: "from 0 on",
			set: setDuration(0, func(s *settings, d time.Duration) { s.options.Node.KeepAlive.Timeout = orNever(d) })},
		{Name: "check", Group: groupNode, Kind: Bool, Default: "false", Ours: true,
			Usage: "Look at the flags, and at the files for TLS and the audit policy that they name, say what is wrong, and end without starting anything.",
			set:   func(s *settings, value string) error { s.check = value != "false"; return nil }},
		{Name: "version", Group: groupNode, Kind: Bool, Default: "false",
			Usage: "Print the version and end.",
			set:   func(s *settings, value string) error { s.version = value != "false"; return nil }},
	}
}

func clusterFlags() []*Flag {
	return []*Flag{
		{Name: "initial-cluster", Group: groupCluster, Default: "NAME=ADVERTISED-PEER-URL",
			Usage: "All nodes that found the cluster, this one included: name=url,name=url; of a node that is added later, this one and some to ask. A node with data does not look at it.", Limits: "http:// or https://, host, port; no URL twice",
			set: func(s *settings, value string) error {
				members, err := server.ParseMembers(value)
				s.options.Cluster.Members = members
				return err
			}},
		{Name: "initial-advertise-peer-urls", Group: groupCluster, Default: "http://localhost:2380",
			Usage: "This node's URLs in --initial-cluster.", Limits: "spelt as there",
			set: setURLs(func(s *settings) *[]server.URL { return &s.options.Node.AdvertisePeerURLs })},
		{Name: "initial-cluster-state", Group: groupCluster, Default: "new",
			Usage: "What an empty data directory means: a new cluster, or a node of an existing one, which was added to it, or has lost its data.", Limits: "new, existing",
			set: setOneOf([]string{"new", "existing"}, func(s *settings, w string) { s.options.Node.InitialClusterState = server.ClusterState(w) })},
		{Name: "initial-cluster-token", Group: groupCluster, Default: server.DefaultToken,
			Usage: "Tells clusters with the same addresses apart. The same on every node that founds one. A node with data does not look at it.",
			set:   setText(func(s *settings) *string { return &s.options.Cluster.Token })},
		{Name: "join", Group: groupCluster, Ours: true,
			Usage:  "Clients' endpoints of a cluster that this node, whose data directory is empty, adds itself to: first without a vote, and with one when it has the data. Once it belongs to a cluster this is ignored.",
			Limits: "host:port,host:port; http://, https:// or unix:// may stand before each; not with --initial-cluster",
			set:    setText(func(s *settings) *string { return &s.join.Endpoints })},
		{Name: "join-as-learner", Group: groupCluster, Kind: Bool, Default: "false", Ours: true,
			Usage: "With --join: the node stays without a vote, until somebody promotes it.",
			set:   func(s *settings, value string) error { s.join.Learner = value != "false"; return nil }},
		{Name: "join-cacert", Group: groupCluster, Ours: true,
			Usage: "With --join: file with the authorities of the certificates at those endpoints (PEM); connects with TLS.",
			set:   setText(func(s *settings) *string { return &s.join.CAFile })},
		{Name: "join-cert", Group: groupCluster, Ours: true,
			Usage: "With --join: file with a client's certificate (PEM), if the endpoints ask for one.",
			set:   setText(func(s *settings) *string { return &s.join.CertFile })},
		{Name: "join-key", Group: groupCluster, Ours: true,
			Usage: "With --join: file with its key (PEM).",
			set:   setText(func(s *settings) *string { return &s.join.KeyFile })},
		{Name: "join-insecure-skip-tls-verify", Group: groupCluster, Kind: Bool, Default: "false", Ours: true,
			Usage: "With --join: connect with TLS and accept any certificate. Somebody in between can read and change everything.",
			set:   func(s *settings, value string) error { s.join.SkipVerify = value != "false"; return nil }},
		{Name: "join-user", Group: groupCluster, Ours: true,
			Usage: "With --join: user to log in as, if users have to log in; it has to be one with the role root.",
			set:   setText(func(s *settings) *string { return &s.join.User })},
		{Name: "join-password-file", Group: groupCluster, Ours: true,
			Usage: "With --join-user: file with the password in its first line; otherwise it is QUORATE_PASSWORD of the environment.",
			set:   setText(func(s *settings) *string { return &s.join.PasswordFile })},
		{Name: "join-token-file", Group: groupCluster, Ours: true,
			Usage: "With --join: file with a JSON web token in its first line, instead of a user.",
			set:   setText(func(s *settings) *string { return &s.join.TokenFile })},
		{Name: "force-new-cluster", Group: groupCluster, Kind: Bool, Default: "false",
			Usage: "Most members are lost for good: make a new cluster of what this node has, with this node alone. Done once; afterwards this is ignored, and to be removed. `quorate rescue` says before what may be lost.",
			set:   func(s *settings, value string) error { s.options.Node.ForceNewCluster = value != "false"; return nil }},
		{Name: "strict-reconfig-check", Group: groupCluster, Kind: Bool, Default: "true",
			Usage: "Refuse changes of members, where this node is asked, after which too few would be up to have a quorum.",
			set: func(s *settings, value string) error {
				s.options.Node.SkipReconfigCheck = value == "false"
				return nil
			}},
		{Name: "max-learners", Group: groupCluster, Kind: Integer, Default: "1",
			Usage: "How many members may be without a vote, where this node is asked to add one.", Limits: "1 to 64",
			set: setNumber(1, 64, func(s *settings, n int64) { s.options.Node.MaxLearners = int(n) })},
		{Name: "heartbeat-interval", Group: groupCluster, Kind: Unsigned, Default: "100",
			Usage: "Milliseconds between heartbeats of two nodes.", Limits: "from 1 on",
			set: setNumber(1, 1e6, func(s *settings, n int64) {
				s.options.Cluster.HeartbeatInterval = time.Duration(n) * time.Millisecond
			})},
		{Name: "election-timeout", Group: groupCluster, Kind: Unsigned, Default: "1000",
			Usage: "Milliseconds without a leader until an election begins.", Limits: "5 heartbeat intervals to 50000",
			set: setNumber(1, 1e6, func(s *settings, n int64) { s.options.Cluster.ElectionTimeout = time.Duration(n) * time.Millisecond })},
		{Name: "read-safety", Group: groupCluster, Default: "lease", Ours: true,
			Usage: "What a linearizable read rests on: a lease, which trusts clocks to run at nearly the same rate, or a round of messages with a quorum.", Limits: "lease, quorum",
			set: setOneOf([]string{"lease", "quorum"}, func(s *settings, w string) { s.options.Cluster.ReadSafety = server.ReadSafety(w) })},
		{Name: "consensus", Group: groupCluster, Default: "raft", Ours: true,
			Usage: "The protocol between the nodes; a cluster keeps the one it was created with, and a node that joins, or has data, takes it over. Multi-Paxos is new and less proven.", Limits: "raft, paxos",
			set: setOneOf([]string{"raft", "paxos"}, func(s *settings, w string) { s.options.Cluster.Consensus = server.Consensus(w) })},
		{Name: "paxos-phase1-quorum", Group: groupCluster, Kind: Unsigned, Default: "0", Ours: true,
			Usage:  "How many nodes must promise before one leads; 0: a majority. With --consensus=paxos; the same on every node that founds a cluster.",
			Limits: "0 to the number of nodes; both quorums together more than that",
			set:    setNumber(0, maxQuorum, func(s *settings, n int64) { s.options.Cluster.Quorums.Phase1 = int(n) })},
		{Name: "paxos-phase2-quorum", Group: groupCluster, Kind: Unsigned, Default: "0", Ours: true,
			Usage:  "How many nodes must have a write on disk before it is acknowledged; 0: a majority. With --consensus=paxos; the same on every node that founds a cluster.",
			Limits: "0 to the number of nodes; both quorums together more than that",
			set:    setNumber(0, maxQuorum, func(s *settings, n int64) { s.options.Cluster.Quorums.Phase2 = int(n) })},
	}
}

func shardFlags() []*Flag {
	const always = " A cluster keeps what it was created with; the same on every node that founds one; others, and nodes with data, take it over."
	return []*Flag{
		{Name: "initial-shards", Group: groupShards, Kind: Unsigned, Default: "1", Ours: true,
			Usage: "How many shards hold the keys. With --initial-split-keys: one more than those." + always, Limits: "1 to 1024",
			set: setNumber(1, partition.MaxShards, func(s *settings, n int64) { s.options.Cluster.Partition.Shards = int(n) })},
		{Name: "initial-partition", Group: groupShards, Default: "hash", Ours: true,
			Usage: "Which keys a shard has: those between two split keys, or those whose hash falls into its slots. With --initial-split-keys: range." + always, Limits: "range, hash",
			set: func(s *settings, value string) (err error) {
				s.options.Cluster.Partition.Kind, err = partition.ParseKind(value)
				return err
			}},
		{Name: "initial-split-keys", Group: groupShards, Ours: true,
			Usage: "The first keys of all shards by range but the first, with commas between them; a percent sign and two hexadecimal digits stand for a byte: " +
				"%2C for a comma, %25 for a percent sign, %00." + always, Limits: "ascending; 1 to 1024 bytes each, 16384 together",
			set: func(s *settings, value string) (err error) {
				s.options.Cluster.Partition.SplitKeys, err = partition.ParseKeys(value)
				return err
			}},
		{Name: "hash-prefix", Group: groupShards, Kind: Unsigned, Default: "0", Ours: true,
			Usage: "How many components of a key, between slashes, are hashed: keys that begin with the same ones are in one shard. 0: the whole key." + always, Limits: "0 to 64",
			set: setNumber(0, partition.MaxHashPrefix, func(s *settings, n int64) { s.options.Cluster.Partition.HashPrefix = int(n) })},
		{Name: "commit-protocol", Group: groupShards, Default: string(server.Commit2PC), Ours: true,
			Usage:  "How the shards of a transaction over several of them agree: one of them decides, or a majority of them does, which costs a round trip more." + always,
			Limits: "2pc, 3pc",
			set: setOneOf([]string{string(server.Commit2PC), string(server.Commit3PC)},
				func(s *settings, w string) { s.options.Cluster.CommitProtocol = server.CommitProtocol(w) })},
		{Name: "leaders", Group: groupShards, Default: string(server.LeadersSequencer), Ours: true,
			Usage:  "Which nodes lead shards: the one that numbers the revisions leads all, or every node about as many as any other. The same on every node.",
			Limits: "sequencer, spread",
			set: setOneOf([]string{string(server.LeadersSequencer), string(server.LeadersSpread)},
				func(s *settings, w string) { s.options.Cluster.Leaders = server.LeaderPolicy(w) })},
	}
}

func limitFlags() []*Flag {
	return []*Flag{
		{Name: "snapshot-count", Group: groupLimits, Kind: Unsigned, Default: "10000",
			Usage: "Log entries applied until the state is flushed and the log behind it can go.", Limits: "from 1 on",
			set: setNumber(1, math.MaxInt64, func(s *settings, n int64) { s.options.Node.SnapshotCount = uint64(n) })},
		{Name: "quota-backend-bytes", Group: groupLimits, Kind: Integer, Default: "0",
			Usage: "Size of the store above which writes are refused (NOSPACE). 0: 2 GiB. Negative: no quota.",
			set:   setNumber(math.MinInt64, math.MaxInt64, func(s *settings, n int64) { s.options.Cluster.QuotaBytes = n })},
		{Name: "max-txn-ops", Group: groupLimits, Kind: Unsigned, Default: "128",
			Usage: "Operations in one transaction.", Limits: "1 to 100000",
			set: setNumber(1, server.MaxMaxTxnOps, func(s *settings, n int64) { s.options.Cluster.MaxTxnOps = int(n) })},
		{Name: "max-request-bytes", Group: groupLimits, Kind: Unsigned, Default: "1572864",
			Usage: "Size of one request.", Limits: "1 to 33554432 (32 MiB)",
			set: setNumber(1, server.MaxMaxRequestBytes, func(s *settings, n int64) { s.options.Cluster.MaxRequestBytes = int(n) })},
		{Name: "max-client-connections", Group: groupLimits, Kind: Unsigned, Default: "5000", Ours: true,
			Usage: "Connections of clients; fewer if the limit of open files (ulimit -n) does not leave as many.", Limits: "1 to 1000000",
			set: setNumber(1, 1e6, func(s *settings, n int64) { s.options.Node.MaxClientConnections = int(n) })},
		{Name: "max-client-memory-bytes", Group: groupLimits, Kind: Unsigned, Default: "201326592", Ours: true,
			Usage: "What all clients together can make the node hold: requests, watches, answers. Beyond it calls end with \"too many requests\".", Limits: "from 8388608 (8 MiB) on",
			set: setNumber(8<<20, math.MaxInt64, func(s *settings, n int64) { s.options.Node.MaxClientMemoryBytes = n })},
		{Name: "max-connection-memory-bytes", Group: groupLimits, Kind: Unsigned, Default: "134217728", Ours: true,
			Usage: "The same for one connection. Room for the largest request and one more MiB at least.", Limits: "from 4194304 (4 MiB) on",
			set: setNumber(4<<20, math.MaxInt64, func(s *settings, n int64) { s.options.Node.MaxConnectionMemoryBytes = n })},
		{Name: "watch-progress-notify-interval", Group: groupLimits, Kind: Duration, Default: "10m",
			Usage: "How long a watch that asked for progress notifications stays silent at most.", Limits: "from 1ms on",
			set: setDuration(time.Millisecond, func(s *settings, d time.Duration) { s.options.Node.WatchProgressNotifyInterval = d })},
	}
}

func logFlags() []*Flag {
	return []*Flag{
		{Name: "log-level", Group: groupLog, Default: "info",
			Usage: "Least important lines that are logged, to standard error.", Limits: "debug, info, warn, error, panic, fatal",
			set: setOneOf([]string{"debug", "info", "warn", "error", "panic", "fatal"}, func(s *settings, w string) { s.log.Level = w })},
		{Name: "log-format", Group: groupLog, Default: "text",
			Usage: "Form of the log lines; console is the same as text.", Limits: "text, console, json",
			set: setOneOf([]string{"text", "console", "json"}, func(s *settings, w string) {
				if w == "console" {
					w = "text"
				}
				s.log.Format = w
			})},
		{Name: "listen-metrics-urls", Group: groupLog,
			Usage: "Where /metrics (Prometheus) and /health are served over HTTP. Empty: nowhere.", Limits: "http:// or https://, IP address or localhost, port",
			set: setURLs(func(s *settings) *[]server.URL { return &s.options.Node.ListenMetricsURLs })},
		{Name: "listen-client-http-urls", Group: groupLog,
			Usage: "The same as --listen-metrics-urls, for clients that look for it under etcd's flag; gRPC is not served there.", Limits: "http:// or https://, IP address or localhost, port; unix://path",
			set: setURLs(func(s *settings) *[]server.URL { return &s.options.Node.ListenHTTPURLs })},
		{Name: "enable-pprof", Group: groupLog, Kind: Bool, Default: "false",
			Usage: "Serve profiles of the process under /debug/pprof/ beside /metrics; needs --listen-metrics-urls or --listen-client-http-urls.",
			set:   func(s *settings, value string) error { s.options.Node.EnablePprof = value != "false"; return nil }},
	}
}
