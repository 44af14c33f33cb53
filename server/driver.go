package server

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
)

// openDriver opens the replicas. They do nothing before the driver is started.
func (s *Server) openDriver(instance uint64) (err error) {
	options := s.driverOptions(instance)
	if err := s.openIssuer(instance, &options); err != nil {
		return err
	}
	if s.driver, err = driver.Open(options, s.clock); err != nil {
		return err
	}
	s.holds.limit, s.holds.released = s.options.Node.BackupHoldLimit, s.driver.HistoryReleased
	if s.issuer != nil {
		s.issuer.Attach(s.driver)
	}
	if s.shard = s.driver.Replica(consensus.GroupID(kv.SystemShard)); s.shard == nil {
		return <-s.failed // groupFailed has said why
	}
	s.roster.applied(s.shard.Members())
	return nil
}

// keepHashes is of how many compactions the hash is kept: as many as etcd keeps.
const keepHashes = 10

func (s *Server) driverOptions(instance uint64) driver.Options {
	f := s.options.foundation()
	_, config := f.first()
	if f.joined() {
		config = consensus.Config{}
	}
	return driver.Options{
		Self: f.self, Nodes: f.nodes(), Added: f.joined(), First: s.firstReplicas(f), Instance: instance, Disk: s.dir.Identity.Disk, Lost: s.dir.Identity.Lost,
		Log: s.log, Engine: s.engine, Transport: frames{s.transport},
		Founders: s.options.Cluster.Quorums.largest(len(f.founders)), NewCore: s.newCore, OutOfOrderLog: s.options.Cluster.Consensus == ConsensusPaxos,
		OpenMachine: func(group consensus.GroupID, logEnd consensus.Index) (driver.Machine, error) {
			return s.openMachine(group, logEnd, config)
		},
		Groups:     s.options.Cluster.groups(),
		StagingDir: filepath.Join(s.dir.Path, datadir.Staging),

		MaxQueuedBytes:    max(64<<20, 4*int64(s.options.Cluster.MaxRequestBytes)),
		HeartbeatInterval: s.options.Cluster.HeartbeatInterval,
		ElectionTimeout:   s.options.Cluster.ElectionTimeout,
		ReadSafety:        readSafety(s.options.Cluster.ReadSafety),
		RetainLogEntries:  s.options.Node.SnapshotCount,
		FlushLogEntries:   s.options.Node.SnapshotCount,
		KeepHashes:        keepHashes,
		HistoryHeld:       s.holds.held.Load,
		ScrubInterval:     max(0, s.options.Node.ScrubInterval),
		Rand:              newRand(),
		Listener:          s.driverListener(),
	}
}

// driverListener writes what the driver tells into the log of the node.
func (s *Server) driverListener() driver.Listener {
	return driver.Listener{
		RoleChanged: func(group consensus.GroupID, change consensus.RoleChange, leader kv.NodeID) {
			level := slog.LevelInfo
			if group != consensus.GroupID(kv.SystemShard) {
				level = slog.LevelDebug // there may be very many
			}
			s.logger.Log(s.context, level, "role", s.ofShard(group, "role", change.Role.String(), "term", uint64(change.Term), "leader", leader)...)
			if s.gateway != nil {
				s.gateway.LeaderChanged(kv.ShardID(group))
			}
		},
		NodeLost: func(node kv.NodeID) { s.logger.Warn("a node does not answer any more", "node", node) },
		SnapshotSent: func(group consensus.GroupID, to kv.NodeID, meta consensus.SnapshotMeta, bytes int64, err error) {
			if err != nil {
				s.logger.Warn("sending a snapshot failed", s.ofShard(group, "to", to, "index", uint64(meta.Index), "error", err)...)
				return
			}
			s.logger.Info("sent a snapshot", s.ofShard(group, "to", to, "index", uint64(meta.Index), "bytes", bytes)...)
		},
		SnapshotInstalled: func(group consensus.GroupID, meta consensus.SnapshotMeta) {
			s.logger.Info("installed a snapshot", s.ofShard(group, "index", uint64(meta.Index))...)
		},
		SlowSync: func(took time.Duration) { s.logger.Warn("the log's disk is slow", "sync_took", took) },
		MessageRefused: func(_ consensus.GroupID, from kv.NodeID, err error) {
			if s.quiet.allows("message", from.String(), s.clock()) {
				s.logger.Warn("a message of another node was refused", "from", from, "reason", err)
			}
		},
		Lost: func(group consensus.GroupID, lost consensus.ReplicaID) {
			s.logger.Warn("the data directory is empty but the cluster knows this node: what it had is lost, and it joins as a new replica",
				s.ofShard(group, "lost_replica", uint64(lost))...)
		},
		Joined: func(group consensus.GroupID, own consensus.ReplicaID) {
			s.logger.Info("takes part", s.ofShard(group, "replica", uint64(own))...)
		},
		Unwitnessed: s.unwitnessed,
		ConfigChanged: func(group consensus.GroupID, config consensus.Config) {
			s.logger.Info("the membership changed", s.ofShard(group, "members", config.String())...)
		},
		ListChanged: func(list *members.List) {
			if list.Version > 0 {
				s.roster.applied(list)
			}
		},
		Scrubbed: func(pass driver.ScrubPass) {
			s.logger.Info("everything on disk was read again, and is as it was written", "bytes", pass.Bytes, "took", pass.Took)
		},
		ScrubFailed: func(err error) {
			s.logger.Error("a part of what is on disk cannot be read", "error", err)
		},
		NodesChanged: s.roster.need,
		Removed:      func(group consensus.GroupID) { s.groupRemoved(kv.ShardID(group)) },
		GroupFailed:  s.groupFailed,
		Failed:       s.fail,
	}
}

// firstReplicas are those that the shards began with, if they may be on other nodes than there are now. A shard of which nothing is here gets none: the nodes that
// it began with, which may be this one alone, would be taken for all that there are, and it would begin again.
func (s *Server) firstReplicas(f *foundation) map[consensus.GroupID][]membership.Home {
	first := map[consensus.GroupID][]membership.Home{}
	homes, _ := f.first()
	for _, group := range s.options.Cluster.groups() {
		if f.joined() && !f.added && s.log.Group(group).HardState() != (consensus.HardState{}) {
			first[group] = homes
		}
	}
	return first
}

func (s *Server) newCore(o driver.CoreOptions) (consensus.Core, error) {
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

func (s *Server) openMachine(group consensus.GroupID, logEnd consensus.Index, config consensus.Config) (driver.Machine, error) {
	founding := driver.Founding{Members: config}
	if kv.ShardID(group) == kv.SystemShard {
		founding.Nodes = s.options.foundation().founders
	}
	return driver.OpenMachine(s.engine, shard.Options{
		Shard: kv.ShardID(group), Sequenced: s.many(), Rand: newRand(), LogEnd: logEnd,
		MinLeaseTTLSeconds: shard.MinLeaseTTLSeconds(s.options.Cluster.ElectionTimeout),
	}, founding)
}

func readSafety(r ReadSafety) driver.ReadSafety {
	if r == ReadQuorum {
		return driver.ReadQuorum
	}
	return driver.ReadLease
}
