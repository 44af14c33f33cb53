package model

import (
	"bytes"
	"fmt"
	"math"
	"sort"

	"github.com/quoratedb/quorate/kv"
)

// transaction is one request while it takes effect: its versions are at the end of the history, at the
// revision after the store's.
type transaction struct {
	store *Store
	from  int // where its versions start
}

func (t *transaction) wrote() bool { return len(t.store.history) > t.from }

// now is the revision of the state including the transaction's own writes.
func (t *transaction) now() kv.Revision {
	if t.wrote() {
		return t.store.revision + 1
	}
	return t.store.revision
}

func (t *transaction) apply(r *kv.Request) (*kv.Response, error) {
	s := t.store
	switch r.Kind {
	case kv.KindRange:
		body, err := t.scan(r.Range)
		return &kv.Response{Range: body}, err
	case kv.KindPut:
		body, err := t.put(r.Put)
		return &kv.Response{Put: body}, err
	case kv.KindDeleteRange:
		return &kv.Response{DeleteRange: t.delete(r.DeleteRange)}, nil
	case kv.KindTxn:
		body, err := t.txn(r.Txn)
		return &kv.Response{Txn: body}, err
	case kv.KindCompact:
		return t.compact(r.Compact.Revision)
	case kv.KindLeaseGrant:
		return t.grant(r.LeaseGrant)
	case kv.KindLeaseRevoke:
		return t.revoke(r.LeaseRevoke.ID)
	case kv.KindLeaseKeepAlive: // the TTL is 0 if there is no such lease
		id := r.LeaseKeepAlive.ID
		return &kv.Response{LeaseKeepAlive: &kv.LeaseKeepAliveResponse{ID: id, TTLSeconds: s.leases[id].TTLSeconds}}, nil
	case kv.KindLeaseTimeToLive: // what is left of it is not modelled: all of it
		return t.timeToLive(r.LeaseTimeToLive), nil
	case kv.KindLeaseLeases:
		body := &kv.LeaseLeasesResponse{IDs: []kv.LeaseID{}}
		for _, l := range s.Leases() {
			body.IDs = append(body.IDs, l.ID)
		}
		return &kv.Response{LeaseLeases: body}, nil
	case kv.KindAlarm:
		return t.alarm(r.Alarm)
	case kv.KindMemberList:
		body := &kv.MemberListResponse{Nodes: []kv.NodeRecord{}}
		for _, n := range s.nodes {
			body.Nodes = append(body.Nodes, n)
		}
		sort.Slice(body.Nodes, func(i, j int) bool { return body.Nodes[i].ID < body.Nodes[j].ID })
		return &kv.Response{MemberList: body}, nil
	case kv.KindPublishNode:
		s.nodes[r.PublishNode.ID] = *r.PublishNode
		return &kv.Response{}, nil
	}
	return nil, fmt.Errorf("model: unknown kind of request %d: %w", r.Kind, kv.ErrInvalidRequest)
}

func (t *transaction) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	at := r.Revision
	if at > t.now() {
		return nil, kv.ErrFutureRevision
	}
	if at <= 0 {
		at = t.now()
	}
	if at < t.store.compacted {
		return nil, kv.ErrCompacted
	}
	all := t.store.live(r.Span, at)
	body := &kv.RangeResponse{Count: int64(len(all))}
	if r.CountOnly {
		return body, nil
	}
	// With an order of "none" etcd limits before it sorts, whatever the target.
	filters := r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0
	keyOrder := r.SortOrder == kv.SortNone || r.SortTarget == kv.SortByKey && r.SortOrder == kv.SortAscend
	if keyOrder && !filters && r.Limit > 0 && r.Limit < math.MaxInt64 && int64(len(all)) > r.Limit+1 {
		all = all[:r.Limit+1]
	}
	var kept []kv.KeyValue
	for _, e := range all {
		if (r.MaxMod == 0 || e.ModRevision <= r.MaxMod) && (r.MinMod == 0 || e.ModRevision >= r.MinMod) &&
			(r.MaxCreate == 0 || e.CreateRevision <= r.MaxCreate) && (r.MinCreate == 0 || e.CreateRevision >= r.MinCreate) {
			kept = append(kept, e)
		}
	}
	sortBy(kept, r.SortTarget, r.SortOrder == kv.SortDescend)
	if r.Limit > 0 && int64(len(kept)) > r.Limit {
		kept, body.More = kept[:r.Limit], true
	}
	if r.KeysOnly { // etcd 3.7.3 forgets the lease too; Quorate keeps it, as older versions of etcd do
		for i := range kept {
			kept[i].Value = nil
		}
	}
	body.KVs = kept
	return body, nil
}

