package shard

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Evaluate decides a request on the applied state overlaid with everything in flight. Its
// effects are visible to later evaluations at once, and to everybody else when the proposal that
// TakeProposal makes of them is applied. The request must be valid (Validate); its bytes are
// kept and must not change. What the answer and the effects take is reserved from the request's Memory before it is there; without
// room the answer is kv.ErrTooManyRequests, nothing has happened, and nothing stays reserved. Driver.
func (m *Machine) Evaluate(r *kv.Request) Outcome {
	l := m.lead
	if l == nil {
		return Outcome{Err: kv.ErrNotLeader}
	}
	if !complete(r) {
		return Outcome{Err: fmt.Errorf("the request has no body for its kind %d: %w", r.Kind, kv.ErrInvalidRequest)}
	}
	changes, ops := l.overlay.changes.end(), l.overlay.ops.end()
	l.nextSub = 0
	l.tally = kv.NewTally(r.Memory)
	response, err := m.answer(r)
	if err == nil && l.overlay.bytesSince(changes) > m.options.MaxRequestEffectBytes {
		err = kv.ErrRequestTooLarge
	}
	outcome := Outcome{}
	if err != nil {
		l.overlay.rollback(changes)
		l.nextSub = 0
		l.tally.Release()
		outcome.Err = err
		if kv.CodeOf(err) == 0 {
			outcome = Outcome{Fatal: fmt.Errorf("evaluate: %w", err)}
		}
	} else {
		m.endRevision()
		if response.Revision == 0 {
			response.Revision = l.revision
		}
		outcome.Response = response
		outcome.Effects = l.overlay.changes.end() > changes || l.overlay.ops.end() > ops
	}
	l.tally = kv.Tally{}
	outcome.WaitFor = l.waitFor()
	return outcome
}

// endRevision closes the revision under evaluation, if it wrote anything.
func (m *Machine) endRevision() {
	if m.lead.nextSub > 0 {
		m.lead.revision++
		m.lead.nextSub = 0
	}
}

// waitFor is the sequence number of the last proposal that has to be applied before something may be
// said about the overlaid state.
func (l *leadership) waitFor() uint64 {
	switch {
	case l.overlay.untaken():
		return l.seq + 1
	case l.overlay.proposals.size() > 0:
		return l.seq
	}
	return 0
}

func (o *overlay) bytesSince(position int64) int {
	n := 0
	for ; position < o.changes.end(); position++ {
		c := o.changes.at(position)
		n += len(c.Key) + len(c.Value) + effectOverheadBytes
	}
	return n
}

func (m *Machine) answer(r *kv.Request) (*kv.Response, error) {
	if err := m.checkAlarms(r); err != nil {
		return nil, err
	}
	switch r.Kind {
	case kv.KindPut:
		return m.putRequest(r.Put)
	case kv.KindTxn:
		return m.txnRequest(r.Txn)
	case kv.KindDeleteRange:
		return m.deleteRequest(r.DeleteRange)
	case kv.KindRange:
		answer, err := overlaidReading{m}.scan(r.Range)
		return &kv.Response{Kind: kv.KindRange, Range: answer}, err
	case kv.KindCompact:
		return m.compactRequest(r.Compact)
	case kv.KindLeaseGrant:
		return m.grantRequest(r.LeaseGrant)
	case kv.KindLeaseRevoke:
		return m.revokeRequest(r.LeaseRevoke)
	case kv.KindLeaseKeepAlive:
		return m.keepAliveRequest(r.LeaseKeepAlive)
	case kv.KindLeaseTimeToLive:
		return m.timeToLiveEvaluated(r.LeaseTimeToLive)
	case kv.KindLeaseLeases:
		ids, err := m.leaseIDsEvaluated()
		return &kv.Response{Kind: kv.KindLeaseLeases, LeaseLeases: &kv.LeaseLeasesResponse{IDs: ids}}, err
	case kv.KindAlarm:
		return m.alarmRequest(r.Alarm)
	case kv.KindMemberList:
		return &kv.Response{Kind: kv.KindMemberList, MemberList: &kv.MemberListResponse{Nodes: m.nodesEvaluated()}}, nil
	case kv.KindPublishNode:
		record := *r.PublishNode
		m.lead.overlay.addOp(op{kind: opNode, node: &record})
		return &kv.Response{Kind: kv.KindPublishNode}, nil
	case kv.KindAssignReplica:
		return m.assignRequest(r.AssignReplica)
	}
	return nil, fmt.Errorf("unknown kind of request %d: %w", r.Kind, kv.ErrInvalidRequest)
}

