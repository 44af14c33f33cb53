package kv

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the number of an Error on the wire between nodes. Add at the end,
// never renumber.
type Code uint8

// Error is an answer that a client can act on. Sentinels below are compared with
// errors.Is; package api/etcd maps each to etcd's gRPC code and message.
type Error struct {
	Code    Code
	message string
}

func (e *Error) Error() string { return e.message }

var table []*Error

func sentinel(code Code, message string) *Error {
	e := &Error{Code: code, message: message}
	if int(code) != len(table)+1 {
		panic(fmt.Sprintf("kv: error code %d out of order", code))
	}
	table = append(table, e)
	return e
}

// The errors of the store.
var (
	ErrEmptyKey           = sentinel(1, "key is not provided")
	ErrKeyNotFound        = sentinel(2, "key not found")
	ErrValueProvided      = sentinel(3, "value is provided although ignore_value is set")
	ErrLeaseProvided      = sentinel(4, "lease is provided although ignore_lease is set")
	ErrTooManyOps         = sentinel(5, "too many operations in transaction request")
	ErrDuplicateKey       = sentinel(6, "duplicate key given in transaction request")
	ErrInvalidSortOption  = sentinel(7, "invalid sort option")
	ErrCompacted          = sentinel(8, "required revision has been compacted")
	ErrFutureRevision     = sentinel(9, "required revision is a future revision")
	ErrNoSpace            = sentinel(10, "database space exceeded")
	ErrLeaseNotFound      = sentinel(11, "requested lease not found")
	ErrLeaseExists        = sentinel(12, "lease already exists")
	ErrLeaseTTLTooLarge   = sentinel(13, "too large lease TTL")
	ErrRequestTooLarge    = sentinel(14, "request is too large")
	ErrTooManyRequests    = sentinel(15, "too many requests")
	ErrNoLeader           = sentinel(16, "no leader")
	ErrNotLeader          = sentinel(17, "not the leader")
	ErrLeaderChanged      = sentinel(18, "leader changed")
	ErrTimeout            = sentinel(19, "request timed out")
	ErrOutcomeUnknown     = sentinel(20, "the leader was lost before the outcome was known; the request may or may not have taken effect")
	ErrStopped            = sentinel(21, "server stopped")
	ErrUnhealthy          = sentinel(22, "the node is unhealthy")
	ErrCorrupt            = sentinel(23, "corrupt data")
	ErrPermissionDenied   = sentinel(24, "permission denied")
	ErrInvalidRequest     = sentinel(25, "invalid request")
	ErrUnknownCompareType = sentinel(26, "unknown compare target or result")
	ErrMemberNotFound     = sentinel(27, "member not found")
	ErrCanceled           = sentinel(28, "request canceled")
	ErrBadTransferee      = sentinel(29, "leadership cannot be moved there")
	ErrTransferTimeout    = sentinel(30, "leadership was not moved in time")
	ErrShardNotHere       = sentinel(31, "the node has no replica of the shard")
	ErrManyShards         = sentinel(32, "requests that touch several shards are not served yet: send one for each key, or keep such keys in one shard by --hash-prefix or split keys")
	// ErrLeaseShards is what nodes of earlier versions answer.
	ErrLeaseShards = sentinel(33, "a lease holds keys of one shard only in this version; use one lease for the keys of each shard")
	// ErrLeaseWaits: the request may yet have an effect, if it ends the lease.
	ErrLeaseWaits = sentinel(34, "another shard that has a part in the lease has not answered in time; is it without a leader?")
	// The rest is about users and roles, as etcd says it.
	ErrRootUserNotExist     = sentinel(35, "root user does not exist")
	ErrRootRoleNotExist     = sentinel(36, "root user does not have root role")
	ErrUserAlreadyExist     = sentinel(37, "user name already exists")
	ErrUserEmpty            = sentinel(38, "user name is empty")
	ErrUserNotFound         = sentinel(39, "user name not found")
	ErrRoleAlreadyExist     = sentinel(40, "role name already exists")
	ErrRoleNotFound         = sentinel(41, "role name not found")
	ErrRoleEmpty            = sentinel(42, "role name is empty")
	ErrAuthFailed           = sentinel(43, "authentication failed, invalid user ID or password")
	ErrPermissionNotGiven   = sentinel(44, "permission not given")
	ErrRoleNotGranted       = sentinel(45, "role is not granted to the user")
	ErrPermissionNotGranted = sentinel(46, "permission is not granted to the role")
	ErrAuthNotEnabled       = sentinel(47, "authentication is not enabled")
	ErrInvalidAuthToken     = sentinel(48, "invalid auth token")
	ErrInvalidAuthMgmt      = sentinel(49, "invalid auth management")
	// ErrAuthOldRevision: users or roles have changed since the request was allowed, or since its token was given.
	ErrAuthOldRevision = sentinel(50, "revision of auth store is old")
	// The rest is about members, as etcd says it.
	ErrMemberExists     = sentinel(51, "member ID already exist")
	ErrPeerURLExists    = sentinel(52, "Peer URLs already exists")
	ErrNotEnoughStarted = sentinel(53, "re-configuration failed due to not enough started members")
	ErrMemberNotLearner = sentinel(54, "can only promote a learner member")
	ErrLearnerNotReady  = sentinel(55, "can only promote a learner member which is in sync with leader")
	ErrTooManyLearners  = sentinel(56, "too many learner members in cluster")
	// ErrMembersChanged: the list of members has changed since the cluster was found fit for the change. For clients it is an unhealthy cluster.
	ErrMembersChanged = sentinel(57, "the list of members has changed meanwhile")
	// ErrFenced: AlarmFence is raised.
	ErrFenced = sentinel(58, "the cluster is fenced: it refuses writes until somebody runs quorate fence release")
)

// ErrorOf returns the sentinel with the code, or nil when this version knows none.
func ErrorOf(code Code) *Error {
	if code == 0 || int(code) > len(table) {
		return nil
	}
	return table[code-1]
}

// CodeOf returns the code of the sentinel that err wraps; 0 when it wraps none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// beyondLimit is how errors of BeyondLimit begin, on every node.
const beyondLimit = "beyond the limit of "

// BeyondLimit refuses a request that can never be done within a limit, which it names as the guide's list of limits does.
func BeyondLimit(limit string, refusal *Error) error {
	return fmt.Errorf("%s%s: %w", beyondLimit, limit, refusal)
}

// LimitOf tells which limit a request is beyond, as a part of a sentence; "": the error does not say. It may come from another node, so that only its text
// is looked at.
func LimitOf(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	said, _ := strings.CutSuffix(err.Error(), ": "+e.message)
	if begin := strings.LastIndex(said, beyondLimit); begin >= 0 {
		return said[begin:]
	}
	return ""
}

// leaderless is how the end of errors of Leaderless begins.
const leaderless = "without a leader: "

// Leaderless says of which shards of a store no leader is known, so that a request could not be done.
func Leaderless(refusal *Error, shards []ShardID) error {
	var names strings.Builder
	for i, id := range shards {
		if i > 0 {
			names.WriteString(", ")
		}
		if id == SystemShard {
			names.WriteString("shard 1, which numbers revisions")
		} else {
			fmt.Fprintf(&names, "shard %d", id)
		}
	}
	return fmt.Errorf("%w, %s%s", refusal, leaderless, names.String())
}

// LeaderlessOf tells which shards have no leader, as a part of a sentence; "": the error does not say.
func LeaderlessOf(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	if _, said, found := strings.Cut(err.Error(), e.message+", "+leaderless); found {
		return leaderless + said
	}
	return ""
}
