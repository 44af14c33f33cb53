// Package server puts the parts of one node together, starts them in order and ends them in order. It
// is the only place in production that names concrete implementations; two nodes fit into one process.
//
// options.go holds what a node can be told, members.go who the cluster consists of, identity.go what a data
// directory says about whom it belongs to, storage.go how its content is opened, damage.go what is done about damage.
package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/connlimit"
	"github.com/quoratedb/quorate/connlimit/listener"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/replica"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/transport"
)

// Server is one running node.
type Server struct {
	options Options
	logger  *slog.Logger
	clock   func() time.Duration

	dir       *DataDir
	engine    *lsm.Engine
	log       storage.Log
	transport *transport.Transport
	store     *replica.Store
	shard     *replica.Replica
	gateway   *gateway.Gateway
	api       *etcd.Server
	listeners []net.Listener
	plan      connlimit.Plan    // of file descriptors
	clients   *listener.Limiter // of the connections of clients
	scrapers  *listener.Limiter // of those to the port for metrics; nil: there is none
	metrics   *metricsServer

	memory       *budget.Budget                  // of what clients make the node hold
	size         atomic.Pointer[storage.Metrics] // of the state, as it was looked at last
	quota        *spaceQuota
	reclamations reclamations

	ready    chan struct{}
	failed   chan error
	stop     context.CancelFunc
	context  context.Context
	workers  sync.WaitGroup
	stopping sync.Mutex // see beside
	closing  sync.Once
	quiet    repetitions // of log lines
}

// Start opens the node's data directory and starts everything. The node answers clients when
// Start returns; Ready tells when it has found the others. Data that turns out to be damaged is set aside, and the node
// starts without it, unless the options forbid it.
func Start(ctx context.Context, options Options) (*Server, error) {
	s, err := start(ctx, options)
	if err != nil && Repairs(options, err) {
		return start(ctx, options)
	}
	return s, err
}

func start(ctx context.Context, options Options) (*Server, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	memory, err := budget.New(budget.Limits{TotalBytes: options.Node.MaxClientMemoryBytes, AccountBytes: options.Node.MaxConnectionMemoryBytes})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	s := &Server{
		options: options, logger: options.Logger, memory: memory,
		clock:  func() time.Duration { return time.Since(began) },
		ready:  make(chan struct{}),
		failed: make(chan error, 1),
		quota:  newSpaceQuota(options.Cluster.QuotaBytes),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.context, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, step := range []func() error{s.planDescriptors, s.openDirectory, s.listenForClients, s.openStorage, s.openPeers, s.openClients} {
		if err := step(); err != nil {
			s.noteDamage(err)
			return nil, errors.Join(s.noRepair(err), s.shutdown(context.Background()))
		}
	}
	s.workers.Go(s.becomeReady)
	s.workers.Go(s.watchSize)
	s.workers.Go(s.tick)
	return s, nil
}

// Ready is closed once the node knows a leader and the cluster knows the node.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Err delivers why the node stopped by itself.
func (s *Server) Err() <-chan error { return s.failed }

// fail reports the first reason why the node can not go on.
func (s *Server) fail(err error) {
	s.noteDamage(err)
	select {
	case s.failed <- s.noRepair(err):
	default:
	}
}

// maxFrameBytes bounds a frame between nodes. What can be proposed must fit: an entry that cannot be sent is never committed, nor anything
// after it. One entry is the effects of one request (40 MiB at most, shard.Options.MaxRequestEffectBytes) on top of a round of 1 MiB, in a
// frame that had 4 MiB before it.
const maxFrameBytes = 48 << 20

// openPeers starts the connections to the other nodes, and the driver.
func (s *Server) openPeers() (err error) {
	handler := &peerHandler{server: s, opened: make(chan struct{})}
	instance := randomID()
	transportOptions := transport.Options{
		MaxFrameBytes: maxFrameBytes, MaxBufferBytes: 2 * maxFrameBytes, MaxCallers: s.plan.Peers,
		Cluster: s.options.Cluster.ID(), Self: s.options.NodeID(), Name: s.options.Node.Name, Instance: instance,
		MinFormatVersion: replica.FormatOldest, MaxFormatVersion: replica.FormatNewest,
		Metadata: []byte(s.options.Cluster.Protocol()), JudgeMetadata: s.options.Cluster.judgePeer, ListenAddrs: hostPorts(s.options.Node.ListenPeerURLs), Peers: s.peerAddresses(),
		Handler: handler, Listener: s.transportListener(), Seed: int64(instance >> 1),
	}
	s.transport, err = patiently(func() (*transport.Transport, error) { return transport.Open(transportOptions) })
	if err != nil {
		return err
	}
	if s.store, err = replica.Open(s.replicaOptions(instance), s.clock); err != nil {
		return err
	}
	s.shard = s.store.Replica(consensus.GroupID(kv.SystemShard))
	limits := shard.Limits{MaxTxnOps: s.options.Cluster.MaxTxnOps, MaxRequestBytes: s.options.Cluster.MaxRequestBytes}
	s.gateway, err = gateway.New(gateway.Options{
		Self: s.options.NodeID(), Shard: s.shard, Rows: s.shard.Row, Sender: frames{s.transport},
		ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, limits) },
		Space:           s.quota,
		GuestMemory:     s.guestMemory(),
		Limits:          gateway.Limits{MaxTxnOps: limits.MaxTxnOps},
		RequestTimeout:  5*time.Second + 2*s.options.Cluster.ElectionTimeout,
		DriverFlushes:   true, Instance: instance, Clock: s.clock,
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
	})
	if err != nil {
		return err
	}
	close(handler.opened)
	s.store.Start()
	return nil
}

