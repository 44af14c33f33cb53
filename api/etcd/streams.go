package etcd

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// missedLeaderChecks ends streams that require a leader, as in etcd.
const missedLeaderChecks = 3

// streams knows the open streams, to end them when the server stops and, those that require a
// leader, when there is none for long.
type streams struct {
	mu      sync.Mutex
	open    map[*stream]struct{}
	stopped bool
	// receivers counts goroutines that read from a stream; they end once gRPC ended the stream.
	receivers sync.WaitGroup
	monitor   sync.WaitGroup
	stop      chan struct{}
}

// stream is one open stream. Its context ends with the cause that the client is to be told.
type stream struct {
	ctx           context.Context
	cancel        context.CancelCauseFunc
	requireLeader bool
}

func (all *streams) init() {
	all.open = map[*stream]struct{}{}
	all.stop = make(chan struct{})
}

// begin registers a stream; the caller calls end.
func (all *streams) begin(ctx context.Context, requireLeader bool) (*stream, error) {
	one := &stream{requireLeader: requireLeader}
	one.ctx, one.cancel = context.WithCancelCause(ctx)
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.stopped {
		one.cancel(nil)
		return nil, kv.ErrStopped
	}
	all.open[one] = struct{}{}
	return one, nil
}

func (all *streams) end(one *stream) {
	one.cancel(nil)
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.open, one)
}

// endAll ends the streams for which the condition holds.
func (all *streams) endAll(why error, condition func(*stream) bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for one := range all.open {
		if condition(one) {
			one.cancel(why)
		}
	}
}

// watchLeader runs until halt.
func (all *streams) watchLeader(interval time.Duration, hasLeader func() bool) {
	all.monitor.Add(1)
	go func() {
		defer all.monitor.Done()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		missed := 0
		for {
			select {
			case <-all.stop:
				return
			case <-ticker.C:
			}
			if hasLeader() {
				missed = 0
				continue
			}
			if missed++; missed >= missedLeaderChecks {
				all.endAll(kv.ErrNoLeader, func(one *stream) bool { return one.requireLeader })
			}
		}
	}()
}

// halt ends all streams and lets no new one begin.
func (all *streams) halt() {
	all.mu.Lock()
	first := !all.stopped
	all.stopped = true
	all.mu.Unlock()
	if first {
		close(all.stop)
	}
	all.endAll(kv.ErrStopped, func(*stream) bool { return true })
	all.monitor.Wait()
}

// withStream runs the handler of a stream, with a context that ends when the stream must.
func (s *Service) withStream(method string, transport grpc.ServerStream, serve func(*stream) error) error {
	requireLeader := requiresLeader(transport.Context())
	if requireLeader && !s.hasLeader() {
		return rpctypes.ErrGRPCNoLeader
	}
	one, err := s.streams.begin(transport.Context(), requireLeader)
	if err != nil {
		return toGRPC(err)
	}
	defer s.streams.end(one)
	err = serve(one)
	if cause := context.Cause(one.ctx); cause != nil { // whatever failed, it did because of this
		return toGRPC(cause)
	}
	answer := toGRPC(err)
	if err != nil && !clientsFault(err, answer) {
		s.options.Listener.StreamFailed(method, err)
	}
	return answer
}

// clientsFault tells whether a stream ended because of what the client asked for. Operators need not
// see these, and a client must not be able to fill their log.
func clientsFault(err, answer error) bool {
	switch status.Code(answer) {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound, codes.Unimplemented, codes.FailedPrecondition,
		codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted, codes.Canceled, codes.DeadlineExceeded:
		return true
	}
	return errors.Is(err, etcdwire.ErrMalformed)
}

// receive reads the client's messages until the stream ends, on a goroutine of its own, because
// reading does not end with a context. next makes room for a message, handle takes it; an error of either
// side ends the stream. closed is called when the client has nothing more to say.
func (s *Service) receive(one *stream, transport grpc.ServerStream, next func() any, handle func(any) error, closed func()) {
	s.streams.receivers.Add(1)
	go func() {
		defer s.streams.receivers.Done()
		for {
			message := next()
			err := transport.RecvMsg(message)
			if errors.Is(err, io.EOF) {
				closed()
				return
			}
			if err == nil {
				err = handle(message)
			}
			if err != nil {
				one.cancel(err)
				return
			}
		}
	}()
}
