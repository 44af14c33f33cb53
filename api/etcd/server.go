package etcd

import (
	"context"
	"fmt"
	"math"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// streamWorkers serve calls on stacks that have grown already; calls beyond so many at a time get goroutines of their own, whose
// stacks are copied two or three times on the way to an answer.
const streamWorkers = 512

// Server is the etcd API over gRPC.
type Server struct {
	*Service
	grpc   *grpc.Server
	health *health.Server
	door   *door
}

// NewServer returns a server that does not serve yet, for which the health service says so.
func NewServer(options Options) (*Server, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	s := &Server{Service: newService(options), health: health.NewServer(), door: newDoor(options.MetricsURLs)}
	s.SetServing(false)
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(options.MaxRequestBytes+requestOverheadBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(options.MaxConcurrentStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: options.PingMinInterval}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: options.PingInterval, Timeout: options.PingTimeout}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			return unimplemented(method)
		}),
		grpc.WaitForHandlers(true),
		grpc.Creds(s.door.credentials()),
		grpc.NumStreamWorkers(streamWorkers),
	)
	for _, desc := range s.services() {
		s.grpc.RegisterService(&desc, s)
	}
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
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
	if err := s.grpc.Serve(doorListener{listener, s.door}); err != nil {
		return fmt.Errorf("serve the etcd API on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Stop ends streams (official clients open them again elsewhere), takes no new call, waits for those
// that run until the context ends, cuts them off then, and returns when every goroutine of the server has ended.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.streams.halt()
	s.door.close()
	graceful := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.grpc.Stop()
		<-graceful
	}
	s.streams.receivers.Wait()
}
