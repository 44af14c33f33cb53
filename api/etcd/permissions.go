package etcd

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// healthMethods are answered whoever asks, and at once.
const healthMethods = "/grpc.health.v1.Health/"

// byRequest: the gateway decides by what the request asks for.
const byRequest = auth.NeedNothing

// permissions says of every method who may call it. One that is not here nobody may call but root.
var permissions = map[string]auth.Need{
	"/etcdserverpb.KV/Range":       byRequest,
	"/etcdserverpb.KV/RangeStream": byRequest,
	"/etcdserverpb.KV/Put":         byRequest,
	"/etcdserverpb.KV/DeleteRange": byRequest,
	"/etcdserverpb.KV/Txn":         byRequest,
	"/etcdserverpb.KV/Compact":     byRequest,

	"/etcdserverpb.Watch/Watch": byRequest, // each watch of the stream

	"/etcdserverpb.Lease/LeaseGrant":      byRequest,
	"/etcdserverpb.Lease/LeaseRevoke":     byRequest,
	"/etcdserverpb.Lease/LeaseKeepAlive":  byRequest, // each message of the stream
	"/etcdserverpb.Lease/LeaseTimeToLive": byRequest,
	"/etcdserverpb.Lease/LeaseLeases":     byRequest,

	"/etcdserverpb.Cluster/MemberList":    byRequest,
	"/etcdserverpb.Cluster/MemberAdd":     auth.NeedRoot,
	"/etcdserverpb.Cluster/MemberRemove":  auth.NeedRoot,
	"/etcdserverpb.Cluster/MemberUpdate":  auth.NeedRoot,
	"/etcdserverpb.Cluster/MemberPromote": auth.NeedRoot,

	"/etcdserverpb.Maintenance/Alarm":      byRequest,
	"/etcdserverpb.Maintenance/Status":     auth.NeedUser,
	"/etcdserverpb.Maintenance/Defragment": auth.NeedRoot,
	"/etcdserverpb.Maintenance/Hash":       auth.NeedRoot,
	"/etcdserverpb.Maintenance/HashKV":     auth.NeedRoot,
	"/etcdserverpb.Maintenance/Snapshot":   auth.NeedRoot,
	"/etcdserverpb.Maintenance/MoveLeader": auth.NeedRoot,
	"/etcdserverpb.Maintenance/Downgrade":  auth.NeedRoot,

	"/etcdserverpb.Auth/Authenticate":         auth.NeedNothing, // but the password
	"/etcdserverpb.Auth/AuthStatus":           byRequest,
	"/etcdserverpb.Auth/AuthEnable":           byRequest,
	"/etcdserverpb.Auth/AuthDisable":          byRequest,
	"/etcdserverpb.Auth/UserAdd":              auth.NeedRoot, // before a password is hashed
	"/etcdserverpb.Auth/UserChangePassword":   auth.NeedRoot,
	"/etcdserverpb.Auth/UserGet":              byRequest,
	"/etcdserverpb.Auth/UserList":             byRequest,
	"/etcdserverpb.Auth/UserDelete":           byRequest,
	"/etcdserverpb.Auth/UserGrantRole":        byRequest,
	"/etcdserverpb.Auth/UserRevokeRole":       byRequest,
	"/etcdserverpb.Auth/RoleAdd":              byRequest,
	"/etcdserverpb.Auth/RoleGet":              byRequest,
	"/etcdserverpb.Auth/RoleList":             byRequest,
	"/etcdserverpb.Auth/RoleDelete":           byRequest,
	"/etcdserverpb.Auth/RoleGrantPermission":  byRequest,
	"/etcdserverpb.Auth/RoleRevokePermission": byRequest,

	native.ListShards:       auth.NeedUser,
	native.ListTransactions: auth.NeedUser,
	native.ListTimes:        auth.NeedUser,
	native.BeginBackup:      auth.NeedRoot,
	native.ExportShard:      auth.NeedRoot,
	native.HoldHistory:      auth.NeedRoot,

	"/grpc.health.v1.Health/Check": auth.NeedNothing,
	"/grpc.health.v1.Health/List":  auth.NeedNothing,
	"/grpc.health.v1.Health/Watch": auth.NeedNothing,
}

