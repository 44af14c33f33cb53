package groups

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
	"github.com/quoratedb/quorate/transport"
)

// nodeConfig is what a node's process is told.
type nodeConfig struct {
	Number int // from 1
	Dir    string
	// Service is where the test calls, Peers where the nodes call each other, in their order.
	Service string
	Peers   []string
	Paxos   bool
	Groups  []consensus.GroupID // that the node holds
	// Homes are groups that are not on all nodes, and on which they are.
	Homes map[consensus.GroupID][]int
	// Shards are groups whose state machine is opened as that of another shard.
	Shards map[consensus.GroupID]kv.ShardID
	// RetainEntries is how much log is kept for followers, and after how much the state is made durable; 0: as in production.
	RetainEntries uint64
}

// node is one process.
type node struct {
	config    nodeConfig
	began     time.Time
	log       storage.Log
	engine    *lsm.Engine
	transport *transport.Transport
	driver    *driver.Driver
	gateway   *gateway.Gateway
	handler   *handler
	failed    chan error
}

func (n *node) clock() time.Duration { return time.Since(n.began) }

func (n *node) id() kv.NodeID { return kv.NodeID(n.config.Number) }

// fail ends the process. Who writes into a full channel comes after somebody with a reason of his own.
func (n *node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

func openNode(config nodeConfig) (*node, error) {
	n := &node{config: config, began: time.Now(), failed: make(chan error, 1)}
	n.handler = &handler{node: n, opened: make(chan struct{})}
	instance := randomID()
	for _, step := range []func(uint64) error{n.openStorage, n.openTransport, n.openDriver, n.openGateway} {
		if err := step(instance); err != nil {
			return nil, err
		}
	}
	close(n.handler.opened)
	n.driver.Start()
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			n.gateway.Tick(n.clock())
		}
	}()
	return n, nil
}

func (n *node) staging() string { return filepath.Join(n.config.Dir, "staging") }

func (n *node) openStorage(uint64) (err error) {
	if err := os.RemoveAll(n.staging()); err != nil {
		return err
	}
	if err := os.MkdirAll(n.staging(), 0o700); err != nil {
		return err
	}
	if n.log, err = wal.Open(wal.Options{Dir: filepath.Join(n.config.Dir, "log")}); err != nil {
		return err
	}
	n.engine, err = lsm.Open(lsm.Options{Dir: filepath.Join(n.config.Dir, "state"), Listener: lsm.Listener{Failed: n.fail, Corrupt: n.fail}})
	return err
}

func (n *node) openTransport(instance uint64) (err error) {
	peers := make(map[kv.NodeID][]string)
	for i, address := range n.config.Peers {
		if i+1 != n.config.Number {
			peers[kv.NodeID(i+1)] = []string{address}
		}
	}
	n.transport, err = transport.Open(transport.Options{
		Cluster: 1, Self: n.id(), Name: strconv.Itoa(n.config.Number), Instance: instance,
		MinFormatVersion: driver.FormatOldest, MaxFormatVersion: driver.FormatNewest,
		ListenAddrs: []string{n.config.Peers[n.config.Number-1]}, Peers: peers, Handler: n.handler, Seed: int64(instance >> 1),
	})
	return err
}

func (n *node) openDriver(instance uint64) (err error) {
	o := driver.Options{
		Self: n.id(), Instance: instance, Disk: 1000 + uint64(n.config.Number), Log: n.log, Engine: n.engine, Transport: frames{n.transport},
		NewCore: n.newCore, OutOfOrderLog: n.config.Paxos, OpenMachine: n.openMachine,
		Groups: n.config.Groups, First: make(map[consensus.GroupID][]membership.Home), StagingDir: n.staging(),
		RetainLogEntries: n.config.RetainEntries, FlushLogEntries: n.config.RetainEntries,
		Rand: newRand(), Listener: driver.Listener{
			GroupFailed:    func(_ consensus.GroupID, err error) { n.fail(err) },
			Failed:         n.fail,
			MessageRefused: n.refused,
			SnapshotInstalled: func(group consensus.GroupID, meta consensus.SnapshotMeta) {
				fmt.Fprintf(os.Stderr, "installed a snapshot of group %d at entry %d\n", group, meta.Index)
			},
		},
	}
	for i := range n.config.Peers {
		o.Nodes = append(o.Nodes, kv.NodeID(i+1))
	}
	for group := range n.config.Homes {
		o.First[group] = n.homes(group)
	}
	n.driver, err = driver.Open(o, n.clock)
	return err
}

