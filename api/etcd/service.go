package etcd

import (
	"sync"

	"github.com/quoratedb/quorate/proto/etcdwire"
)

// Service is the etcd API without a transport: what each method does. Safe for concurrent use.
type Service struct {
	options Options
	limits  etcdwire.Limits
	streams streams
	// channels (chan struct{}, capacity 1) on which calls are waited for. Those of calls that
	// nobody waited for to the end are not reused.
	channels sync.Pool
}

func newService(options Options) *Service {
	s := &Service{options: options, limits: etcdwire.Limits{TxnOps: options.MaxTxnOps}}
	s.streams.init()
	s.channels.New = func() any { return make(chan struct{}, 1) }
	return s
}
