package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// Methods of the API.
const (
	putMethod         = "/etcdserverpb.KV/Put"
	rangeMethod       = "/etcdserverpb.KV/Range"
	rangeStreamMethod = "/etcdserverpb.KV/RangeStream"
	txnMethod         = "/etcdserverpb.KV/Txn"
	watchMethod       = "/etcdserverpb.Watch/Watch"
)

// siege is one attack while it goes on.
type siege struct {
	t                *testing.T
	leader, follower *cluster.Node
	attackers        []*attacker
}

// on opens connections to a node, and does the same on all of them at once.
func (s *siege) on(n *cluster.Node, connections int, do func(*attacker) error) error {
	begin := len(s.attackers)
	for range connections { // before any of them does something: whether newcomers are served meanwhile is judged elsewhere
		s.attackers = append(s.attackers, dialAttacker(s.t, n.Endpoint))
	}
	failures := make([]error, connections)
	var all sync.WaitGroup
	for i, a := range s.attackers[begin:] {
		all.Go(func() { failures[i] = do(a) })
	}
	all.Wait()
	return errors.Join(failures...)
}

func (s *siege) encode(m proto.Message) []byte { return try(proto.Marshal(m))(s.t) }

// The store of 100 MB: values of 1 MiB, of which the first are there twice, so that history is longer than the state.
const (
	storeKeys, storeTwice = 100, 30
	storeValueBytes       = 1 << 20
)

func storeKey(i int) []byte { return fmt.Appendf(nil, "store/%03d", i) }

// stored asks for keys of the store, from one to another that is not among them.
func stored(from, to int) *pb.RangeRequest {
	return &pb.RangeRequest{Key: storeKey(from), RangeEnd: storeKey(to)}
}

func reads(ranges ...*pb.RangeRequest) (ops []*pb.RequestOp) {
	for _, r := range ranges {
		ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}})
	}
	return ops
}

func nested(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

// rangeStreams are 300 streams over the whole store.
func rangeStreams(s *siege) error {
	request := s.encode(stored(0, storeKeys))
	return s.on(s.leader, 1, func(a *attacker) error { return a.unary(300, rangeStreamMethod, request) })
}

// ranges are 25 reads of the whole store, on so many connections together.
func ranges(connections int) func(*siege) error {
	return func(s *siege) error {
		request := s.encode(stored(0, storeKeys))
		return s.on(s.leader, connections, func(a *attacker) error { return a.unary(25/connections, rangeMethod, request) })
	}
}

func rangesAtAFollower(s *siege) error {
	r := stored(0, storeKeys)
	r.Serializable = true
	request := s.encode(r)
	return s.on(s.follower, 1, func(a *attacker) error { return a.unary(25, rangeMethod, request) })
}

// wideTxn is a small request for 2 GB: 100 times 20 MB.
func wideTxn() *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	for i := range 100 {
		txn.Success = append(txn.Success, reads(stored(i%80, i%80+20))...)
	}
	return txn
}

// deepTxn is one for 3.6 GB: 60 times 60 times 1 MB.
func deepTxn() *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	for range 60 {
		inner := &pb.TxnRequest{}
		for i := range 60 {
			inner.Success = append(inner.Success, reads(stored(i, i+1))...)
		}
		txn.Success = append(txn.Success, nested(inner))
	}
	return txn
}

// writingTxn is a wide one that writes, too, so that the leader evaluates it.
func writingTxn() *pb.TxnRequest {
	txn := wideTxn()
	put := &pb.PutRequest{Key: []byte("written"), Value: []byte("v")}
	txn.Success[0] = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
	return txn
}

// txns sends a transaction so many times at once.
func txns(calls int, txn func() *pb.TxnRequest, at func(*siege) *cluster.Node) func(*siege) error {
	return func(s *siege) error {
		request := s.encode(txn())
		return s.on(at(s), 1, func(a *attacker) error { return a.unary(calls, txnMethod, request) })
	}
}

