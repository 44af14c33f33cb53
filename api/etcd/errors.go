package etcd

import (
	"context"
	"errors"

	"github.com/quoratedb/quorate/api/rpc"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// mapping says how an error of the store is put to an etcd client.
type mapping struct {
	sentinel *kv.Error
	// grpc is exactly what etcd answers, for clients match on code and text. Nil where etcd
	// has no such error: then code is used with our own text.
	grpc error
	code codes.Code
}

// mappings has a line for every error of package kv, in order of their codes.
var mappings = []mapping{
	{sentinel: kv.ErrEmptyKey, grpc: rpctypes.ErrGRPCEmptyKey},
	{sentinel: kv.ErrKeyNotFound, grpc: rpctypes.ErrGRPCKeyNotFound},
	{sentinel: kv.ErrValueProvided, grpc: rpctypes.ErrGRPCValueProvided},
	{sentinel: kv.ErrLeaseProvided, grpc: rpctypes.ErrGRPCLeaseProvided},
	{sentinel: kv.ErrTooManyOps, grpc: rpctypes.ErrGRPCTooManyOps},
	{sentinel: kv.ErrDuplicateKey, grpc: rpctypes.ErrGRPCDuplicateKey},
	{sentinel: kv.ErrInvalidSortOption, grpc: rpctypes.ErrGRPCInvalidSortOption},
	{sentinel: kv.ErrCompacted, grpc: rpctypes.ErrGRPCCompacted},
	{sentinel: kv.ErrFutureRevision, grpc: rpctypes.ErrGRPCFutureRev},
	{sentinel: kv.ErrNoSpace, grpc: rpctypes.ErrGRPCNoSpace},
	{sentinel: kv.ErrLeaseNotFound, grpc: rpctypes.ErrGRPCLeaseNotFound},
	{sentinel: kv.ErrLeaseExists, grpc: rpctypes.ErrGRPCLeaseExist},
	{sentinel: kv.ErrLeaseTTLTooLarge, grpc: rpctypes.ErrGRPCLeaseTTLTooLarge},
	{sentinel: kv.ErrRequestTooLarge, grpc: rpctypes.ErrGRPCRequestTooLarge},
	{sentinel: kv.ErrTooManyRequests, grpc: rpctypes.ErrGRPCRequestTooManyRequests},
	{sentinel: kv.ErrNoLeader, grpc: rpctypes.ErrGRPCNoLeader},
	{sentinel: kv.ErrNotLeader, grpc: rpctypes.ErrGRPCNotLeader},
	{sentinel: kv.ErrLeaderChanged, grpc: rpctypes.ErrGRPCLeaderChanged},
	{sentinel: kv.ErrTimeout, grpc: rpctypes.ErrGRPCTimeout},
	// The official client never repeats a write on this answer.
	{sentinel: kv.ErrOutcomeUnknown, grpc: rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{sentinel: kv.ErrStopped, grpc: rpctypes.ErrGRPCStopped},
	{sentinel: kv.ErrUnhealthy, grpc: rpctypes.ErrGRPCUnhealthy},
	{sentinel: kv.ErrCorrupt, grpc: rpctypes.ErrGRPCCorrupt},
	{sentinel: kv.ErrPermissionDenied, grpc: rpctypes.ErrGRPCPermissionDenied},
	{sentinel: kv.ErrInvalidRequest, code: codes.InvalidArgument},
	{sentinel: kv.ErrUnknownCompareType, code: codes.InvalidArgument},
	{sentinel: kv.ErrMemberNotFound, grpc: rpctypes.ErrGRPCMemberNotFound},
	{sentinel: kv.ErrCanceled, grpc: rpctypes.ErrGRPCCanceled},
	{sentinel: kv.ErrBadTransferee, grpc: rpctypes.ErrGRPCBadLeaderTransferee},
	// etcd's own error of this text is in no table: its code is that of errors nobody knows.
	{sentinel: kv.ErrTransferTimeout, grpc: status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")},
	{sentinel: kv.ErrShardNotHere, code: codes.Unavailable},
	{sentinel: kv.ErrManyShards, code: codes.Unimplemented},
	{sentinel: kv.ErrLeaseShards, code: codes.Unimplemented},
	{sentinel: kv.ErrLeaseWaits, code: codes.Unavailable},
	{sentinel: kv.ErrRootUserNotExist, grpc: rpctypes.ErrGRPCRootUserNotExist},
	{sentinel: kv.ErrRootRoleNotExist, grpc: rpctypes.ErrGRPCRootRoleNotExist},
	{sentinel: kv.ErrUserAlreadyExist, grpc: rpctypes.ErrGRPCUserAlreadyExist},
	{sentinel: kv.ErrUserEmpty, grpc: rpctypes.ErrGRPCUserEmpty},
	{sentinel: kv.ErrUserNotFound, grpc: rpctypes.ErrGRPCUserNotFound},
	{sentinel: kv.ErrRoleAlreadyExist, grpc: rpctypes.ErrGRPCRoleAlreadyExist},
	{sentinel: kv.ErrRoleNotFound, grpc: rpctypes.ErrGRPCRoleNotFound},
	{sentinel: kv.ErrRoleEmpty, grpc: rpctypes.ErrGRPCRoleEmpty},
	{sentinel: kv.ErrAuthFailed, grpc: rpctypes.ErrGRPCAuthFailed},
	{sentinel: kv.ErrPermissionNotGiven, grpc: rpctypes.ErrGRPCPermissionNotGiven},
	{sentinel: kv.ErrRoleNotGranted, grpc: rpctypes.ErrGRPCRoleNotGranted},
	{sentinel: kv.ErrPermissionNotGranted, grpc: rpctypes.ErrGRPCPermissionNotGranted},
	{sentinel: kv.ErrAuthNotEnabled, grpc: rpctypes.ErrGRPCAuthNotEnabled},
	{sentinel: kv.ErrInvalidAuthToken, grpc: rpctypes.ErrGRPCInvalidAuthToken},
	{sentinel: kv.ErrInvalidAuthMgmt, grpc: rpctypes.ErrGRPCInvalidAuthMgmt},
	{sentinel: kv.ErrAuthOldRevision, grpc: rpctypes.ErrGRPCAuthOldRevision},
	{sentinel: kv.ErrMemberExists, grpc: rpctypes.ErrGRPCMemberExist},
	{sentinel: kv.ErrPeerURLExists, grpc: rpctypes.ErrGRPCPeerURLExist},
	{sentinel: kv.ErrNotEnoughStarted, grpc: rpctypes.ErrGRPCMemberNotEnoughStarted},
	{sentinel: kv.ErrMemberNotLearner, grpc: rpctypes.ErrGRPCMemberNotLearner},
	{sentinel: kv.ErrLearnerNotReady, grpc: rpctypes.ErrGRPCLearnerNotReady},
	{sentinel: kv.ErrTooManyLearners, grpc: rpctypes.ErrGRPCTooManyLearners},
	{sentinel: kv.ErrMembersChanged, grpc: rpctypes.ErrGRPCUnhealthy},
	// Clients do not repeat a request on this answer.
	{sentinel: kv.ErrFenced, code: codes.FailedPrecondition},
}

// toGRPC turns an error of the store into what an etcd client understands. A gRPC status passes.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	if code := int(kv.CodeOf(err)); code > 0 && code <= len(mappings) {
		m := mappings[code-1]
		limit, leaderless := kv.LimitOf(err), kv.LeaderlessOf(err)
		switch {
		case m.grpc != nil && leaderless != "": // etcd has no shards
			return status.Errorf(status.Code(m.grpc), "%s, %s", rpctypes.ErrorDesc(m.grpc), leaderless)
		case m.grpc != nil && limit != "": // one that etcd has not, so that no client waits for its text
			return status.Errorf(status.Code(m.grpc), "%s: %s", rpctypes.ErrorDesc(m.grpc), limit)
		case m.grpc != nil:
			return m.grpc
		}
		return status.Error(m.code, err.Error())
	}
	switch {
	case errors.Is(err, etcdwire.ErrMalformed): // what grpc-go says itself
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	case errors.Is(err, etcdwire.ErrTooDeep):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, rpc.ErrStalled):
		return status.Error(codes.ResourceExhausted, "the client has read nothing of the answer for too long")
	case errors.Is(err, watch.ErrClosed):
		return rpctypes.ErrGRPCStopped
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if _, is := status.FromError(err); is {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}

// ErrorText is what etcd would say to a client in the place of an error of the store.
func ErrorText(err error) string { return status.Convert(toGRPC(err)).Message() }
