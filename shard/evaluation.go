package shard

import (
	"bytes"
	"fmt"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// evaluation decides requests about keys on the applied state overlaid with what is in flight, including what the request under
// evaluation has already written. A leader has one; a request that is evaluated beside the rounds has one of its own, on a view.
type evaluation struct {
	base     *mvcc.Reader // the applied state
	overlay  *overlay
	revision kv.Revision // of both together
	// nextSub is the sub-number of the next change at the revision under evaluation; 0: nothing written yet.
	nextSub uint32
	batch   *batch // nil: no revision is provisional
	// floor is up to where history is compacted in other shards of the store, as far as is known here: nothing below it is read.
	floor kv.Revision
	// tally counts what the request under evaluation collects, and its effects; nobody pays for what no request asked for.
	tally          kv.Tally
	mayAttach      func(kv.LeaseID) error // why a key cannot have a lease
	maxEffectBytes int                    // of one request
	tooLarge       error                  // the answer beyond it
	// latched counts, by lease, the requests for all its keys that are decided beside the rounds: none of its keys is changed meanwhile, and it gets none.
	latched map[kv.LeaseID]int
}

// answer decides a request about keys.
func (ev *evaluation) answer(r *kv.Request) (response *kv.Response, err error) {
	before := ev.overlay.changes.end()
	switch r.Kind {
	case kv.KindPut:
		response, err = ev.putRequest(r.Put)
	case kv.KindTxn:
		response, err = ev.txnRequest(r.Txn)
	case kv.KindDeleteRange:
		response, err = ev.deleteRequest(r.DeleteRange)
	case kv.KindRange:
		var body *kv.RangeResponse
		body, err = ev.scan(r.Range)
		response = &kv.Response{Kind: kv.KindRange, Range: body}
	}
	if err == nil && ev.overlay.bytesSince(before) > ev.maxEffectBytes {
		err = ev.tooLarge
	}
	return response, err
}

// putAnswer keeps a response and its body in one allocation.
type putAnswer struct {
	response kv.Response
	body     kv.PutResponse
}

func (ev *evaluation) putRequest(r *kv.PutRequest) (*kv.Response, error) {
	if err := ev.checkPutLease(r); err != nil {
		return nil, err
	}
	answer := &putAnswer{}
	if err := ev.put(r, &answer.body); err != nil {
		return nil, err
	}
	answer.response = kv.Response{Kind: kv.KindPut, Put: &answer.body}
	return &answer.response, nil
}

func (ev *evaluation) checkPutLease(r *kv.PutRequest) error {
	if len(r.Key) == 0 {
		return kv.ErrEmptyKey
	}
	if r.Lease == 0 {
		return nil
	}
	if ev.latched[r.Lease] > 0 {
		return errLatched
	}
	return ev.mayAttach(r.Lease)
}

// newest returns the newest version of a key in the overlaid state, tombstones included.
func (ev *evaluation) newest(key []byte) (meta mvcc.Meta, found bool, err error) {
	if err := ev.tally.Look(1); err != nil {
		return mvcc.Meta{}, false, err
	}
	if c := ev.overlay.find(key); c != nil {
		return c.Meta(), true, nil
	}
	return ev.base.Meta(key)
}

// put adds the effect of a put at the revision under evaluation.
func (ev *evaluation) put(r *kv.PutRequest, body *kv.PutResponse) error {
	meta, found, err := ev.newest(r.Key)
	if err != nil {
		return err
	}
	live := found && !meta.Deleted()
	if live && ev.latched[meta.Lease] > 0 {
		return errLatched
	}
	value, lease := r.Value, r.Lease
	if r.IgnoreValue || r.IgnoreLease {
		if !live {
			return kv.ErrKeyNotFound
		}
	}
	if live && (r.IgnoreValue || r.PrevKV) {
		previous, _, err := ev.get(r.Key, true)
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
	if err := ev.payForChange(len(r.Key) + len(value)); err != nil {
		return err
	}
	at := ev.nextLocator()
	e := mvcc.Effect{Key: r.Key, Value: value, At: at, Create: at.Rev, Version: 1, Lease: lease}
	if found {
		e.Prev = meta.At
	}
	if live {
		e.Create, e.Version, e.PrevLive, e.PrevLease = meta.Create, meta.Version+1, true, meta.Lease
	}
	ev.overlay.add(&e)
	return nil
}

// remove adds the effect of deleting a live key.
func (ev *evaluation) remove(key []byte, meta mvcc.Meta) error {
	if ev.latched[meta.Lease] > 0 {
		return errLatched
	}
	if err := ev.payForChange(len(key)); err != nil {
		return err
	}
	ev.overlay.add(&mvcc.Effect{Key: key, At: ev.nextLocator(), Prev: meta.At, PrevLive: true, PrevLease: meta.Lease})
	return nil
}

func (ev *evaluation) nextLocator() mvcc.Locator {
	at := mvcc.Locator{Rev: ev.revision + 1, Sub: ev.nextSub}
	ev.nextSub++
	return at
}

func (ev *evaluation) deleteRequest(r *kv.DeleteRangeRequest) (*kv.Response, error) {
	body := &kv.DeleteRangeResponse{}
	if err := ev.deleteRange(r, body); err != nil {
		return nil, err
	}
	return &kv.Response{Kind: kv.KindDeleteRange, DeleteRange: body}, nil
}

// deleteRange deletes the keys of the span in key order.
func (ev *evaluation) deleteRange(r *kv.DeleteRangeRequest, body *kv.DeleteRangeResponse) error {
	if len(r.Span.Start) == 0 {
		return kv.ErrEmptyKey
	}
	if r.Span.Single() {
		return ev.deleteSingle(r, body)
	}
	if r.Span.Empty() {
		return nil
	}
	before := ev.tally.HeldBytes()
	doomed, err := ev.liveIn(r.Span)
	if err != nil {
		return err
	}
	listBytes := ev.tally.HeldBytes() - before
	if r.PrevKV && len(doomed) > 0 {
		if body.Prev, err = ev.load(doomed); err != nil {
			return err
		}
	}
	for i := range doomed {
		if err := ev.remove(doomed[i].key, doomed[i].meta); err != nil {
			return err
		}
	}
	ev.tally.Forget(listBytes) // the effects have the keys
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
func (ev *evaluation) liveIn(span kv.Span) (list []liveKey, err error) {
	err = ev.eachLive(span, func(k liveKey) (bool, error) {
		if k.effect == nil {
			k.key = bytes.Clone(k.key)
		}
		list = append(list, k)
		return true, ev.tally.Add(liveKeyBytes + int64(len(k.key)))
	})
	return list, err
}

// eachLive gives the live keys of a span in the overlaid state to fn, in order, until it returns false or fails. The key of one without an effect is
// valid only during the call.
func (ev *evaluation) eachLive(span kv.Span, fn func(liveKey) (bool, error)) error {
	over, err := ev.overlaidKeys(span, ev.now())
	if err != nil {
		return err
	}
	proceed := true
	give := func(k liveKey) {
		if proceed && err == nil {
			proceed, err = fn(k)
		}
	}
	giveOver := func() {
		if e := over[0].effect; e.Version > 0 {
			give(liveKey{key: e.Key, meta: e.Meta(), effect: e})
		}
		over = over[1:]
	}
	scanned := ev.base.Scan(span, 0, &ev.tally, func(key []byte, meta mvcc.Meta) bool {
		for len(over) > 0 && bytes.Compare(over[0].key, key) < 0 {
			giveOver()
		}
		if len(over) > 0 && bytes.Equal(over[0].key, key) {
			giveOver()
		} else {
			give(liveKey{key: key, meta: meta})
		}
		return proceed && err == nil
	})
	if scanned != nil {
		return scanned
	}
	for len(over) > 0 {
		giveOver()
	}
	return err
}

// load reads the values of live keys.
func (ev *evaluation) load(keys []liveKey) ([]kv.KeyValue, error) {
	tally := &ev.tally
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
	loaded, err := ev.base.Load(rows, tally)
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

func (ev *evaluation) deleteSingle(r *kv.DeleteRangeRequest, body *kv.DeleteRangeResponse) error {
	key := r.Span.Start
	meta, found, err := ev.newest(key)
	if err != nil || !found || meta.Deleted() {
		return err
	}
	if r.PrevKV {
		previous, _, err := ev.get(key, true)
		if err != nil {
			return err
		}
		body.Prev = []kv.KeyValue{previous}
	}
	if err := ev.remove(key, meta); err != nil {
		return err
	}
	body.Deleted = 1
	return nil
}
