package etcd

import (
	"context"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/proto/native"
)

// times is the call that tells which revision the store had at which time.
func (s *Service) times() rpc.Method {
	return s.nativeStream(native.ListTimes, func(ctx context.Context, _ string, in []byte, send func([]byte) error) error {
		request, err := native.DecodeTimesRequest(in)
		if err != nil {
			return err
		}
		return s.options.Node.Times(ctx, request, func(p *native.TimesPart) error { return send(p.Append(nil)) })
	})
}
