package etcd

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// world is a server over a fake store, with a deadline for everything.
type world struct {
	*testing.T
	ctx     context.Context
	store   *fake
	server  *Server
	address string
}

func start(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	store, err := newFake()
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Gateway: store, Node: store, ClusterID: 1 << 63, MemberID: 1, Protocol: "raft", Version: "test"}
	for _, c := range change {
		c(&options)
	}
	server, err := NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(func() {
		soon, cancelSoon := context.WithTimeout(context.Background(), 100*time.Millisecond)
		server.Stop(soon)
		serving.Wait()
		store.hub.Close()
		cancelSoon()
		cancel()
	})
	return &world{t, ctx, store, server, listener.Addr().String()}
}

// client is etcd's own.
func (w *world) client() *clientv3.Client {
	w.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{w.address}, Logger: zap.NewNop()})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	return c
}

// raw is a connection that sends and receives bytes.
func (w *world) raw() *grpc.ClientConn {
	w.Helper()
	c, err := grpc.NewClient(w.address, rawOptions()...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	return c
}

func rawOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallSendMsgSize(64<<20))}
}

// rawCodec sends and receives *[]byte as it is.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