// checkAlarms refuses what etcd's appliers refuse under an alarm.
func (m *Machine) checkAlarms(r *kv.Request) error {
	corrupt, noSpace := m.alarmed(kv.AlarmCorrupt), m.alarmed(kv.AlarmNoSpace)
	if !corrupt && !noSpace {
		return nil
	}
	switch r.Kind {
	case kv.KindPut, kv.KindLeaseGrant:
		if corrupt {
			return kv.ErrCorrupt
		}
		if noSpace {
			return kv.ErrNoSpace
		}
	case kv.KindTxn:
		if IsReadOnly(r) {
			return nil
		}
		if corrupt {
			return kv.ErrCorrupt
		}
		if noSpace && containsPut(r.Txn) {
			return kv.ErrNoSpace
		}
	case kv.KindDeleteRange, kv.KindCompact, kv.KindLeaseRevoke:
		if corrupt {
			return kv.ErrCorrupt
		}
	}
	return nil
}

// putAnswer keeps a response and its body in one allocation.
type putAnswer struct {
	response kv.Response
	body     kv.PutResponse
}

func (m *Machine) putRequest(r *kv.PutRequest) (*kv.Response, error) {
	if err := m.checkPutLease(r); err != nil {
		return nil, err
	}
	answer := &putAnswer{}
	if err := m.put(r, &answer.body); err != nil {
		return nil, err
	}
	answer.response = kv.Response{Kind: kv.KindPut, Put: &answer.body}
	return &answer.response, nil
}

func (m *Machine) checkPutLease(r *kv.PutRequest) error {
	if len(r.Key) == 0 {
		return kv.ErrEmptyKey
	}
	if r.Lease != 0 {
		if _, exists := m.leaseEvaluated(r.Lease); !exists {
			return kv.ErrLeaseNotFound
		}
	}
	return nil
}

// newest returns the newest version of a key in the overlaid state, tombstones included.
func (m *Machine) newest(key []byte) (meta mvcc.Meta, found bool, err error) {
	if c := m.lead.overlay.find(key); c != nil {
		return c.Meta(), true, nil
	}
	return m.store.Meta(key)
}

// put adds the effect of a put at the revision under evaluation.
func (m *Machine) put(r *kv.PutRequest, body *kv.PutResponse) error {
	meta, found, err := m.newest(r.Key)
	if err != nil {
		return err
	}
	live := found && !meta.Deleted()
	value, lease := r.Value, r.Lease
	if r.IgnoreValue || r.IgnoreLease {
		if !live {
			return kv.ErrKeyNotFound
		}
	}
	if live && (r.IgnoreValue || r.PrevKV) {
		previous, _, err := overlaidReading{m}.get(r.Key, true)
		if err != nil {
			return err
		}
		if r.IgnoreValue {
			value = previous.Value
		}
		if r.PrevKV {
			body.Prev = &previous
		}
	}
	if r.IgnoreLease {
		lease = meta.Lease
	}
	if err := m.payForChange(len(r.Key) + len(value)); err != nil {
		return err
	}
	at := m.nextLocator()
	e := mvcc.Effect{Key: r.Key, Value: value, At: at, Create: at.Rev, Version: 1, Lease: lease}
	if found {
		e.Prev = meta.At
	}
	if live {
		e.Create, e.Version, e.PrevLive, e.PrevLease = meta.Create, meta.Version+1, true, meta.Lease
	}
	m.lead.overlay.add(&e)
	return nil
}

// remove adds the effect of deleting a live key.
func (m *Machine) remove(key []byte, meta mvcc.Meta) error {
	if err := m.payForChange(len(key)); err != nil {
		return err
	}
	m.lead.overlay.add(&mvcc.Effect{Key: key, At: m.nextLocator(), Prev: meta.At, PrevLive: true, PrevLease: meta.Lease})
	return nil
}

func (m *Machine) nextLocator() mvcc.Locator {
	at := mvcc.Locator{Rev: m.lead.revision + 1, Sub: m.lead.nextSub}
	m.lead.nextSub++
	return at
}

func (m *Machine) deleteRequest(r *kv.DeleteRangeRequest) (*kv.Response, error) {
	body := &kv.DeleteRangeResponse{}
	if err := m.deleteRange(r, body); err != nil {
		return nil, err
	}
	return &kv.Response{Kind: kv.KindDeleteRange, DeleteRange: body}, nil
}

// deleteRange deletes the keys of the span in key order.
func (m *Machine) deleteRange(r *kv.DeleteRangeRequest, body *kv.DeleteRangeResponse) error {
	if len(r.Span.Start) == 0 {
		return kv.ErrEmptyKey
	}
	if r.Span.Single() {
		return m.deleteSingle(r, body)
	}
	if r.Span.Empty() {
		return nil
	}
	before := m.lead.tally.HeldBytes()
	doomed, err := m.liveIn(r.Span)
	if err != nil {
		return err
	}
	listBytes := m.lead.tally.HeldBytes() - before
	if r.PrevKV && len(doomed) > 0 {
		if body.Prev, err = m.load(doomed); err != nil {
			return err
		}
	}
	for i := range doomed {
		if err := m.remove(doomed[i].key, doomed[i].meta); err != nil {
			return err
		}
	}
	m.lead.tally.Forget(listBytes) // the effects have the keys
	body.Deleted = int64(len(doomed))
	return nil
}

