package shard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// Limits of a request.
type Limits struct {
	MaxTxnOps       int // operations per branch, nested ones counted as etcd does; 0: no limit
	MaxRequestBytes int // of keys and values; 0: no limit
}

// Validate tells whether a request is well formed, without looking at any state. The edge
// calls it before anything travels. The rules, their order and their gaps are those of etcd's
// server/etcdserver/api/v3rpc/key.go.
func Validate(r *kv.Request, limits Limits) error {
	if !complete(r) {
		return fmt.Errorf("the request has no body for its kind %d: %w", r.Kind, kv.ErrInvalidRequest)
	}
	if limits.MaxRequestBytes > 0 && wireBytes(r) > limits.MaxRequestBytes {
		return kv.ErrRequestTooLarge
	}
	switch r.Kind {
	case kv.KindRange:
		return validateRange(r.Range)
	case kv.KindPut:
		return validatePut(r.Put)
	case kv.KindDeleteRange:
		return validateDelete(r.DeleteRange)
	case kv.KindTxn:
		return validateTxn(r.Txn, limits.MaxTxnOps)
	case kv.KindAlarm:
		return validateAlarm(r.Alarm)
	case kv.KindPublishNode:
		if r.PublishNode.ID == 0 {
			return fmt.Errorf("a node record needs an ID: %w", kv.ErrInvalidRequest)
		}
	case kv.KindLeaseAttach, kv.KindLeaseRelease, kv.KindLeaseKeys:
		if b := r.LeaseBinding; b.Lease == 0 || b.Shard == 0 || (b.Incarnation == 0) != (r.Kind == kv.KindLeaseAttach) {
			return fmt.Errorf("a lease has an incarnation, and its keys are in a shard: %w", kv.ErrInvalidRequest)
		}
	case kv.KindAssignReplica:
		if a := r.AssignReplica; a.Node == 0 || a.Disk == 0 || a.First > MaxReplicaID || a.Life > MaxLife {
			return fmt.Errorf("a replica is assigned to a node and a disk: %w", kv.ErrInvalidRequest)
		}
	case kv.KindSetRoster:
		if wrong := checkRoster(r.SetRoster); wrong != "" {
			return fmt.Errorf("the roster of a shard: %s: %w", wrong, kv.ErrInvalidRequest)
		}
	default:
		if aboutTransactions(r.Kind) {
			return validateCommit(r)
		}
	}
	return nil
}

func complete(r *kv.Request) bool {
	switch r.Kind {
	case kv.KindRange:
		return r.Range != nil
	case kv.KindPut:
		return r.Put != nil
	case kv.KindDeleteRange:
		return r.DeleteRange != nil
	case kv.KindTxn:
		return r.Txn != nil
	case kv.KindCompact:
		return r.Compact != nil
	case kv.KindLeaseGrant:
		return r.LeaseGrant != nil
	case kv.KindLeaseRevoke:
		return r.LeaseRevoke != nil
	case kv.KindLeaseKeepAlive:
		return r.LeaseKeepAlive != nil
	case kv.KindLeaseTimeToLive:
		return r.LeaseTimeToLive != nil
	case kv.KindAlarm:
		return r.Alarm != nil
	case kv.KindPublishNode:
		return r.PublishNode != nil
	case kv.KindAssignReplica:
		return r.AssignReplica != nil
	case kv.KindSetRoster:
		return r.SetRoster != nil
	case kv.KindMemberList:
		return r.MemberList != nil
	case kv.KindLeaseAttach, kv.KindLeaseRelease, kv.KindLeaseKeys:
		return r.LeaseBinding != nil
	case kv.KindLeaseLeases:
		return true
	case kv.KindAuth:
		return r.Auth != nil
	case kv.KindMember:
		return r.Member != nil
	case kv.KindRecordTime:
		return r.RecordTime != nil
	case kv.KindTxnPrepare:
		return r.Commit != nil && r.Commit.Share != nil
	case kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		return r.Commit != nil
	}
	return false
}