// guestMemory gives each other node an account of the memory that clients may take: it is their requests that the node brings.
func (s *Server) guestMemory() func(kv.NodeID) kv.Memory {
	accounts := map[kv.NodeID]*budget.Account{}
	for _, record := range s.nodeRecords() {
		accounts[record.ID] = s.memory.NewAccount()
	}
	stranger := s.memory.NewAccount()
	return func(node kv.NodeID) kv.Memory {
		if account, known := accounts[node]; known {
			return account
		}
		return stranger
	}
}

// keepHashes is of how many compactions the hash is kept: as many as etcd keeps.
const keepHashes = 10

func (s *Server) replicaOptions(instance uint64) replica.Options {
	nodes, config := s.nodes()
	return replica.Options{
		Self: s.options.NodeID(), Nodes: nodes, Instance: instance, Disk: s.dir.Identity.Disk, Lost: s.dir.Identity.Lost,
		Log: s.log, Engine: s.engine, Transport: frames{s.transport},
		Founders: s.options.Cluster.Quorums.largest(len(nodes)), NewCore: s.newCore, OutOfOrderLog: s.options.Cluster.Consensus == ConsensusPaxos,
		OpenMachine: func(group consensus.GroupID) (replica.Machine, error) { return s.openMachine(group, config) },
		StagingDir:  filepath.Join(s.dir.Path, stagingDirectory),

		MaxQueuedBytes:    max(64<<20, 4*int64(s.options.Cluster.MaxRequestBytes)),
		HeartbeatInterval: s.options.Cluster.HeartbeatInterval,
		ElectionTimeout:   s.options.Cluster.ElectionTimeout,
		ReadSafety:        readSafety(s.options.Cluster.ReadSafety),
		RetainLogEntries:  s.options.Node.SnapshotCount,
		FlushLogEntries:   s.options.Node.SnapshotCount,
		KeepHashes:        keepHashes,
		ScrubInterval:     max(0, s.options.Node.ScrubInterval),
		Rand:              newRand(),
		Listener: replica.Listener{
			RoleChanged: func(_ consensus.GroupID, change consensus.RoleChange, leader kv.NodeID) {
				s.logger.Info("role", "role", change.Role.String(), "term", uint64(change.Term), "leader", leader)
				if s.gateway != nil {
					s.gateway.LeaderChanged()
				}
			},
			NodeLost: func(node kv.NodeID) { s.logger.Warn("a node does not answer any more", "node", node) },
			SnapshotSent: func(_ consensus.GroupID, to kv.NodeID, meta consensus.SnapshotMeta, bytes int64, err error) {
				if err != nil {
					s.logger.Warn("sending a snapshot failed", "to", to, "index", uint64(meta.Index), "error", err)
					return
				}
				s.logger.Info("sent a snapshot", "to", to, "index", uint64(meta.Index), "bytes", bytes)
			},
			SnapshotInstalled: func(_ consensus.GroupID, meta consensus.SnapshotMeta) {
				s.logger.Info("installed a snapshot", "index", uint64(meta.Index))
			},
			SlowSync: func(took time.Duration) { s.logger.Warn("the log's disk is slow", "sync_took", took) },
			MessageRefused: func(_ consensus.GroupID, from kv.NodeID, err error) {
				if s.quiet.allows("message", from.String(), s.clock()) {
					s.logger.Warn("a message of another node was refused", "from", from, "reason", err)
				}
			},
			Lost: func(_ consensus.GroupID, lost consensus.ReplicaID) {
				s.logger.Warn("the data directory is empty but the cluster knows this node: what it had is lost, and it joins as a new replica", "lost_replica", uint64(lost))
			},
			Joined: func(_ consensus.GroupID, own consensus.ReplicaID) {
				s.logger.Info("takes part", "replica", uint64(own))
			},
			Unwitnessed: s.unwitnessed,
			ConfigChanged: func(_ consensus.GroupID, config consensus.Config) {
				s.logger.Info("the membership changed", "members", config.String())
			},
			Scrubbed: func(pass replica.ScrubPass) {
				s.logger.Info("everything on disk was read again, and is as it was written", "bytes", pass.Bytes, "took", pass.Took)
			},
			ScrubFailed: func(err error) {
				s.logger.Error("a part of what is on disk cannot be read", "error", err)
			},
			Failed: s.fail,
		},
	}
}

