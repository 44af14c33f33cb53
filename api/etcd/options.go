package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/authn"
	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
)

// Versions that the API claims, because clients parse them.
const (
	EtcdVersion    = "3.7.3" // of the API's behaviour
	StorageVersion = "3.7.0"
)

// Keys of the response metadata by which our own tools recognize the server.
const (
	MetadataProtocol = "quorate-protocol"
	MetadataVersion  = "quorate-version"
	// How many shards there are, and how many of them the node leads; only if there are several.
	MetadataShards    = "quorate-shards"
	MetadataShardsLed = "quorate-shards-led"
)

// requestOverheadBytes is what gRPC accepts above MaxRequestBytes, as etcd does.
const requestOverheadBytes = 512 << 10

// Options of a Server.
type Options struct {
	Gateway Gateway
	Node    Node

	ClusterID kv.ClusterID
	MemberID  kv.NodeID
	Protocol  string // of consensus, for our tools
	Version   string // of this program, for our tools
	// MetricsURLs are where /health and /metrics are answered, for those who ask the API's port.
	MetricsURLs []string

	// Users, if it is set, is the applied state of users and roles; then Tokens and Passwords must be set. Without it users are not served.
	Users     func() *auth.State
	Tokens    authn.Tokens
	Passwords *authn.Passwords
	// ClientCertAuth: who has shown a certificate, and no token, is the user of its common name.
	ClientCertAuth bool

	// Follower, if it is set, lets clients change who the members are; then Members, the applied list, must be set. Without it they cannot.
	Follower Follower
	Members  func() *members.List
	// MaxLearners is etcd's --max-learners; StrictReconfigCheck its flag of the same name.
	MaxLearners         int
	StrictReconfigCheck bool

	MaxRequestBytes int // etcd's --max-request-bytes
	MaxTxnOps       int // etcd's --max-txn-ops
	// MaxConcurrentStreams bounds the calls in flight on one connection. etcd has no bound by default, we have.
	MaxConcurrentStreams uint32
	KeepAlivesInFlight   int // of one lease stream

	// LeaderCheckInterval: streams that require a leader end when there was none at three checks in a row,
	// as in etcd, where it is the election timeout.
	LeaderCheckInterval time.Duration

	// Memory bounds what clients make the node hold. Nil: 192 MiB, 128 of them for each connection.
	Memory *budget.Budget

	// How gRPC's keep-alive pings are treated: etcd's --grpc-keepalive-*.
	PingMinInterval time.Duration
	PingInterval    time.Duration
	PingTimeout     time.Duration

	// Audit records what clients do. Nil: nothing is recorded, which costs nothing.
	Audit Auditor

	Listener Listener
}

// Listener is told what happens. Its functions may be nil and must be quick.
type Listener struct {
	// StreamFailed: a watch or lease stream ended by an error that the client is not the cause of.
	StreamFailed func(method string, err error)
	// WantedTLS: a client spoke TLS on a port without it.
	WantedTLS func(address net.Addr)
}

// WithDefaults returns a copy with defaults for what is not set.
func (o Options) WithDefaults() Options {
	o.Protocol = cmp.Or(o.Protocol, "unknown")
	o.Version = cmp.Or(o.Version, "unknown")
	o.MaxRequestBytes = cmp.Or(o.MaxRequestBytes, 3<<19) // 1.5 MiB
	o.MaxTxnOps = cmp.Or(o.MaxTxnOps, 128)
	o.MaxConcurrentStreams = cmp.Or(o.MaxConcurrentStreams, 1<<16)
	o.KeepAlivesInFlight = cmp.Or(o.KeepAlivesInFlight, 128)
	o.LeaderCheckInterval = cmp.Or(o.LeaderCheckInterval, time.Second)
	o.PingMinInterval = cmp.Or(o.PingMinInterval, 5*time.Second)
	o.PingInterval = cmp.Or(o.PingInterval, 2*time.Hour)
	o.PingTimeout = cmp.Or(o.PingTimeout, 20*time.Second)
	if o.Listener.StreamFailed == nil {
		o.Listener.StreamFailed = func(string, error) {}
	}
	return o
}

// Validate tells what is wrong with the options, defaults filled in.
func (o Options) Validate() error {
	switch {
	case o.Gateway == nil || o.Node == nil:
		return errors.New("etcd API: Options.Gateway or Options.Node is missing")
	case o.Users != nil && (o.Tokens == nil || o.Passwords == nil):
		return errors.New("etcd API: Options.Users without Tokens and Passwords")
	case o.Follower != nil && o.Members == nil:
		return errors.New("etcd API: Options.Follower without Members")
	case o.MaxRequestBytes < 1 || o.MaxRequestBytes > math.MaxInt32-requestOverheadBytes:
		return fmt.Errorf("etcd API: max-request-bytes is %d, want 1 to %d", o.MaxRequestBytes, math.MaxInt32-requestOverheadBytes)
	case o.MaxTxnOps < 1:
		return fmt.Errorf("etcd API: max-txn-ops is %d, want at least 1", o.MaxTxnOps)
	case o.KeepAlivesInFlight < 1:
		return fmt.Errorf("etcd API: keep-alives in flight is %d, want at least 1", o.KeepAlivesInFlight)
	case o.LeaderCheckInterval < 0 || o.PingMinInterval < 0 || o.PingInterval < 0 || o.PingTimeout < 0:
		return errors.New("etcd API: a duration is negative")
	}
	return nil
}
