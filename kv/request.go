package kv

// Kind names what a Request asks for.
type Kind uint8

// The kinds of requests. The numbers are part of the protocol between nodes:
// add at the end, never renumber.
const (
	_ Kind = iota // no request is of the zero kind
	KindRange
	KindPut
	KindDeleteRange
	KindTxn
	KindCompact
	KindLeaseGrant
	KindLeaseRevoke
	KindLeaseKeepAlive
	KindLeaseTimeToLive
	KindLeaseLeases
	KindAlarm
	KindMemberList
	KindPublishNode // a node makes its name and addresses known; internal
	// KindAssignReplica says which replica of the shard lives on a node's disk. It never travels between nodes: a
	// leader's driver makes it.
	KindAssignReplica
	// The next three are about a lease whose keys are not in the system shard; leaders of shards ask them of each other. KindLeaseAttach registers a shard
	// with the lease, in the system shard. KindLeaseRelease deletes the lease's keys, and KindLeaseKeys lists them, in the shard that has them.
	KindLeaseAttach
	KindLeaseRelease
	KindLeaseKeys
	// The rest is about transactions over several shards; their bodies are CommitRequests, for the leader of one participant. KindTxnPrepare has its share
	// evaluated, its locks taken, and both logged.
	KindTxnPrepare
	// KindTxnDecide has the anchor decide (two-phase commit only): Decision. A commit must come from the leadership that the transaction began in.
	KindTxnDecide
	// KindTxnAccept has a decision accepted under a ballot, KindTxnPromise no lower ballot accepted any more (three-phase commit only).
	KindTxnAccept
	KindTxnPromise
	// KindTxnResolve says what was decided.
	KindTxnResolve
	// KindTxnState asks the anchor what became of the transaction.
	KindTxnState
	// KindLeaseEnd has the keys of a lease deleted in all shards of LeaseBinding.Shards, at one revision. It never travels between nodes: the leader of the
	// system shard asks the coordinator beside it.
	KindLeaseEnd
	// KindSetRoster says on which nodes the shard is to have replicas. It never travels between nodes: a leader's driver makes it.
	KindSetRoster
	// KindAuth is about users, roles, and authentication itself; whether it only reads, its action says.
	KindAuth
	// KindMember changes who the members are. Its answer is the list after the change.
	KindMember
	// KindRecordTime has the system shard keep which revision the store had at a time. It never travels between nodes: a leader's driver makes it.
	KindRecordTime
)

// Request is a tagged union: exactly the field that Kind names is set.
//
// Principal is who asks. Every operation carries it to the one place where it is
// checked (gateway.Gateway); empty means "anonymous".
type Request struct {
	Kind      Kind
	Principal string
	// Credential is what Principal is proved by. It does not travel.
	Credential Credential
	// AuthVersion is that of the auth state (package auth) by which the request was allowed; 0: that of a cluster that never had users. Whoever knows of a later
	// one answers kv.ErrAuthOldRevision, and nothing has happened.
	AuthVersion uint64

	Range           *RangeRequest
	Put             *PutRequest
	DeleteRange     *DeleteRangeRequest
	Txn             *TxnRequest
	Compact         *CompactRequest
	LeaseGrant      *LeaseGrantRequest
	LeaseRevoke     *LeaseRevokeRequest
	LeaseKeepAlive  *LeaseKeepAliveRequest
	LeaseTimeToLive *LeaseTimeToLiveRequest
	Alarm           *AlarmRequest
	MemberList      *MemberListRequest
	PublishNode     *NodeRecord
	AssignReplica   *AssignReplicaRequest
	LeaseBinding    *LeaseBinding // of KindLeaseAttach, KindLeaseRelease, KindLeaseKeys and KindLeaseEnd
	SetRoster       *Roster
	Commit          *CommitRequest // of the kinds about transactions over several shards
	Auth            *AuthRequest
	Member          *MemberRequest
	RecordTime      *RecordTimeRequest
	// LeaseLeases has no fields.

	// Memory pays for what evaluating the request and its answer take; nil: nobody counts. Whoever gave it gives back what was
	// reserved, when the answer is gone. It never travels.
	Memory Memory
}

// RecordTimeRequest says that the store had the revision at a time, in milliseconds since 1970, by the clock of the node that leads the system shard.
type RecordTimeRequest struct {
	Revision Revision
	Millis   int64
}

// SortOrder is the order of a range's results.
type SortOrder uint8

// Orders; SortNone means by key, ascending, unless a target other than the key
// is asked for, which then also sorts ascending (etcd does the same).
const (
	SortNone SortOrder = iota
	SortAscend
	SortDescend
)

// SortTarget is what a range's results are sorted by.
type SortTarget uint8

// Targets.
const (
	SortByKey SortTarget = iota
	SortByVersion
	SortByCreate
	SortByMod
	SortByValue
)

// RangeRequest reads a span at a revision.
type RangeRequest struct {
	Span         Span
	Limit        int64    // 0: no limit
	Revision     Revision // 0: latest
	SortOrder    SortOrder
	SortTarget   SortTarget
	Serializable bool
	KeysOnly     bool
	CountOnly    bool
	// Inclusive bounds on revisions of the returned keys; 0: none.
	MinMod, MaxMod, MinCreate, MaxCreate Revision
}

