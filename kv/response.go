package kv

// Response answers a Request of the same kind. Revision is what goes into the
// header: for a write the revision it wrote at, otherwise the store's revision
// when it was served.
type Response struct {
	Kind     Kind
	Revision Revision

	Range           *RangeResponse
	Put             *PutResponse
	DeleteRange     *DeleteRangeResponse
	Txn             *TxnResponse
	LeaseGrant      *LeaseGrantResponse
	LeaseKeepAlive  *LeaseKeepAliveResponse
	LeaseTimeToLive *LeaseTimeToLiveResponse // of KindLeaseAttach and KindLeaseKeys, too
	LeaseLeases     *LeaseLeasesResponse
	Alarm           *AlarmResponse
	MemberList      *MemberListResponse // of KindMember, too
	Commit          *CommitResponse
	Auth            *AuthResponse
	// Compact, LeaseRevoke, LeaseRelease, PublishNode, AssignReplica and SetRoster have no fields of their own.
}

// RangeResponse is the answer to a RangeRequest. Count is the number of keys in
// the span at the revision, in spite of the limit, before min/max filters (as etcd counts).
type RangeResponse struct {
	KVs   []KeyValue
	More  bool
	Count int64
}

// PutResponse is the answer to a PutRequest.
type PutResponse struct{ Prev *KeyValue }

// DeleteRangeResponse is the answer to a DeleteRangeRequest.
type DeleteRangeResponse struct {
	Deleted int64
	Prev    []KeyValue
}

// OpResponse answers one Op; exactly one field is set. Revision is the header
// revision of the nested response.
type OpResponse struct {
	Revision    Revision
	Range       *RangeResponse
	Put         *PutResponse
	DeleteRange *DeleteRangeResponse
	Txn         *TxnResponse
}

// TxnResponse is the answer to a TxnRequest.
type TxnResponse struct {
	Succeeded bool
	Responses []OpResponse
}

// LeaseGrantResponse is the answer to a LeaseGrantRequest.
type LeaseGrantResponse struct {
	ID         LeaseID
	TTLSeconds int64
}

// LeaseKeepAliveResponse is the answer to a LeaseKeepAliveRequest. TTLSeconds is
// 0 if the lease does not exist.
type LeaseKeepAliveResponse struct {
	ID         LeaseID
	TTLSeconds int64
}

// LeaseTimeToLiveResponse is the answer to a LeaseTimeToLiveRequest. TTLSeconds
// is -1 if the lease does not exist.
type LeaseTimeToLiveResponse struct {
	ID                LeaseID
	TTLSeconds        int64
	GrantedTTLSeconds int64
	Keys              [][]byte
	// Binding is for nodes, and only in a store of several shards: where the keys of the lease are.
	Binding *LeaseBinding
}

// LeaseLeasesResponse lists every lease, by ID.
type LeaseLeasesResponse struct{ IDs []LeaseID }

// AlarmResponse lists alarms.
type AlarmResponse struct{ Alarms []Alarm }

// MemberListResponse lists the nodes of the cluster, by ID.
type MemberListResponse struct {
	Nodes []NodeRecord
	// Version is that of the list, in the answer to a change of it.
	Version uint64
}
