package etcd

import (
	"context"

	"google.golang.org/grpc"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/proto/native"
)

// backups are the calls that a backup is made by, and that of the times of revisions.
func (s *Service) backups() map[string]rpc.Method {
	return map[string]rpc.Method{
		native.ListTimes: s.times(),
		native.BeginBackup: s.nativeStream(native.BeginBackup, func(ctx context.Context, principal string, _ []byte, send func([]byte) error) error {
			return s.options.Node.BeginBackup(ctx, principal, func(b *native.BackupBegin) error { return send(b.Append(nil)) })
		}),
		native.ExportShard: s.nativeStream(native.ExportShard, func(ctx context.Context, principal string, in []byte, send func([]byte) error) error {
			request, err := native.DecodeExportRequest(in)
			if err != nil {
				return err
			}
			return s.options.Node.ExportShard(ctx, principal, request, func(p *native.ExportPart) error { return send(p.Append(nil)) })
		}),
		native.HoldHistory: s.nativeStream(native.HoldHistory, func(ctx context.Context, _ string, _ []byte, send func([]byte) error) error {
			return s.options.Node.HoldHistory(ctx, func(p *native.HoldPart) error { return send(p.Append(nil)) })
		}),
	}
}

// nativeStream serves a call of Quorate's own that has one request and is answered with a stream. What it reads is kept for the client, which therefore
// must not stall.
func (s *Service) nativeStream(method string, serve func(ctx context.Context, principal string, in []byte, send func([]byte) error) error) rpc.Method {
	handler := func(_ any, transport grpc.ServerStream) error {
		return s.withStream(method, transport, func(one *stream) error {
			var in inbound
			if err := transport.RecvMsg(&in); err != nil {
				return err
			}
			callOf(transport).LimitStalls = true
			return serve(one.ctx, s.nameOf(callOf(transport)), in.bytes, func(message []byte) error {
				if err := one.ctx.Err(); err != nil {
					return err
				}
				return transport.SendMsg(&outbound{pieces: [][]byte{message}})
			})
		})
	}
	return rpc.Method{Stream: func(c *rpc.Call) error { return handler(s, &serverStream{call: c, ctx: incoming(c.Context(), c)}) }}
}