// liveKey is a live key of the overlaid state.
type liveKey struct {
	key  []byte
	meta mvcc.Meta
	// effect, if set, has the value; otherwise it is in a row.
	effect *mvcc.Effect
}

// liveIn lists the live keys of a span in the overlaid state, in order.
func (m *Machine) liveIn(span kv.Span) ([]liveKey, error) {
	tally := &m.lead.tally
	over, err := overlaidReading{m}.overlaidKeys(span, overlaidReading{m}.now())
	if err != nil {
		return nil, err
	}
	if err := tally.Add(int64(len(over)) * liveKeyBytes); err != nil {
		return nil, err
	}
	var list []liveKey
	addOver := func() {
		if e := over[0].effect; e.Version > 0 {
			list = append(list, liveKey{key: e.Key, meta: e.Meta(), effect: e})
		}
		over = over[1:]
	}
	var refused error
	err = m.store.Scan(span, 0, tally, func(key []byte, meta mvcc.Meta) bool {
		for len(over) > 0 && bytes.Compare(over[0].key, key) < 0 {
			addOver()
		}
		if len(over) > 0 && bytes.Equal(over[0].key, key) {
			addOver()
			return true
		}
		if refused = tally.Add(liveKeyBytes + int64(len(key))); refused != nil {
			return false
		}
		list = append(list, liveKey{key: bytes.Clone(key), meta: meta})
		return true
	})
	if err == nil {
		err = refused
	}
	for len(over) > 0 {
		addOver()
	}
	return list, err
}

// load reads the values of live keys.
func (m *Machine) load(keys []liveKey) ([]kv.KeyValue, error) {
	tally := &m.lead.tally
	before, held := tally.HeldBytes(), int64(len(keys))*locatorBytes
	for i := range keys {
		if held += kv.KeyValueBytes; keys[i].effect != nil {
			held += effectBytes(keys[i].effect)
		}
	}
	if err := tally.Add(held); err != nil {
		return nil, err
	}
	var rows []mvcc.Locator
	for i := range keys {
		if keys[i].effect == nil {
			rows = append(rows, keys[i].meta.At)
		}
	}
	loaded, err := m.store.Load(rows, tally)
	if err != nil {
		return nil, err
	}
	all := make([]kv.KeyValue, len(keys))
	for i := range keys {
		if e := keys[i].effect; e != nil {
			all[i] = keyValueOf(e)
			continue
		}
		if all[i], loaded = loaded[0], loaded[1:]; all[i].ModRevision != keys[i].meta.At.Rev {
			return nil, fmt.Errorf("the newest version of key %q has no row: %w", keys[i].key, ErrInconsistent)
		}
	}
	if tally.Counts() {
		tally.Rewind(before + kv.MemoryBytes(all))
	}
	return all, nil
}

func (m *Machine) deleteSingle(r *kv.DeleteRangeRequest, body *kv.DeleteRangeResponse) error {
	key := r.Span.Start
	meta, found, err := m.newest(key)
	if err != nil || !found || meta.Deleted() {
		return err
	}
	if r.PrevKV {
		previous, _, err := overlaidReading{m}.get(key, true)
		if err != nil {
			return err
		}
		body.Prev = []kv.KeyValue{previous}
	}
	if err := m.remove(key, meta); err != nil {
		return err
	}
	body.Deleted = 1
	return nil
}

func (m *Machine) compactRequest(r *kv.CompactRequest) (*kv.Response, error) {
	state := overlaidReading{m}
	if r.Revision <= state.compactedAt() {
		return nil, kv.ErrCompacted
	}
	if r.Revision > state.now() {
		return nil, kv.ErrFutureRevision
	}
	m.lead.overlay.addOp(op{kind: opCompact, revision: r.Revision})
	return &kv.Response{Kind: kv.KindCompact}, nil
}

func (m *Machine) nodesEvaluated() []kv.NodeRecord {
	nodes := m.Nodes()
	if m.lead.overlay.otherOps == 0 {
		return nodes
	}
	m.lead.overlay.eachOp(func(p *op) {
		if p.kind == opNode {
			nodes = slices.DeleteFunc(nodes, func(n kv.NodeRecord) bool { return n.ID == p.node.ID })
			nodes = append(nodes, *p.node)
		}
	})
	sortNodes(nodes)
	return nodes
}

func (o *overlay) eachOp(fn func(*op)) {
	for at := o.ops.start; at < o.ops.end(); at++ {
		fn(o.ops.at(at))
	}
}