// nodes are the nodes of the cluster in the order of their IDs, and the membership of the first
// shard: replica i lives on the i-th node, counted from 1.
func (s *Server) nodes() (nodes []kv.NodeID, config consensus.Config) {
	for i, record := range s.nodeRecords() {
		nodes = append(nodes, record.ID)
		config.Voters = append(config.Voters, consensus.ReplicaID(i+1))
	}
	return nodes, config
}

func (s *Server) newCore(o replica.CoreOptions) (consensus.Core, error) {
	if s.options.Cluster.Consensus == ConsensusPaxos {
		return paxos.New(paxos.Options{
			Replica: o.Replica, ElectionTicks: o.ElectionTicks, Rand: newRand(),
			HardState: o.HardState, Applied: o.Applied, Config: o.Config,
			Phase1Quorum: s.options.Cluster.Quorums.Phase1, Phase2Quorum: s.options.Cluster.Quorums.Phase2,
		}, o.Log)
	}
	return raft.New(raft.Options{
		Replica: o.Replica, ElectionTicks: o.ElectionTicks,
		HardState: o.HardState, Applied: o.Applied, Config: o.Config,
	}, o.Log)
}

func (s *Server) openMachine(group consensus.GroupID, config consensus.Config) (replica.Machine, error) {
	return replica.OpenMachine(replica.MachineOptions{
		Engine: s.engine,
		Shard: shard.Options{
			Shard: kv.ShardID(group), Rand: newRand(),
			MinLeaseTTLSeconds: shard.MinLeaseTTLSeconds(s.options.Cluster.ElectionTimeout),
		},
		Bootstrap: config, Nodes: s.nodeRecords(),
	})
}

func readSafety(r ReadSafety) replica.ReadSafety {
	if r == ReadQuorum {
		return replica.ReadQuorum
	}
	return replica.ReadLease
}

// listenForClients comes before the data is read: whoever connects meanwhile is served as soon as there is somebody to serve. A client that is
// refused waits before it tries again, gRPC's a second, and after the next refusal longer.
func (s *Server) listenForClients() error {
	for _, url := range s.options.Node.ListenClientURLs {
		l, err := listen(url)
		if err != nil {
			return fmt.Errorf("listen for clients on %s (--listen-client-urls); is another process using the port? %w", url.HostPort(), err)
		}
		s.listeners = append(s.listeners, s.clients.Wrap(l))
	}
	return nil
}

