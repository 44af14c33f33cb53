package etcd

import (
	"context"
	"net"
	"testing"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// null answers every put at once.
type null struct{ *fake }

func (null) Submit(c *gateway.Call) {
	c.Done(&kv.Response{Kind: kv.KindPut, Revision: 12345, Put: &kv.PutResponse{}}, nil)
}

// standard is the same server on the generated code.
type standard struct {
	etcdserverpb.UnimplementedKVServer
	*Service
}

func (s standard) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	w := s.newWaiter()
	w.call.Deadline, _ = ctx.Deadline()
	w.call.RequireLeader = requiresLeader(ctx)
	w.call.Req = &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: r.Key, Value: r.Value, Lease: kv.LeaseID(r.Lease)}}
	s.options.Gateway.Submit(&w.call)
	out, err := s.wait(ctx, w)
	if err != nil {
		return nil, err
	}
	return &etcdserverpb.PutResponse{Header: s.pbHeader(out.response.Revision)}, nil
}

// BenchmarkNullPut compares our server with grpc-go's and the generated code, for a put that does nothing: a whole round trip, client included.
func BenchmarkNullPut(b *testing.B) {
	in := etcdwire.AppendPut(nil, &kv.PutRequest{Key: []byte("key-0001"), Value: make([]byte, 256)})
	store := must[*fake](b)(newFake())
	defer store.hub.Close()
	ours := must[*Server](b)(NewServer(Options{Gateway: null{store}, Node: store, ClusterID: 1 << 62, MemberID: 1 << 61}))
	defer ours.Stop(context.Background())
	generated := grpc.NewServer()
	etcdserverpb.RegisterKVServer(generated, standard{Service: ours.Service})
	for name, server := range map[string]interface{ Serve(net.Listener) error }{"ours": ours, "grpc": generated} {
		b.Run(name, func(b *testing.B) {
			listener := must[net.Listener](b)(net.Listen("tcp", "127.0.0.1:0"))
			go server.Serve(listener)
			conn := must[*grpc.ClientConn](b)(grpc.NewClient(listener.Addr().String(), rawOptions()...))
			defer conn.Close()
			b.ReportAllocs()
			b.SetParallelism(64)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					var out []byte
					if err := conn.Invoke(context.Background(), "/etcdserverpb.KV/Put", &in, &out); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	generated.Stop()
}

// discard takes messages and encodes them.
type discard struct{}

func (discard) FlushMsgs() {}

func (discard) QueueMsg(m any) error {
	message, err := marshal(m)
	for left := message.SizeBytes; left > 0 && err == nil && message.Bytes == nil; {
		var piece []byte
		piece, err = message.Next()
		left -= len(piece)
	}
	return err
}

// BenchmarkSendToAll sends an event to a thousand watches of a stream.
func BenchmarkSendToAll(b *testing.B) {
	ids := make([]watch.ID, 1000)
	for i := range ids {
		ids[i] = watch.ID(i)
	}
	head, event := etcdwire.WatchResponse{Header: etcdwire.Header{ClusterID: 1 << 60, MemberID: 1 << 61, RaftTerm: 3, Revision: 1 << 20}}, make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if err := sendToAll(discard{}, &head, ids, event); err != nil {
			b.Fatal(err)
		}
	}
}
