// Package cluster reads a store from its nodes, for a backup.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// Node is one that can be asked.
type Node struct {
	Name string // for people
	Conn grpc.ClientConnInterface
}

// Origin is a cluster. It implements backup.Origin.
type Origin struct {
	nodes []Node
	stall time.Duration
	turn  atomic.Uint32
}

// New reads from nodes, in turn. One that sends nothing for so long is given up.
func New(nodes []Node, stall time.Duration) *Origin { return &Origin{nodes: nodes, stall: stall} }

// ErrUnavailable is wrapped by errors that another node, or a later try, may not have.
var ErrUnavailable = errors.New("unavailable")

// ErrNotQuorate: what was asked does not know these calls.
var ErrNotQuorate = errors.New("it is no node of Quorate, or of a version without backups")

// Present implements backup.Origin. It asks one node after the other.
func (o *Origin) Present(ctx context.Context) (p *backup.Present, err error) {
	for range o.nodes {
		if p, err = o.presentOf(ctx, o.node()); err == nil || ctx.Err() != nil {
			return p, err
		}
	}
	return nil, err
}

// Hash implements backup.Hasher. It asks one node, which reads everything for it, and is given as long as that takes.
func (o *Origin) Hash(ctx context.Context) (*backup.StateHash, error) {
	node := o.node()
	hash, err := pb.NewMaintenanceClient(node.Conn).HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		return nil, failed(ctx, node, err)
	}
	return &backup.StateHash{Revision: kv.Revision(hash.HashRevision), Compacted: max(0, kv.Revision(hash.CompactRevision)), Hash: hash.Hash}, nil
}

// Times asks when the store had which revisions: of one time, and for the whole series if all is set. It asks one node after the other.
func (o *Origin) Times(ctx context.Context, at timeline.Time, all bool) (known timeline.Known, compacted kv.Revision, series timeline.Series, err error) {
	for range o.nodes {
		request := native.TimesRequest{At: at, All: all}
		answered := false
		var points []timeline.Point
		err = o.call(ctx, o.node(), native.ListTimes, request.Append(nil), func(message []byte) error {
			part, err := native.DecodeTimesPart(message)
			if !answered {
				answered, known, compacted = true, part.Known, part.Compacted
			}
			points = append(points, part.Points...)
			return err
		})
		if err == nil && !answered {
			err = fmt.Errorf("the node has answered nothing: %w", ErrUnavailable)
		}
		if err == nil || ctx.Err() != nil {
			return known, compacted, timeline.SeriesOf(points), err
		}
	}
	return known, compacted, series, err
}

// Series implements backup.Timekeeper.
func (o *Origin) Series(ctx context.Context) (timeline.Series, error) {
	_, _, series, err := o.Times(ctx, 0, true)
	return series, err
}

func (o *Origin) node() Node { return o.nodes[int(o.turn.Add(1)-1)%len(o.nodes)] }

func (o *Origin) presentOf(ctx context.Context, node Node) (*backup.Present, error) {
	var p *backup.Present
	err := o.call(ctx, node, native.BeginBackup, nil, func(message []byte) error {
		b, err := native.DecodeBackupBegin(message)
		if err != nil {
			return err
		}
		if p == nil {
			p = &backup.Present{Cluster: b.Cluster, Revision: b.Revision, Compacted: b.Compacted, Time: time.Unix(0, b.Time), Source: b.Partition}
			for _, s := range b.Shards {
				p.Shards = append(p.Shards, backup.PresentShard{Shard: s.ID, Bytes: s.Bytes})
			}
		}
		for _, l := range b.Leases {
			p.Leases = append(p.Leases, kv.Lease{ID: l.ID, TTLSeconds: l.TTLSeconds})
		}
		p.Users = append(p.Users, b.Users...)
		return nil
	})
	if err == nil && p == nil {
		err = fmt.Errorf("%s: it has answered nothing: %w", node.Name, ErrUnavailable)
	}
	return p, err
}

// Export implements backup.Origin. Each call asks another node.
func (o *Origin) Export(ctx context.Context, shard kv.ShardID, from mvcc.Locator, upTo kv.Revision, begun func(kv.Revision) error, fn func(*backup.Version) error) error {
	node := o.node()
	first, done := true, false
	request := native.ExportRequest{Shard: shard, FromRevision: from.Rev, FromSub: from.Sub, Revision: upTo}
	err := o.call(ctx, node, native.ExportShard, request.Append(nil), func(message []byte) error {
		part, err := native.DecodeExportPart(message)
		if err != nil {
			return err
		}
		if first {
			first = false
			if err := begun(part.Compacted); err != nil {
				return err
			}
		}
		done = part.Done
		return backup.EachVersion(part.Versions, fn)
	})
	if err == nil && !done {
		err = fmt.Errorf("%s: it has stopped in the middle: %w", node.Name, ErrUnavailable)
	}
	return err
}

// call makes a call that is answered with a stream, and gives each message to fn, whose error ends it.
func (o *Origin) call(ctx context.Context, node Node, method string, request []byte, fn func(message []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(o.stall, func() { cancel(fmt.Errorf("it has sent nothing for %v: %w", o.stall, ErrUnavailable)) })
	defer stalled.Stop()
	stream, err := node.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return failed(ctx, node, err)
	}
	// An empty message sends, and keeps, the fields that it does not know as they are.
	out := new(emptypb.Empty)
	out.ProtoReflect().SetUnknown(request)
	if err := errors.Join(stream.SendMsg(out), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) { // io.EOF: RecvMsg has the reason
		return failed(ctx, node, err)
	}
	for {
		stalled.Reset(o.stall)
		in := new(emptypb.Empty)
		switch err := stream.RecvMsg(in); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return failed(ctx, node, err)
		}
		stalled.Stop() // what fn waits for is not the node
		if err := fn(in.ProtoReflect().GetUnknown()); err != nil {
			return err
		}
	}
}

// failed says what a node's answer means.
func failed(ctx context.Context, node Node, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", node.Name, cause)
	}
	switch s := status.Convert(err); {
	case s.Code() == codes.Unimplemented:
		return fmt.Errorf("%s: %w", node.Name, ErrNotQuorate)
	case s.Code() == codes.OutOfRange && strings.Contains(s.Message(), kv.ErrCompacted.Error()):
		return fmt.Errorf("%s: %w", node.Name, kv.ErrCompacted)
	case s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded || s.Code() == codes.ResourceExhausted || s.Code() == codes.OutOfRange:
		// Of the revision, too, it may not have heard yet.
		return fmt.Errorf("%s: %s: %w", node.Name, s.Message(), ErrUnavailable)
	default:
		return fmt.Errorf("%s: %s", node.Name, s.Message())
	}
}