// openClients serves clients.
func (s *Server) openClients() (err error) {
	node := s.options.Node
	s.api, err = etcd.NewServer(etcd.Options{
		Gateway: s.gateway, Node: localNode{s},
		ClusterID: s.options.Cluster.ID(), MemberID: s.options.NodeID(),
		Protocol: s.options.Cluster.Protocol(), Version: Version, MetricsURLs: urlStrings(node.ListenMetricsURLs),
		MaxRequestBytes: s.options.Cluster.MaxRequestBytes, MaxTxnOps: s.options.Cluster.MaxTxnOps,
		MaxConcurrentStreams: node.MaxConcurrentStreams,
		Memory:               s.memory,
		LeaderCheckInterval:  s.options.Cluster.ElectionTimeout,
		PingMinInterval:      orNever(node.KeepAlive.MinTime, time.Nanosecond),
		PingInterval:         orNever(node.KeepAlive.Interval, math.MaxInt64),
		PingTimeout:          orNever(node.KeepAlive.Timeout, math.MaxInt64),
		Listener: etcd.Listener{StreamFailed: func(method string, err error) {
			s.logger.Warn("a stream ended", "method", method, "error", err)
		}},
	})
	if err != nil {
		return err
	}
	for _, l := range s.listeners {
		s.workers.Go(func() {
			if err := s.api.Serve(l); err != nil {
				s.fail(err)
			}
		})
	}
	s.metrics, err = s.serveMetrics()
	return err
}

// becomeReady makes the node known to the cluster, which needs a leader, and then says that it is ready.
func (s *Server) becomeReady() {
	record := kv.NodeRecord{ID: s.options.NodeID(), Name: s.options.Node.Name,
		PeerURLs: urlStrings(s.options.Node.AdvertisePeerURLs), ClientURLs: urlStrings(s.options.Node.AdvertiseClientURLs)}
	for s.context.Err() == nil {
		err := s.submit(&kv.Request{Kind: kv.KindPublishNode, PublishNode: &record})
		if err == nil {
			s.api.SetServing(true)
			close(s.ready)
			return
		}
		if s.quiet.allows("waiting", err.Error(), s.clock()) {
			leader, _ := s.shard.Leader()
			s.logger.Info("waiting for the cluster: enough of its nodes for an election (more than half, unless other quorums were chosen) must run and reach each other", "leader", leader, "last_answer", err)
		}
		select {
		case <-s.context.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// submit has the node's own request answered.
func (s *Server) submit(req *kv.Request) error {
	answer := make(chan error, 1)
	s.gateway.Submit(&gateway.Call{Req: req, Deadline: time.Now().Add(time.Second), Done: func(_ *kv.Response, err error) { answer <- err }})
	select {
	case err := <-answer:
		return err
	case <-s.context.Done():
		return kv.ErrStopped
	}
}

// tick lets the gateway notice deadlines.
func (s *Server) tick() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
			s.gateway.Tick(s.clock())
		}
	}
}

// Close ends the node in order: what it leads first, then clients, then peers, then the disk. What was acknowledged is
// durable before Close is called; Close only shortens the next start.
func (s *Server) Close(ctx context.Context) error {
	var err error
	s.closing.Do(func() { err = s.shutdown(ctx) })
	return err
}

func (s *Server) shutdown(ctx context.Context) error {
	var errs []error
	s.handOver(ctx)
	s.stopping.Lock()
	s.stop()
	s.stopping.Unlock()
	for _, limiter := range []*listener.Limiter{s.clients, s.scrapers} {
		if limiter != nil {
			limiter.Close()
		}
	}
	if s.metrics != nil {
		s.metrics.close()
	}
	if s.api != nil {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		s.api.Stop(short)
		cancel()
	}
	for _, l := range s.listeners {
		l.Close() // the API closed those that it served
	}
	if s.gateway != nil {
		s.gateway.Close()
	}
	if s.store != nil {
		s.store.Close()
		if s.store.Err() == nil {
			errs = append(errs, s.store.Flush())
		}
	}
	s.workers.Wait()
	if s.transport != nil {
		errs = append(errs, s.transport.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}

// orNever replaces a negative duration, which means "never", by the one that has that effect.
func orNever(d, never time.Duration) time.Duration {
	if d < 0 {
		return never
	}
	return d
}

// newRand is a source seeded by the system; the cores get theirs from outside.
func newRand() *mathrand.Rand { return mathrand.New(mathrand.NewPCG(randomID(), randomID())) }

// randomID is random and not 0.
func randomID() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}