func toLeader(s *siege) *cluster.Node   { return s.leader }
func toFollower(s *siege) *cluster.Node { return s.follower }

// manyOps is a request of about 1.5 MB with 42 times 42 times 42 operations, which --max-txn-ops=128 allows. They read keys that are not there.
func manyOps() *pb.TxnRequest {
	const width = 42
	key := 0
	leaves := func() *pb.TxnRequest {
		txn := &pb.TxnRequest{}
		for range width {
			key++
			txn.Success = append(txn.Success, reads(&pb.RangeRequest{Key: fmt.Appendf(nil, "absent/%05d", key)})...)
		}
		return txn
	}
	top := &pb.TxnRequest{}
	for range width {
		middle := &pb.TxnRequest{}
		for range width {
			middle.Success = append(middle.Success, nested(leaves()))
		}
		top.Success = append(top.Success, nested(middle))
	}
	return top
}

// halfPuts are 1,200 puts of 1.9 MB of which the last byte is missing, on so many connections together.
func halfPuts(connections int) func(*siege) error {
	return func(s *siege) error {
		request := message(s.encode(&pb.PutRequest{Key: []byte("half"), Value: make([]byte, 1_900_000)}))
		return s.on(s.leader, connections, func(a *attacker) error {
			return a.together(1200/connections, putMethod, func(id uint32) error { return a.send(id, request[:len(request)-1], false) })
		})
	}
}

// smallPutsBesides has half puts hold as much as they may, and then puts go on that are small enough for what is kept back for small ones: the
// garbage of these comes on top of what is held.
func smallPutsBesides(s *siege) error {
	held := halfPuts(4)(s)
	request := s.encode(&pb.PutRequest{Key: []byte("small"), Value: make([]byte, 10_000)})
	return errors.Join(held, s.on(s.leader, 1, func(a *attacker) error { return a.unary(10_000, putMethod, request) }))
}

// largeHeaders are 250 streams whose headers name one header of 4 KB again and again, a byte each on the wire: 12 MB for each stream.
func largeHeaders(s *siege) error {
	large := make([]hpack.HeaderField, 3000)
	for i := range large {
		large[i] = hpack.HeaderField{Name: "large-bin", Value: strings.Repeat("A", 4000)}
	}
	return s.on(s.leader, 1, func(a *attacker) error {
		for range 250 {
			if _, err := a.begin(putMethod, large...); err != nil {
				return err
			}
		}
		return nil
	})
}

// largePuts are 1,500 puts of 1.4 MB at once, on so many connections together.
func largePuts(connections int, at func(*siege) *cluster.Node) func(*siege) error {
	return func(s *siege) error {
		request := s.encode(&pb.PutRequest{Key: []byte("large"), Value: make([]byte, 1_400_000)})
		return s.on(at(s), connections, func(a *attacker) error { return a.unary(1500/connections, putMethod, request) })
	}
}

// largeWatches are 2,000 watches on one stream with keys of 1.9 MB, each another one.
func largeWatches(s *siege) error {
	create := &pb.WatchCreateRequest{Key: make([]byte, 1_900_000)}
	request := message(s.encode(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}))
	return s.on(s.leader, 1, func(a *attacker) error {
		return a.together(1, watchMethod, func(id uint32) error {
			for i := range 2000 {
				copy(request[len(request)-100:], fmt.Sprintf("%08d", i)) // within the key
				if err := a.send(id, request, false); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// catchUps are 1,000 streams with a watch each from the beginning, with the values of before.
func catchUps(s *siege) error {
	create := &pb.WatchCreateRequest{Key: storeKey(0), RangeEnd: storeKey(storeKeys), StartRevision: 2, PrevKv: true}
	request := message(s.encode(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}))
	return s.on(s.leader, 1, func(a *attacker) error {
		return a.together(1000, watchMethod, func(id uint32) error { return a.send(id, request, false) })
	})
}
