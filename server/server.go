// Package server puts the parts of one node together, starts them in order and ends them in order. It
// is the only place in production that names concrete implementations; two nodes fit into one process.
//
// options.go holds what a node can be told, validate.go what of it is refused, members.go who the cluster consists of, storage.go how
// the content of the data directory is opened, damage.go what is done about damage. connect.go, driver.go and clients.go make the parts and
// put them together.
package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/connlimit"
	"github.com/quoratedb/quorate/connlimit/listener"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/transport"
)

// Server is one running node.
type Server struct {
	options Options
	logger  *slog.Logger
	clock   func() time.Duration

	dir       *datadir.Dir
	engine    *lsm.Engine
	log       storage.Log
	transport *transport.Transport
	driver    *driver.Driver
	shard     *driver.Replica // of the system shard
	// descriptors of all shards, by number.
	descriptors []partition.Descriptor
	gateway     *gateway.Gateway
	issuer      *issuer.Issuer // nil: one shard
	api         *etcd.Server
	listeners   []net.Listener
	plan        connlimit.Plan // of file descriptors
	security    security
	clients     *listener.Limiter // of the connections of clients
	scrapers    *listener.Limiter // of those to the port for metrics; nil: there is none
	metrics     *metricsServer

	memory *budget.Budget // of what clients make the node hold
	// As they were looked at last.
	size         atomic.Pointer[storage.Metrics] // of the state
	logSize      atomic.Pointer[storage.LogMetrics]
	quota        *spaceQuota
	reclamations reclamations
	failedShards failures
	waitsFor     atomic.Pointer[[]kv.ShardID] // before the node is ready, if there are several shards
	rates        rates                        // of what is done in each shard

	ready    chan struct{}
	failed   chan error
	stop     context.CancelFunc
	context  context.Context
	workers  sync.WaitGroup
	stopping sync.Mutex  // see beside
	leaving  atomic.Bool // what is led here is handed over
	closing  sync.Once
	quiet    repetitions // of log lines

	snapshots   clientSnapshots
	holds       historyHolds
	instance    uint64 // of this process, among those of the node
	comparisons *comparisons

	began       time.Time
	roster      *roster    // who the members are
	remembering sync.Mutex // held by who writes what the data directory remembers of them
	remembered  uint64     // version of the list that it does
	fetching    atomic.Bool
	outside     atomic.Bool // this node was removed, and no group needs it
	waiting     questions
	leavers     sync.Mutex
	left        map[kv.ShardID]bool // that do without this node, which was removed
	auditor     *auditor            // nil: nothing is recorded
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
	options, err := options.WithDefaults().settle(ctx)
	if err != nil {
		return nil, err
	}
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options.Cluster.recalled = options.foundation()
	memory, err := budget.New(budget.Limits{TotalBytes: options.Node.MaxClientMemoryBytes, AccountBytes: options.Node.MaxConnectionMemoryBytes})
	if err != nil {
		return nil, err
	}
	table, err := partition.New(options.Cluster.Partition)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	s := &Server{
		options: options, logger: options.Logger, memory: memory, descriptors: table.Descriptors(),
		clock:  func() time.Duration { return time.Since(began) },
		ready:  make(chan struct{}),
		failed: make(chan error, 1),
		quota:  newSpaceQuota(options.Cluster.QuotaBytes),

		instance: randomID(), comparisons: newComparisons(),

		began: began, roster: newRoster(options.foundation()), remembered: options.foundation().list.Version,
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.many() {
		shards := options.Cluster.Partition.ShardIDs()
		s.waitsFor.Store(&shards)
	}
	s.sayWhoThisIs()
	s.context, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, step := range []func() error{s.openSecurity, s.openAudit, s.planDescriptors, s.openDirectory, s.keepCertificates, s.listenForClients, s.openStorage, s.openPeers, s.openClients} {
		if err := step(); err != nil {
			s.noteDamage(err)
			return nil, errors.Join(s.noRepair(err), s.shutdown(context.Background()))
		}
	}
	s.workers.Go(s.becomeReady)
	s.workers.Go(s.watchSize)
	s.workers.Go(s.tick)
	s.workers.Go(s.recordTimes)
	if s.security.any() {
		s.workers.Go(s.watchExpiries)
	}
	s.workers.Go(s.watchRates)
	s.workers.Go(s.followMembers)
	s.workers.Go(s.watchAccusation)
	if options.Node.CorruptCheckInterval > 0 {
		s.workers.Go(s.checkCorruption)
	}
	if !options.Cluster.AutoCompaction.Off() {
		s.workers.Go(s.compactByItself)
	}
	if s.many() {
		s.workers.Go(s.placeLeaders)
	}
	return s, nil
}

// sayWhoThisIs: IDs may come from the data directory, or the other nodes, whatever the flags say.
func (s *Server) sayWhoThisIs() {
	f := s.options.foundation()
	s.logger.Info("this node", "node_id", f.self, "cluster_id", f.cluster, "list_version", f.list.Version, "members", membersText(f.list))
	if said := s.options.Cluster.computedID(); f.list.Version == 0 && f.cluster != said {
		s.logger.Warn("--initial-cluster and --initial-cluster-token say another cluster than the one that the node belongs to: the data directory counts", "cluster", f.cluster, "said", said)
	}
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

// becomeReady makes the node known to the cluster, which needs a leader, waits for the other shards, and then says that it is ready.
func (s *Server) becomeReady() {
	record := kv.NodeRecord{ID: s.options.NodeID(), Name: s.options.Node.Name,
		PeerURLs: s.peerURLs(), ClientURLs: urlStrings(s.options.Node.AdvertiseClientURLs)}
	for s.context.Err() == nil {
		err := s.submit(&kv.Request{Kind: kv.KindPublishNode, PublishNode: &record})
		if err == nil {
			s.waitForShards()
			s.enter()
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

// enter begins to serve, unless this node is not what it should be.
func (s *Server) enter() {
	if s.context.Err() != nil {
		return
	}
	close(s.comparisons.caughtUp)
	if err := s.checkAtStart(); err != nil {
		s.fail(err)
		return
	}
	if s.context.Err() == nil {
		s.api.SetServing(true)
		close(s.ready)
	}
}

// submit has the node's own request answered.
func (s *Server) submit(req *kv.Request) error {
	answer := make(chan error, 1)
	s.gateway.Submit(&gateway.Call{Req: req, Trusted: true, Deadline: time.Now().Add(time.Second), Done: func(_ *kv.Response, err error) { answer <- err }})
	select {
	case err := <-answer:
		return err
	case <-s.context.Done():
		return kv.ErrStopped
	}
}

// tick lets the gateway notice deadlines, and the issuer what does not come.
func (s *Server) tick() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
			if s.issuer != nil {
				s.issuer.Tick(s.clock())
			}
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
	s.handOver(ctx)
	return s.end(ctx)
}

// end is shutdown of a node that has handed over what it led, or has no time to.
func (s *Server) end(ctx context.Context) error {
	var errs []error
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
	if s.issuer != nil {
		s.issuer.Stop()
	}
	if s.driver != nil {
		s.driver.Close()
		if s.driver.Err() == nil {
			errs = append(errs, s.driver.Flush())
		}
	}
	s.workers.Wait()
	errs = append(errs, s.auditor.close()) // after everybody who records
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

// newRand is a source seeded by the system; the cores get theirs from outside.
func newRand() *mathrand.Rand { return mathrand.New(mathrand.NewPCG(randomID(), randomID())) }

// randomID is random and not 0.
func randomID() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}