// sortBy sorts what is in key order. etcd leaves the order of equals open; here they stay in key order.
func sortBy(kvs []kv.KeyValue, target kv.SortTarget, descending bool) {
	less := func(a, b *kv.KeyValue) bool {
		switch target {
		case kv.SortByVersion:
			return a.Version < b.Version
		case kv.SortByCreate:
			return a.CreateRevision < b.CreateRevision
		case kv.SortByMod:
			return a.ModRevision < b.ModRevision
		case kv.SortByValue:
			return bytes.Compare(a.Value, b.Value) < 0
		}
		return bytes.Compare(a.Key, b.Key) < 0
	}
	sort.SliceStable(kvs, func(i, j int) bool {
		if descending {
			return less(&kvs[j], &kvs[i])
		}
		return less(&kvs[i], &kvs[j])
	})
}

// checkPut is what etcd checks before a put, on the state before the transaction.
func (t *transaction) checkPut(r *kv.PutRequest) error {
	if _, exists := t.store.leases[r.Lease]; r.Lease != 0 && !exists && !t.store.AnyLease {
		return kv.ErrLeaseNotFound
	}
	if (r.IgnoreValue || r.IgnoreLease) && t.store.find(r.Key, t.now()) == nil {
		return kv.ErrKeyNotFound
	}
	return nil
}

func (t *transaction) put(r *kv.PutRequest) (*kv.PutResponse, error) {
	if err := t.checkPut(r); err != nil {
		return nil, err
	}
	body := &kv.PutResponse{}
	v := Version{Key: r.Key, Value: r.Value, Create: t.store.revision + 1, Number: 1, Lease: r.Lease}
	if old := t.store.find(r.Key, t.now()); old != nil {
		v.Create, v.Number = old.Create, old.Number+1
		if r.IgnoreValue {
			v.Value = old.Value
		}
		if r.IgnoreLease {
			v.Lease = old.Lease
		}
		if r.PrevKV {
			previous := old.keyValue()
			body.Prev = &previous
		}
	}
	t.write(v)
	return body, nil
}

func (t *transaction) delete(r *kv.DeleteRangeRequest) *kv.DeleteRangeResponse {
	doomed := t.store.live(r.Span, t.now())
	for _, e := range doomed {
		t.write(Version{Key: e.Key})
	}
	body := &kv.DeleteRangeResponse{Deleted: int64(len(doomed))}
	if r.PrevKV {
		body.Prev = doomed
	}
	return body
}

func (t *transaction) write(v Version) {
	v.Rev, v.Sub = t.store.revision+1, len(t.store.history)-t.from
	t.store.append(v)
}

// txn decides every branch and checks every operation on the state before the transaction; then the
// operations run and see each other's writes.
func (t *transaction) txn(r *kv.TxnRequest) (*kv.TxnResponse, error) {
	taken := map[*kv.TxnRequest]bool{}
	t.decide(r, taken)
	if err := t.check(r, taken); err != nil {
		return nil, err
	}
	return t.run(r, taken)
}

func branch(r *kv.TxnRequest, taken map[*kv.TxnRequest]bool) []kv.Op {
	if taken[r] {
		return r.Success
	}
	return r.Failure
}

func (t *transaction) decide(r *kv.TxnRequest, taken map[*kv.TxnRequest]bool) {
	taken[r] = true
	for i := range r.Compare {
		taken[r] = taken[r] && t.holds(&r.Compare[i])
	}
	for _, o := range branch(r, taken) {
		if o.Txn != nil {
			t.decide(o.Txn, taken)
		}
	}
}

func (t *transaction) holds(c *kv.Compare) bool {
	found := t.store.live(c.Span, t.now())
	if len(found) == 0 {
		if c.Target == kv.CompareValue {
			return false
		}
		found = []kv.KeyValue{{}}
	}
	for i := range found {
		if !relation(c, &found[i]) {
			return false
		}
	}
	return true
}

func relation(c *kv.Compare, e *kv.KeyValue) bool {
	var left int64
	switch c.Target {
	case kv.CompareVersion:
		left = e.Version
	case kv.CompareCreate:
		left = int64(e.CreateRevision)
	case kv.CompareMod:
		left = int64(e.ModRevision)
	case kv.CompareLease:
		left = int64(e.Lease)
	case kv.CompareValue:
		left = int64(bytes.Compare(e.Value, c.Value))
	}
	right := c.Integer
	if c.Target == kv.CompareValue {
		right = 0
	}
	switch c.Result {
	case kv.CompareEqual:
		return left == right
	case kv.CompareGreater:
		return left > right
	case kv.CompareLess:
		return left < right
	case kv.CompareNotEqual:
		return left != right
	}
	return true
}

