package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/proto/h2"
	"github.com/quoratedb/quorate/proto/native"
)

// Server is the etcd API over gRPC.
type Server struct {
	*Service
	methods registry
	rpc     *rpc.Server
	health  *health.Server
	door    *door
	memory  *budget.Budget
}

// NewServer returns a server that does not serve yet, for which the health service says so.
func NewServer(options Options) (s *Server, err error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	s = &Server{Service: newService(options), methods: registry{}, health: health.NewServer(), door: newDoor(options.MetricsURLs, options.Listener.WantedTLS)}
	s.SetServing(false)
	for _, desc := range s.services() {
		s.methods.RegisterService(&desc, s)
	}
	s.methods[native.ListShards] = rpc.Method{Unary: func(c *rpc.Call) { c.Go(func() { serveTyped(c, s, typed(s.Service, s.listShards)) }) }}
	s.methods[native.ListTransactions] = rpc.Method{Unary: func(c *rpc.Call) {
		c.Go(func() { serveTyped(c, s, typed(s.Service, s.listTransactions)) })
	}}
	maps.Copy(s.methods, s.backups())
	grpc_health_v1.RegisterHealthServer(s.methods, s.health)
	for method, kind := range unaryKinds {
		s.methods[method] = s.hotMethod(operationOf(method), kind)
	}
	if options.Audit != nil {
		for path, m := range s.methods {
			s.methods[path] = s.auditStream(path, m)
		}
	}
	s.guard(s.methods)
	if s.memory = options.Memory; s.memory == nil {
		if s.memory, err = budget.New(budget.Limits{TotalBytes: 192 << 20, AccountBytes: 128 << 20}); err != nil {
			return nil, err
		}
	}
	s.rpc, err = rpc.NewServer(rpc.Options{
		Lookup: s.lookup, StatusOf: statusOf, Budget: s.memory, NotHTTP2: s.door.answer,
		Wire: h2.Options{
			MaxMessageBytes: options.MaxRequestBytes + requestOverheadBytes, MaxStreams: options.MaxConcurrentStreams,
			Keep: keptHeaders, PingMinInterval: options.PingMinInterval,
		},
		PingInterval: options.PingInterval, PingTimeout: options.PingTimeout,
	})
	if err != nil {
		return nil, err
	}
	s.streams.watchLeader(options.LeaderCheckInterval, s.hasLeader)
	return s, nil
}

// SetServing is what gRPC's health service answers from now on.
func (s *Server) SetServing(serving bool) {
	answer := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		answer = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", answer)
}

// Serve answers the connections of a listener until Stop; it closes the listener. It may be
// called for several.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.rpc.Serve(listener); err != nil && !errors.Is(err, rpc.ErrStopped) {
		return fmt.Errorf("serve the etcd API on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Stop ends streams (official clients open them again elsewhere), takes no new call, waits for those
// that run until the context ends, cuts them off then, and returns when every goroutine of the server has ended.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.streams.halt()
	s.rpc.Stop(ctx)
	s.streams.receivers.Wait()
}