// guard has every method refuse whom its permission excludes.
func (s *Service) guard(methods registry) {
	for path, m := range methods {
		need, declared := permissions[path]
		if !declared {
			need = auth.NeedRoot
		}
		guarded := m
		if unary := m.Unary; unary != nil {
			guarded.Unary = func(c *rpc.Call) {
				if s.meets(c, need) == nil {
					unary(c)
					return
				}
				c.Go(func() {
					if err := s.meetsNow(c, need); err != nil {
						s.auditRefusal(c, err)
						c.Fail(toGRPC(err))
						return
					}
					unary(c)
				})
			}
		}
		if stream := m.Stream; stream != nil {
			guarded.Stream = func(c *rpc.Call) error {
				if s.meets(c, need) != nil {
					if err := s.meetsNow(c, need); err != nil {
						s.auditRefusal(c, err)
						return toGRPC(err)
					}
				}
				return stream(c)
			}
		}
		methods[path] = guarded
	}
}

// meets tells why a call must not be served, by the users and roles that are known here. Of what anybody may call it looks only at whether the client is known:
// its token may be of a state that has not come here yet.
func (s *Service) meets(c *rpc.Call, need auth.Need) error {
	if s.options.Users == nil {
		return nil
	}
	if !s.options.Gateway.KnowsUsers() && !strings.HasPrefix(c.Method(), healthMethods) {
		return kv.ErrNoLeader // who calls cannot be known either
	}
	token := tokenOf(c)
	if token != "" && s.options.Tokens.Later(s.options.Users(), token) {
		return kv.ErrInvalidAuthToken
	}
	if need == auth.NeedNothing {
		return nil
	}
	principal, proof, err := s.identify(c)
	if err != nil {
		return err
	}
	return s.options.Gateway.Meets(principal, proof, need)
}

// meetsNow is meets by the newest state. Without a quorum it is by what is known.
func (s *Service) meetsNow(c *rpc.Call, need auth.Need) error {
	ctx, cancel := context.WithTimeout(context.Background(), catchUpPatience)
	defer cancel()
	_ = s.options.Gateway.CatchUp(ctx, kv.SystemShard)
	if need == auth.NeedNothing {
		return nil // whoever serves it looks at the token
	}
	return s.meets(c, need)
}

// catchUpPatience is how long a call waits for the newest users and roles before it is refused by those that are known.
const catchUpPatience = 2 * time.Second

func tokenOf(c *rpc.Call) string {
	token := c.Header(rpctypes.TokenFieldNameGRPC)
	if token == "" {
		token = c.Header(rpctypes.TokenFieldNameSwagger)
	}
	return strings.TrimPrefix(token, "Bearer ")
}

// users is the applied state of users and roles if authentication is on; otherwise nil.
func (s *Service) users() *auth.State {
	if s.options.Users == nil {
		return nil
	}
	if state := s.options.Users(); state.Enabled {
		return state
	}
	return nil
}

// identify is the one place where a client's identity enters: by a token, or by its certificate. Nobody ("") is who shows neither. While authentication is
// off nobody is asked.
func (s *Service) identify(c *rpc.Call) (principal string, proof kv.Credential, err error) {
	state := s.users()
	if state == nil {
		return "", kv.Credential{}, nil
	}
	if token := tokenOf(c); token != "" {
		return s.options.Tokens.Read(state, token, time.Now())
	}
	if s.options.ClientCertAuth {
		return c.PeerName(), kv.Credential{}, nil
	}
	return "", kv.Credential{}, nil
}

// nameOf is who calls; "": nobody who can be named.
func (s *Service) nameOf(c *rpc.Call) string {
	name, _, _ := s.identify(c) // who is refused does not get here
	return name
}

// callIn is the call that a method on generated messages serves.
func callIn(ctx context.Context) *rpc.Call {
	return grpc.ServerTransportStreamFromContext(ctx).(headers).Call
}
