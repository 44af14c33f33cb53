package etcd

import "github.com/quoratedb/quorate/proto/etcdwire"

// Service is the etcd API without a transport: what each method does. Safe for concurrent use.
type Service struct {
	options Options
	limits  etcdwire.Limits
	streams streams
}

func newService(options Options) *Service {
	s := &Service{options: options, limits: etcdwire.Limits{TxnOps: options.MaxTxnOps}}
	s.streams.init()
	return s
}
