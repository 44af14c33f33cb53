package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// pollInterval is how often Wait asks: short against everything that tests wait for.
const pollInterval = 20 * time.Millisecond

// Wait calls the condition until it returns nil, or the context ends; then the result has the
// condition's last error.
func Wait(ctx context.Context, condition func() error) error {
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-time.After(pollInterval):
		}
	}
}

// Eventually fails the test unless the condition becomes nil within Patience.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := Wait(ctx, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// NewClient is the official client, silent, and quick to find a node again that was down.
func NewClient(endpoints ...string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints,
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: 3 * time.Second,
		})},
		MaxCallSendMsgSize: 64 << 20,
		MaxCallRecvMsgSize: 1 << 30,
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of %v: %w", endpoints, err)
	}
	return client, nil
}

func testClient(t testing.TB, endpoints []string) *clientv3.Client {
	t.Helper()
	client, err := NewClient(endpoints...)
	if err != nil {
		t.Fatal(err)
	}
	// Closing reports the end of the client's own context.
	t.Cleanup(func() { _ = client.Close() })
	return client
}
