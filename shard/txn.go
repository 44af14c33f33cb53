package shard

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// path is which branch a transaction and its nested transactions take. etcd decides all of it on the
// state before the first write, so that a nested compare does not see the writes of the
// transaction around it; its operations do.
type path struct {
	taken  bool
	ops    []kv.Op
	nested []path // of the operations that are transactions, in order
}

func decide(state reading, t *kv.TxnRequest) (path, error) {
	taken, err := holds(state, t.Compare)
	if err != nil {
		return path{}, err
	}
	p := path{taken: taken, ops: t.Success}
	if !taken {
		p.ops = t.Failure
	}
	for i := range p.ops {
		if nested := p.ops[i].Txn; nested != nil {
			if err := state.counted().Add(pathBytes); err != nil {
				return path{}, err
			}
			child, err := decide(state, nested)
			if err != nil {
				return path{}, err
			}
			p.nested = append(p.nested, child)
		}
	}
	return p, nil
}

func holds(state reading, compares []kv.Compare) (bool, error) {
	for i := range compares {
		ok, err := compareHolds(state, &compares[i])
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// compareHolds follows etcd's applyCompare: a compare must hold for every key of its span; where
// there is none, a compare of a value fails and any other looks at zeros. What it read is forgotten.
func compareHolds(state reading, c *kv.Compare) (bool, error) {
	tally := state.counted()
	defer tally.Rewind(tally.HeldBytes())
	if c.Target == kv.CompareCreate || c.Target == kv.CompareMod {
		if err := state.compares(kv.Revision(c.Integer)); err != nil {
			return false, err
		}
	}
	if c.Span.Single() {
		found, ok, err := state.get(c.Span.Start, c.Target == kv.CompareValue)
		if err != nil {
			return false, err
		}
		if !ok {
			return c.HoldsOfNone(), nil
		}
		return c.Holds(&found), nil
	}
	if c.Span.Empty() {
		return c.HoldsOfNone(), nil
	}
	if c.Target != kv.CompareValue {
		return compareMetas(state, c)
	}
	all, err := state.scan(&kv.RangeRequest{Span: c.Span})
	if err != nil {
		return false, err
	}
	if len(all.KVs) == 0 {
		return false, nil
	}
	for i := range all.KVs {
		if !c.Holds(&all.KVs[i]) {
			return false, nil
		}
	}
	return true, nil
}

// compareMetas compares what every key has beside its value.
func compareMetas(state reading, c *kv.Compare) (bool, error) {
	found, holds := false, true
	err := state.each(c.Span, func(key []byte, meta mvcc.Meta) bool {
		e := keyValueOfMeta(key, meta)
		found, holds = true, c.Holds(&e)
		return holds
	})
	if err == nil && !found {
		holds = c.HoldsOfNone()
	}
	return holds, err
}

// checkRangeRevision refuses a range of a transaction by the state before the transaction.
func checkRangeRevision(state reading, r *kv.RangeRequest) error {
	if err := state.reaches(r.Revision); err != nil {
		return err
	}
	switch {
	case r.Revision == 0:
		return nil
	case r.Revision > state.now():
		return kv.ErrFutureRevision
	case r.Revision < state.compactedAt():
		return kv.ErrCompacted
	}
	return nil
}

// txnRequest evaluates a transaction: decide the path and check everything on the state before it,
// then run its operations, which see each other's writes.
func (ev *evaluation) txnRequest(t *kv.TxnRequest) (*kv.Response, error) {
	p, err := decide(ev, t)
	if err != nil {
		return nil, err
	}
	if err := ev.checkPath(&p); err != nil {
		return nil, err
	}
	body := &kv.TxnResponse{}
	if err := ev.run(&p, body); err != nil {
		return nil, err
	}
	return &kv.Response{Kind: kv.KindTxn, Txn: body, Revision: ev.now()}, nil
}

func (ev *evaluation) checkPath(p *path) error {
	nested := p.nested
	for i := range p.ops {
		var err error
		switch o := &p.ops[i]; {
		case o.Range != nil:
			err = checkRangeRevision(ev, o.Range)
		case o.Put != nil:
			err = ev.checkPut(o.Put)
		case o.Txn != nil:
			err = ev.checkPath(&nested[0])
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (ev *evaluation) checkPut(r *kv.PutRequest) error {
	if err := ev.checkPutLease(r); err != nil {
		return err
	}
	if !r.IgnoreValue && !r.IgnoreLease {
		return nil
	}
	meta, found, err := ev.newest(r.Key)
	if err == nil && (!found || meta.Deleted()) {
		return kv.ErrKeyNotFound
	}
	return err
}

func (ev *evaluation) run(p *path, body *kv.TxnResponse) error {
	body.Succeeded = p.taken
	if err := ev.tally.Add(int64(len(p.ops)) * opAnswerBytes); err != nil {
		return err
	}
	body.Responses = make([]kv.OpResponse, len(p.ops))
	nested := p.nested
	for i := range p.ops {
		o, answer := &p.ops[i], &body.Responses[i]
		var err error
		switch {
		case o.Range != nil:
			answer.Range, err = ev.scan(o.Range)
		case o.Put != nil:
			answer.Put = &kv.PutResponse{}
			err = ev.put(o.Put, answer.Put)
		case o.DeleteRange != nil:
			answer.DeleteRange = &kv.DeleteRangeResponse{}
			err = ev.deleteRange(o.DeleteRange, answer.DeleteRange)
		case o.Txn != nil:
			answer.Txn = &kv.TxnResponse{}
			err = ev.run(&nested[0], answer.Txn)
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
		if o.Txn == nil { // etcd leaves the header of a nested transaction empty
			answer.Revision = ev.now()
		}
	}
	return nil
}

// readOnlyTxn evaluates a transaction of ranges, and of transactions of ranges, on a state that does not change.
func readOnlyTxn(state reading, t *kv.TxnRequest) (*kv.TxnResponse, error) {
	p, err := decide(state, t)
	if err != nil {
		return nil, err
	}
	if err := checkRanges(state, &p); err != nil {
		return nil, err
	}
	body := &kv.TxnResponse{}
	return body, readPath(state, &p, body)
}

// checkRanges refuses what checkPath would.
func checkRanges(state reading, p *path) error {
	nested := p.nested
	for i := range p.ops {
		var err error
		if p.ops[i].Txn != nil {
			err = checkRanges(state, &nested[0])
			nested = nested[1:]
		} else {
			err = checkRangeRevision(state, p.ops[i].Range)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readPath does what run does.
func readPath(state reading, p *path, body *kv.TxnResponse) (err error) {
	if err := state.counted().Add(int64(len(p.ops)) * opAnswerBytes); err != nil {
		return err
	}
	body.Succeeded, body.Responses = p.taken, make([]kv.OpResponse, len(p.ops))
	nested := p.nested
	for i := range p.ops {
		answer := &body.Responses[i]
		if p.ops[i].Txn != nil { // its header stays empty, as in etcd
			answer.Txn = &kv.TxnResponse{}
			err = readPath(state, &nested[0], answer.Txn)
			nested = nested[1:]
		} else {
			answer.Revision = state.now()
			answer.Range, err = state.scan(p.ops[i].Range)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
