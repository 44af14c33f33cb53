package server

import (
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// openGateway makes what stands between clients and the driver, here and on other nodes.
func (s *Server) openGateway(instance uint64) (err error) {
	router, err := route.By(s.options.Cluster.Partition)
	if err != nil {
		return err
	}
	limits := shard.Limits{MaxTxnOps: s.options.Cluster.MaxTxnOps, MaxRequestBytes: s.options.Cluster.MaxRequestBytes}
	options := gateway.Options{
		Self: s.options.NodeID(), Router: router, Shards: s.gatewayShards(), Sender: frames{s.transport},
		ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, limits) },
		Users:           s.shard.Auth,
		Space:           s.quota,
		GuestMemory:     s.guestMemory(),
		Limits:          gateway.Limits{MaxTxnOps: limits.MaxTxnOps},
		RequestTimeout:  5*time.Second + 2*s.options.Cluster.ElectionTimeout,
		Instance:        instance, Clock: s.clock,
		Listener: gateway.Listener{
			LeaderLost: func(node kv.NodeID, writes int) {
				s.logger.Info("the leader was lost", "node", node, "writes_of_unknown_outcome", writes)
			},
			BadMessage: func(from kv.NodeID, err error) {
				if s.quiet.allows("bad message", from.String(), s.clock()) {
					s.logger.Warn("bad message", "from", from, "error", err)
				}
			},
		},
		Watch: watch.Options{ProgressInterval: s.options.Node.WatchProgressNotifyInterval},
	}
	if s.many() {
		options.AuthVersion = func() uint64 { return s.issuer.Alarms() >> shard.AuthVersionBit }
		begunWith := s.shard.Applied()
		options.KnowsUsers = func() bool { return begunWith > 0 && !s.shard.Outside() }
		options.Fenced = func() bool { return s.issuer.Alarms()&(1<<kv.AlarmFence) != 0 }
		options.Commit = protocolOf(s.options.Cluster.CommitProtocol)
		if options, err = options.OfStore(s.options.Cluster.Partition, s.issuer); err != nil {
			return err
		}
	}
	if s.gateway, err = gateway.New(options); err == nil && s.many() {
		s.driver.AskWith(s.gateway.Ask)
	}
	return err
}

// gatewayShards are the replicas of this node.
func (s *Server) gatewayShards() map[kv.ShardID]gateway.Shard {
	shards := make(map[kv.ShardID]gateway.Shard)
	for _, r := range s.replicas() {
		shards[r.Shard()] = r
	}
	return shards
}

// guestMemory gives each other node an account of the memory that clients may take: it is their requests that the node brings.
func (s *Server) guestMemory() func(kv.NodeID) kv.Memory {
	var mu sync.Mutex
	accounts := map[kv.NodeID]*budget.Account{} // of all that were members since the start
	stranger := s.memory.NewAccount()
	return func(node kv.NodeID) kv.Memory {
		mu.Lock()
		defer mu.Unlock()
		account := accounts[node]
		if account == nil {
			if s.roster.newest().Member(node) == nil {
				return stranger
			}
			account = s.memory.NewAccount()
			accounts[node] = account
		}
		return account
	}
}

// listenForClients comes before the data is read: whoever connects meanwhile is served as soon as there is somebody to serve. A client that is
// refused waits before it tries again, gRPC's a second, and after the next refusal longer.
func (s *Server) listenForClients() error {
	for _, url := range s.options.Node.ListenClientURLs {
		l, err := listen(url)
		if err != nil {
			return fmt.Errorf("listen for clients on %s (--listen-client-urls); is another process using the port? %w", url.HostPort(), err)
		}
		s.listeners = append(s.listeners, s.secure(url, s.clients.Wrap(l), s.plan.Clients/len(s.options.Node.ListenClientURLs), "client", "h2", "http/1.1"))
	}
	return nil
}

// openClients serves clients.
func (s *Server) openClients() (err error) {
	node := s.options.Node
	tokens, passwords, err := node.users()
	if err != nil {
		return err
	}
	s.api, err = etcd.NewServer(etcd.Options{
		Users: s.shard.Auth, Tokens: tokens, Passwords: passwords, ClientCertAuth: node.ClientTLS.ClientCertAuth,
		Follower: follower{s}, Members: s.shard.Members, MaxLearners: node.MaxLearners, StrictReconfigCheck: !node.SkipReconfigCheck,
		Gateway: s.gateway, Node: localNode{s},
		ClusterID: s.options.Cluster.ID(), MemberID: s.options.NodeID(),
		Protocol: s.options.Cluster.protocols(), Version: Version, MetricsURLs: urlStrings(node.httpURLs()),
		MaxRequestBytes: s.options.Cluster.MaxRequestBytes, MaxTxnOps: s.options.Cluster.MaxTxnOps,
		MaxConcurrentStreams: node.MaxConcurrentStreams,
		Memory:               s.memory,
		Audit:                s.auditor.forAPI(),
		LeaderCheckInterval:  s.options.Cluster.ElectionTimeout,
		PingMinInterval:      orNever(node.KeepAlive.MinTime, time.Nanosecond),
		PingInterval:         orNever(node.KeepAlive.Interval, math.MaxInt64),
		PingTimeout:          orNever(node.KeepAlive.Timeout, math.MaxInt64),
		Listener: etcd.Listener{StreamFailed: func(method string, err error) {
			s.logger.Warn("a stream ended", "method", method, "error", err)
		}, WantedTLS: func(address net.Addr) {
			if s.quiet.allows("a client wanted TLS", "", s.clock()) {
				s.logger.Warn("a client speaks TLS, and its port takes plain text: it needs http:// in its endpoint, or the node https:// in --listen-client-urls", "address", address)
			}
		}},
	})
	if err != nil {
		return err
	}
	for _, l := range s.listeners {
		s.workers.Go(func() {
			if node.InitialCorruptCheck && !arrives(s.context, s.ready) {
				return
			}
			if err := s.api.Serve(l); err != nil {
				s.fail(err)
			}
		})
	}
	s.metrics, err = s.serveMetrics()
	return err
}

// orNever replaces a negative duration, which means "never", by the one that has that effect.
func orNever(d, never time.Duration) time.Duration {
	if d < 0 {
		return never
	}
	return d
}