// homes are the replicas that a group begins with. Their IDs count from 1.
func (n *node) homes(group consensus.GroupID) (homes []membership.Home) {
	on := n.config.Homes[group]
	for i := range n.config.Peers {
		if on == nil {
			homes = append(homes, membership.Home{Replica: consensus.ReplicaID(i + 1), Node: kv.NodeID(i + 1)})
		}
	}
	for i, number := range on {
		homes = append(homes, membership.Home{Replica: consensus.ReplicaID(i + 1), Node: kv.NodeID(number)})
	}
	return homes
}

func (n *node) refused(group consensus.GroupID, from kv.NodeID, err error) {
	fmt.Fprintf(os.Stderr, "refused a message of node %v for group %d: %v\n", from, group, err)
}

func (n *node) newCore(o driver.CoreOptions) (consensus.Core, error) {
	if n.config.Paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, Rand: newRand(), HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
}

func (n *node) openMachine(group consensus.GroupID, logEnd consensus.Index) (driver.Machine, error) {
	var config consensus.Config
	for _, home := range n.homes(group) {
		config.Voters = append(config.Voters, home.Replica)
	}
	id := cmp.Or(n.config.Shards[group], kv.ShardID(group))
	return driver.OpenMachine(n.engine, shard.Options{Shard: id, Rand: newRand(), LogEnd: logEnd}, driver.Founding{Members: config})
}

// byPrincipal finds the shard of a request in its principal: so the groups can hold the same keys.
type byPrincipal struct{}

func (byPrincipal) Route(r *kv.Request) (kv.ShardID, error) {
	shard, err := strconv.ParseUint(r.Principal, 10, 64)
	return kv.ShardID(shard), err
}

func (n *node) openGateway(instance uint64) (err error) {
	shards := make(map[kv.ShardID]gateway.Shard)
	for _, group := range n.config.Groups {
		shards[kv.ShardID(group)] = n.driver.Replica(group)
	}
	n.gateway, err = gateway.New(gateway.Options{
		Self: n.id(), Router: byPrincipal{}, Shards: shards, Sender: frames{n.transport},
		ValidateRequest: func(r *kv.Request) error {
			return shard.Validate(r, shard.Limits{MaxTxnOps: 128, MaxRequestBytes: 1 << 20})
		},
		Instance: instance, Clock: n.clock,
	})
	return err
}

// frames lets the driver and the gateway use the transport.
type frames struct{ *transport.Transport }

func (f frames) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	return f.Transport.Append(to, transport.Channel(channel), encode)
}

func (f frames) OpenStream(ctx context.Context, to kv.NodeID, name string) (driver.Stream, error) {
	return f.Transport.OpenStream(ctx, to, name)
}

// handler hands what other nodes send to whom it is for, once the node is open.
type handler struct {
	node   *node
	opened chan struct{}
}

func (h *handler) Receive(from kv.NodeID, channel transport.Channel, payload []byte) {
	<-h.opened
	switch byte(channel) {
	case gateway.ChannelRequest, gateway.ChannelResponse:
		h.node.gateway.HandleMessage(from, byte(channel), payload)
	default:
		h.node.driver.Receive(from, byte(channel), payload)
	}
}

func (h *handler) ReceiveDone(kv.NodeID) {
	<-h.opened
	h.node.driver.ReceiveDone()
}

func (h *handler) PeerUp(peer kv.NodeID, info transport.PeerInfo) {
	<-h.opened
	h.node.driver.PeerUp(peer, info.FormatVersion)
	h.node.gateway.PeerUp(peer, gateway.Dialect{Deadlines: true, Shards: true})
}

func (h *handler) PeerDown(peer kv.NodeID, refused bool) {
	<-h.opened
	h.node.driver.PeerDown(peer, refused)
	h.node.gateway.PeerDown(peer)
}

func (h *handler) PeerReturned(peer kv.NodeID) {
	<-h.opened
	h.node.gateway.PeerReturned(peer)
}

func (h *handler) ReceiveStream(from kv.NodeID, name string, stream io.Reader) error {
	<-h.opened
	return h.node.driver.ReceiveStream(from, name, stream)
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(randomID(), randomID())) }

// randomID is random and not 0.
func randomID() uint64 {
	var b [8]byte
	crand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}