func (t *transaction) check(r *kv.TxnRequest, taken map[*kv.TxnRequest]bool) error {
	for _, o := range branch(r, taken) {
		var err error
		switch {
		case o.Range != nil && o.Range.Revision > t.now():
			err = kv.ErrFutureRevision
		case o.Range != nil && o.Range.Revision != 0 && o.Range.Revision < t.store.compacted:
			err = kv.ErrCompacted
		case o.Put != nil:
			err = t.checkPut(o.Put)
		case o.Txn != nil:
			err = t.check(o.Txn, taken)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) run(r *kv.TxnRequest, taken map[*kv.TxnRequest]bool) (*kv.TxnResponse, error) {
	body := &kv.TxnResponse{Succeeded: taken[r], Responses: []kv.OpResponse{}}
	for _, o := range branch(r, taken) {
		var answer kv.OpResponse
		var err error
		switch {
		case o.Range != nil:
			answer.Range, err = t.scan(o.Range)
		case o.Put != nil:
			answer.Put, err = t.put(o.Put)
		case o.DeleteRange != nil:
			answer.DeleteRange = t.delete(o.DeleteRange)
		case o.Txn != nil:
			answer.Txn, err = t.run(o.Txn, taken)
		}
		if err != nil {
			return nil, err
		}
		if o.Txn == nil { // etcd leaves the header of a nested transaction empty
			answer.Revision = t.now()
		}
		body.Responses = append(body.Responses, answer)
	}
	return body, nil
}

func (t *transaction) compact(at kv.Revision) (*kv.Response, error) {
	if at <= t.store.compacted {
		return nil, kv.ErrCompacted
	}
	if at > t.store.revision {
		return nil, kv.ErrFutureRevision
	}
	t.store.compacted = at
	return &kv.Response{}, nil
}

func (t *transaction) grant(r *kv.LeaseGrantRequest) (*kv.Response, error) {
	id := r.ID
	if r.TTLSeconds > 9_000_000_000 {
		return nil, kv.ErrLeaseTTLTooLarge
	}
	if id == 0 {
		id = t.store.ChooseLeaseID()
	}
	if _, exists := t.store.leases[id]; exists {
		return nil, kv.ErrLeaseExists
	}
	l := Lease{ID: id, TTLSeconds: max(r.TTLSeconds, t.store.MinLeaseTTLSeconds)}
	t.store.leases[id] = l
	return &kv.Response{LeaseGrant: &kv.LeaseGrantResponse{ID: id, TTLSeconds: l.TTLSeconds}}, nil
}

func (t *transaction) revoke(id kv.LeaseID) (*kv.Response, error) {
	if _, exists := t.store.leases[id]; !exists {
		return nil, kv.ErrLeaseNotFound
	}
	for _, key := range t.store.attached(id) {
		t.write(Version{Key: key})
	}
	delete(t.store.leases, id)
	return &kv.Response{}, nil
}

func (t *transaction) timeToLive(r *kv.LeaseTimeToLiveRequest) *kv.Response {
	body := &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: -1}
	if l, exists := t.store.leases[r.ID]; exists {
		body.TTLSeconds, body.GrantedTTLSeconds = l.TTLSeconds, l.TTLSeconds
		if r.Keys {
			body.Keys = t.store.attached(r.ID)
		}
	}
	return &kv.Response{LeaseTimeToLive: body}
}

// alarm raises, unlike etcd, only what is known, for nodes that are there.
func (t *transaction) alarm(r *kv.AlarmRequest) (*kv.Response, error) {
	body := &kv.AlarmResponse{}
	s := t.store
	switch {
	case r.Action == kv.AlarmGet:
		body.Alarms = s.activeAlarms(r.Alarm.Type)
	case r.Action == kv.AlarmActivate && (r.Alarm.Type > kv.AlarmFence || r.Alarm.Type == kv.AlarmFence && r.Alarm.Node != 0):
		return nil, kv.ErrInvalidRequest
	case r.Action == kv.AlarmActivate && r.Alarm.Type != kv.AlarmNone:
		if _, known := s.nodes[r.Alarm.Node]; !known && !r.Alarm.OfAll() {
			return nil, kv.ErrMemberNotFound
		}
		s.alarms[r.Alarm] = true
		body.Alarms = []kv.Alarm{r.Alarm}
	case r.Action == kv.AlarmDeactivate && s.alarms[r.Alarm]:
		delete(s.alarms, r.Alarm)
		body.Alarms = []kv.Alarm{r.Alarm}
	}
	return &kv.Response{Alarm: body}, nil
}