// PutRequest writes one key.
type PutRequest struct {
	Key, Value  []byte
	Lease       LeaseID
	PrevKV      bool
	IgnoreValue bool // keep the current value; the key must exist
	IgnoreLease bool // keep the current lease; the key must exist
}

// DeleteRangeRequest deletes a span.
type DeleteRangeRequest struct {
	Span   Span
	PrevKV bool
}

// CompareTarget is what a compare looks at.
type CompareTarget uint8

// Targets, numbered as in etcd's protocol.
const (
	CompareVersion CompareTarget = iota
	CompareCreate
	CompareMod
	CompareValue
	CompareLease
)

// CompareResult is the relation that must hold.
type CompareResult uint8

// Relations, numbered as in etcd's protocol.
const (
	CompareEqual CompareResult = iota
	CompareGreater
	CompareLess
	CompareNotEqual
)

// Compare is one condition of a transaction. Over a span it must hold for every
// existing key in it. A single key that does not exist compares as version,
// create and mod revision and lease 0; its value compares as never equal,
// as in etcd (Holds, HoldsOfNone).
type Compare struct {
	Span    Span
	Target  CompareTarget
	Result  CompareResult
	Integer int64  // the right-hand side, unless Target is CompareValue
	Value   []byte // the right-hand side if Target is CompareValue
}

// Op is one operation of a transaction: exactly one field is set.
type Op struct {
	Range       *RangeRequest
	Put         *PutRequest
	DeleteRange *DeleteRangeRequest
	Txn         *TxnRequest
}

// TxnRequest is a one-shot transaction.
type TxnRequest struct {
	Compare []Compare
	Success []Op
	Failure []Op
}

// CompactRequest forgets history below Revision.
type CompactRequest struct {
	Revision Revision
	Physical bool // answer only when the space is reclaimable on the node that answers
}

// LeaseGrantRequest creates a lease. ID 0 lets the store choose one.
type LeaseGrantRequest struct {
	ID         LeaseID
	TTLSeconds int64
}

// LeaseRevokeRequest ends a lease and deletes its keys at one revision.
type LeaseRevokeRequest struct{ ID LeaseID }

// LeaseKeepAliveRequest renews a lease to its full time to live.
type LeaseKeepAliveRequest struct{ ID LeaseID }

// LeaseTimeToLiveRequest asks what is left of a lease.
type LeaseTimeToLiveRequest struct {
	ID   LeaseID
	Keys bool
}

// LeaseBinding says that a lease has keys in a shard.
type LeaseBinding struct {
	Lease LeaseID
	// Incarnation tells the lease apart from those before and after it with the same ID: a later one has a higher number.
	Incarnation uint64
	Shard       ShardID
	// Shards are, instead of Shard, all that may have keys of the lease, ascending: of KindLeaseEnd, and of the answer to a question about a lease whose keys may
	// be in several.
	Shards []ShardID
}

// AlarmType names an alarm. Numbers as in etcd's protocol.
type AlarmType uint8

// Alarms.
const (
	AlarmNone    AlarmType = 0
	AlarmNoSpace AlarmType = 1
	AlarmCorrupt AlarmType = 2
	// AlarmFence is Quorate's own, and of the whole store: writes are refused, whoever they are of, until it is cleared. Whoever lists all alarms, as those do
	// who clear them, is not told of it.
	AlarmFence AlarmType = 3
)

// AlarmAction is what to do about an alarm.
type AlarmAction uint8

// Actions, numbered as in etcd's protocol.
const (
	AlarmGet AlarmAction = iota
	AlarmActivate
	AlarmDeactivate
)

// Alarm is an active alarm of a node.
type Alarm struct {
	Node NodeID
	Type AlarmType
}

// OfAll tells whether the alarm is of no certain node: that nodes have different data and nobody knows which of them is wrong, which is CORRUPT without a node, as in
// etcd; or the fence.
func (a Alarm) OfAll() bool { return a.Node == 0 && (a.Type == AlarmCorrupt || a.Type == AlarmFence) }

// AlarmRequest lists, raises or clears alarms.
type AlarmRequest struct {
	Action AlarmAction
	Alarm  Alarm
}

// MemberListRequest lists the nodes. Without Linearizable any node answers from what it has applied,
// even without a quorum.
type MemberListRequest struct{ Linearizable bool }

// AssignReplicaRequest has the disk of a node hold a replica of the shard. Nothing changes if it already does. Otherwise
// the disk gets the node's first replica, if no disk has had that. With Replaces, the newest replica of the node is
// lost: if it still is that one, the disk gets a new replica, under an ID that was never used.
type AssignReplicaRequest struct {
	Node     NodeID
	Disk     uint64 // random ID of a data directory; not 0
	Life     uint64 // how many replicas of the shard were on the disk before, and were removed
	First    uint64 // the replica ID that the node started the cluster with; 0: it was added later, and gets one that was never used
	Replaces uint64 // 0: nothing is lost
}

// NodeRecord is what the cluster knows about a node.
type NodeRecord struct {
	ID         NodeID
	Name       string
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}