func validateRange(r *kv.RangeRequest) error {
	if len(r.Span.Start) == 0 {
		return kv.ErrEmptyKey
	}
	if r.SortOrder > kv.SortDescend || r.SortTarget > kv.SortByValue {
		return kv.ErrInvalidSortOption
	}
	return nil
}

func validatePut(r *kv.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return kv.ErrEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return kv.ErrValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return kv.ErrLeaseProvided
	}
	return nil
}

func validateDelete(r *kv.DeleteRangeRequest) error {
	if len(r.Span.Start) == 0 {
		return kv.ErrEmptyKey
	}
	return nil
}

func validateTxn(r *kv.TxnRequest, maxOps int) error {
	if err := validateOps(r, maxOps, maxOps > 0); err != nil {
		return err
	}
	// Only now, so that a request with too many operations cannot make this expensive.
	for _, ops := range [][]kv.Op{r.Success, r.Failure} {
		if len(ops) < 2 && (len(ops) == 0 || ops[0].Txn == nil) {
			continue // a single write conflicts with nothing
		}
		if _, _, err := footprint(ops); err != nil {
			return err
		}
	}
	return nil
}

func validateOps(r *kv.TxnRequest, maxOps int, limited bool) error {
	count := max(len(r.Compare), len(r.Success), len(r.Failure))
	if limited && count > maxOps {
		return kv.ErrTooManyOps
	}
	for i := range r.Compare {
		if len(r.Compare[i].Span.Start) == 0 {
			return kv.ErrEmptyKey
		}
	}
	for _, ops := range [][]kv.Op{r.Success, r.Failure} {
		for i := range ops {
			if err := validateOp(&ops[i], maxOps-count, limited); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateOp(op *kv.Op, maxOps int, limited bool) error {
	switch {
	case op.Range != nil:
		return validateRange(op.Range)
	case op.Put != nil:
		return validatePut(op.Put)
	case op.DeleteRange != nil:
		return validateDelete(op.DeleteRange)
	case op.Txn != nil:
		return validateOps(op.Txn, maxOps, limited)
	}
	return kv.ErrKeyNotFound // etcd's answer to an empty operation
}

// footprint collects what a list of operations may put and delete, or finds that one key would
// be written twice. It is etcd's checkIntervals with its two gaps: a delete without an upper bound
// (end "\x00") conflicts with nothing, and neither does a delete in a nested
// transaction with a put in an earlier sibling.
func footprint(ops []kv.Op) (puts map[string]struct{}, deletes *spanSet, err error) {
	deletes = &spanSet{}
	for i := range ops {
		if d := ops[i].DeleteRange; d != nil {
			deletes.add(d.Span)
		}
	}
	puts = make(map[string]struct{})
	for i := range ops {
		if t := ops[i].Txn; t != nil {
			if err := footprintOfNested(t, puts, deletes); err != nil {
				return nil, nil, err
			}
		}
	}
	for i := range ops {
		p := ops[i].Put
		if p == nil {
			continue
		}
		key := string(p.Key)
		if _, twice := puts[key]; twice || deletes.contains(key) {
			return nil, nil, kv.ErrDuplicateKey
		}
		puts[key] = struct{}{}
	}
	return puts, deletes, nil
}

func footprintOfNested(t *kv.TxnRequest, puts map[string]struct{}, deletes *spanSet) error {
	thenPuts, thenDeletes, err := footprint(t.Success)
	if err != nil {
		return err
	}
	elsePuts, elseDeletes, err := footprint(t.Failure)
	if err != nil {
		return err
	}
	for key := range thenPuts {
		if _, twice := puts[key]; twice || deletes.contains(key) {
			return kv.ErrDuplicateKey
		}
	}
	for key := range elsePuts {
		if _, twice := puts[key]; twice || deletes.contains(key) {
			return kv.ErrDuplicateKey
		}
	}
	// The branches exclude each other, so a key may be put in both.
	for key := range thenPuts {
		puts[key] = struct{}{}
	}
	for key := range elsePuts {
		puts[key] = struct{}{}
	}
	deletes.addAll(thenDeletes)
	deletes.addAll(elseDeletes)
	return nil
}

// spanSet is a set of bounded spans that answers whether one of them contains a key. It sorts itself
// and merges overlapping spans when it is asked after a change.
type spanSet struct {
	spans  []bounds
	merged bool
}

type bounds struct{ lower, upper string }

func (s *spanSet) add(span kv.Span) {
	lower, upper := span.Bounds()
	if upper == nil || string(lower) >= string(upper) {
		return // etcd's interval tree never matches these
	}
	s.spans = append(s.spans, bounds{string(lower), string(upper)})
	s.merged = false
}

func (s *spanSet) addAll(o *spanSet) {
	if len(o.spans) > 0 {
		s.spans = append(s.spans, o.spans...)
		s.merged = false
	}
}

func (s *spanSet) contains(key string) bool {
	if len(s.spans) == 0 {
		return false
	}
	s.merge()
	i, found := slices.BinarySearchFunc(s.spans, key, func(b bounds, key string) int { return strings.Compare(b.lower, key) })
	return found || i > 0 && key < s.spans[i-1].upper
}

func (s *spanSet) merge() {
	if s.merged {
		return
	}
	slices.SortFunc(s.spans, func(a, b bounds) int { return strings.Compare(a.lower, b.lower) })
	kept := s.spans[:1]
	for _, b := range s.spans[1:] {
		last := &kept[len(kept)-1]
		if b.lower <= last.upper {
			last.upper = max(last.upper, b.upper)
		} else {
			kept = append(kept, b)
		}
	}
	s.spans, s.merged = kept, true
}

// IsReadOnly tells whether the request can be served from the applied state, without the log. A
// transaction with a nested transaction counts as a write, as in etcd.
func IsReadOnly(r *kv.Request) bool {
	switch r.Kind {
	case kv.KindRange, kv.KindLeaseTimeToLive, kv.KindLeaseLeases, kv.KindMemberList:
		return true
	case kv.KindTxn:
		return onlyRanges(r.Txn, isRange)
	case kv.KindAlarm:
		return r.Alarm.Action == kv.AlarmGet
	case kv.KindAuth:
		return r.Auth.Action.ReadsOnly()
	}
	return false
}

// IsSerializable tells whether a read-only request asked to be served from any replica's state, however
// old. A transaction without any range is not: etcd would answer it from stale state.
func IsSerializable(r *kv.Request) bool {
	switch r.Kind {
	case kv.KindRange:
		return r.Range.Serializable
	case kv.KindMemberList:
		return !r.MemberList.Linearizable
	case kv.KindTxn:
		return anyRange(r.Txn, isRange) && onlyRanges(r.Txn, isSerializableRange)
	}
	return false
}

// onlyRanges tells whether all operations of the transaction, and of those within it, are ranges that are accepted.
func onlyRanges(t *kv.TxnRequest, accept func(*kv.RangeRequest) bool) bool {
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if nested := ops[i].Txn; nested != nil {
				if !onlyRanges(nested, accept) {
					return false
				}
			} else if !accept(ops[i].Range) {
				return false
			}
		}
	}
	return true
}

// anyRange tells whether a range that is accepted is among the operations, at any depth.
func anyRange(t *kv.TxnRequest, accept func(*kv.RangeRequest) bool) bool {
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if accept(ops[i].Range) || ops[i].Txn != nil && anyRange(ops[i].Txn, accept) {
				return true
			}
		}
	}
	return false
}

// IsNested tells whether the transaction has transactions within it.
func IsNested(t *kv.TxnRequest) bool {
	nested := func(op kv.Op) bool { return op.Txn != nil }
	return slices.ContainsFunc(t.Success, nested) || slices.ContainsFunc(t.Failure, nested)
}

func isRange(r *kv.RangeRequest) bool             { return r != nil }
func isSerializableRange(r *kv.RangeRequest) bool { return r != nil && r.Serializable }

// containsPut tells whether either branch puts anything, at any depth. etcd's check for NOSPACE
// overlooks nested transactions; ours does not.
func containsPut(t *kv.TxnRequest) bool {
	for _, ops := range [][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if ops[i].Put != nil || ops[i].Txn != nil && containsPut(ops[i].Txn) {
				return true
			}
		}
	}
	return false
}
