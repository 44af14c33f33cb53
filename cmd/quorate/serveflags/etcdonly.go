package serveflags

// Flags of etcd 3.7.3 (server/embed/config.go, server/etcdmain/config.go) that
// are not applied. Refused are those whose silent acceptance would leave
// somebody without a protection, or with another cluster than the one asked for.

const (
	noDiscovery = "the cluster is made from --initial-cluster only; name its nodes there"
	noBolt      = "the store here is not bbolt"
	noHTTP      = "clients are served over gRPC only; the JSON gateway is not there yet"
	noTracing   = "distributed tracing is not there"
	noDeadFlag  = "etcd ignores it too"
)

func refusedFlags() []*Flag {
	var flags []*Flag
	add := func(because string, kind Kind, harmless []string, names ...string) {
		for _, name := range names {
			flags = append(flags, &Flag{Name: name, Kind: kind, Treatment: Refused, Because: because, harmless: harmless})
		}
	}
	empty := []string{""}
	add("Host headers are not checked here; remove the flag, and protect the HTTP address of --listen-metrics-urls by other means", Text, []string{"*", ""}, "host-whitelist")
	add("etcd's JSON gateway alone shows this certificate, to its own node, and there is no such gateway here; remove the flag", Text, empty, "client-cert-file", "client-key-file")
	add(noDiscovery, Text, empty,
		"discovery", "discovery-proxy", "discovery-endpoints", "discovery-token", "discovery-cert", "discovery-key", "discovery-cacert",
		"discovery-user", "discovery-password", "discovery-srv", "discovery-srv-name")
	add("configuration files are not read; give flags, or ETCD_* environment variables", Text, empty, "config-file")
	return flags
}

func ignoredFlags() []*Flag {
	return []*Flag{
		ignored("wal-dir", Text, "", "the log is kept under --data-dir"),
		ignored("max-snapshots", Unsigned, "5", "there are no snapshot files to count"),
		ignored("max-wals", Unsigned, "5", "log segments are recycled, not counted"),
		ignored("initial-election-tick-advance", Bool, "true", "elections need no fast-forward here"),
		ignored("backend-bbolt-freelist-type", Text, "map", noBolt),
		ignored("backend-batch-interval", Duration, "", noBolt),
		ignored("backend-batch-limit", Integer, "", noBolt),
		ignored("bootstrap-defrag-threshold-megabytes", Unsigned, "0", noBolt),
		ignored("memory-mlock", Bool, "false", "the store is not mapped into memory"),
		ignored("socket-reuse-port", Bool, "false", "listeners use the system's defaults"),
		ignored("socket-reuse-address", Bool, "false", "listeners already rebind at once"),
		ignored("raft-read-timeout", Duration, "5s", "connections between nodes have timeouts of their own"),
		ignored("raft-write-timeout", Duration, "5s", "connections between nodes have timeouts of their own"),
		ignored("discovery-dial-timeout", Duration, "2s", noDiscovery),
		ignored("discovery-request-timeout", Duration, "5s", noDiscovery),
		ignored("discovery-keepalive-time", Duration, "2s", noDiscovery),
		ignored("discovery-keepalive-timeout", Duration, "6s", noDiscovery),
		ignored("discovery-insecure-transport", Bool, "true", noDiscovery),
		ignored("discovery-insecure-skip-tls-verify", Bool, "false", noDiscovery),
		ignored("discovery-fallback", Text, "exit", noDiscovery),
		ignored("pre-vote", Bool, "true", "pre-vote is always on"),
		ignored("cors", Text, "*", noHTTP),
		ignored("enable-grpc-gateway", Bool, "false", noHTTP),
		ignored("logger", Text, "zap", "the log has one kind of logger"),
		ignored("log-outputs", Text, "stderr", "the log goes to standard error; redirect it there"),
		ignored("enable-log-rotation", Bool, "false", "the log goes to standard error; rotate it there"),
		ignored("log-rotation-config-json", Text, "", "the log goes to standard error; rotate it there"),
		ignored("metrics", Text, "basic", "there is one level of detail"),
		ignored("enable-distributed-tracing", Bool, "false", noTracing),
		ignored("distributed-tracing-address", Text, "", noTracing),
		ignored("distributed-tracing-service-name", Text, "", noTracing),
		ignored("distributed-tracing-instance-id", Text, "", noTracing),
		ignored("distributed-tracing-sampling-rate", Integer, "", noTracing),
		ignored("compact-hash-check-time", Duration, "1m0s", "all that nodes have is compared at one time, with --corrupt-check-time"),
		ignored("compaction-batch-limit", Integer, "0", "compaction paces itself"),
		ignored("compaction-sleep-interval", Duration, "0s", "compaction paces itself"),
		ignored("downgrade-check-time", Duration, "5s", "there are no downgrade checks"),
		ignored("warning-apply-duration", Duration, "100ms", "slow requests are not logged"),
		ignored("warning-unary-request-duration", Duration, "300ms", "slow requests are not logged"),
		ignored("snapshot-catchup-entries", Unsigned, "5000", "how much log a slow node may need is decided by --snapshot-count"),
		ignored("unsafe-no-fsync", Bool, "false", "every acknowledged write is synced, always"),
		ignored("feature-gates", Text, "", "etcd's feature gates are not known here"),
		ignored("v2-deprecation", Text, "", "there is no v2 store"),
		// etcd keeps these only so that very old command lines still start.
		ignored("cluster-active-size", Bool, "", noDeadFlag),
		ignored("cluster-remove-delay", Bool, "", noDeadFlag),
		ignored("cluster-sync-interval", Bool, "", noDeadFlag),
		ignored("config", Bool, "", noDeadFlag),
		ignored("force", Bool, "", noDeadFlag),
		ignored("max-result-buffer", Bool, "", noDeadFlag),
		ignored("max-retry-attempts", Bool, "", noDeadFlag),
		ignored("peer-heartbeat-interval", Bool, "", noDeadFlag),
		ignored("peer-election-timeout", Bool, "", noDeadFlag),
		ignored("retry-interval", Bool, "", noDeadFlag),
		ignored("snapshot", Bool, "", noDeadFlag),
		ignored("v", Bool, "", noDeadFlag),
		ignored("vv", Bool, "", noDeadFlag),
		ignored("test.coverprofile", Bool, "", noDeadFlag),
		ignored("test.outputdir", Bool, "", noDeadFlag),
	}
}

// ignored makes a row; asHere is the value that describes what happens anyway.
func ignored(name string, kind Kind, asHere, because string) *Flag {
	f := &Flag{Name: name, Kind: kind, Treatment: Ignored, Because: because}
	if because == noDeadFlag {
		f.Kind = deadFlag
	}
	f.harmless = []string{asHere}
	return f
}
