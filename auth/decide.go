package auth

import "github.com/quoratedb/quorate/kv"

// Leases says which keys leases have. It is asked only about leases that Rights.Leases names.
type Leases func(kv.LeaseID) [][]byte

// Decide tells why the principal must not do what the request asks for; nil: it may. The request is well formed. It is allowed or refused as a whole: both
// branches of a transaction count, and what is nested in them.
func (r *Rights) Decide(req *kv.Request, leases Leases) error {
	if r.open || req.Kind == kv.KindAuth && req.Auth.Action == kv.AuthStatus {
		return nil
	}
	if err := r.Meets(NeedUser); err != nil {
		return err
	}
	if r.root {
		return nil
	}
	switch req.Kind {
	case kv.KindRange:
		return r.mayRead(req.Range.Span)
	case kv.KindPut:
		return r.put(req.Put, leases)
	case kv.KindDeleteRange:
		return r.deleteRange(req.DeleteRange)
	case kv.KindTxn:
		return r.txn(req.Txn, leases)
	case kv.KindLeaseRevoke:
		return r.mayWriteAll(leases(req.LeaseRevoke.ID))
	case kv.KindLeaseKeepAlive:
		return r.mayWriteAll(leases(req.LeaseKeepAlive.ID))
	case kv.KindLeaseTimeToLive: // the keys of its answer are looked at: Shows
		return nil
	case kv.KindLeaseLeases: // which leases there are says something about everybody's
		return r.mayRead(kv.Everything())
	case kv.KindLeaseGrant, kv.KindMemberList:
		return nil
	case kv.KindAlarm:
		if req.Alarm.Action == kv.AlarmGet {
			return nil
		}
	case kv.KindAuth:
		return r.auth(req.Auth)
	}
	return kv.ErrPermissionDenied // kv.KindCompact, and whatever no client asks for
}

// auth: a user may look at itself and at its own roles.
func (r *Rights) auth(a *kv.AuthRequest) error {
	switch {
	case a.Action == kv.AuthUserGet && a.User == r.name:
		return nil
	case a.Action == kv.AuthRoleGet:
		for _, role := range r.roles {
			if role == a.Role {
				return nil
			}
		}
	}
	return kv.ErrPermissionDenied
}

// put also looks at the other keys of the lease that the key would have: who may not write them could not revoke the lease, and would have them live or end.
func (r *Rights) put(p *kv.PutRequest, leases Leases) error {
	key := kv.Span{Start: p.Key}
	if err := r.mayWrite(key); err != nil {
		return err
	}
	if p.PrevKV {
		if err := r.mayRead(key); err != nil {
			return err
		}
	}
	if p.Lease != 0 {
		return r.mayWriteAll(leases(p.Lease))
	}
	return nil
}

func (r *Rights) deleteRange(d *kv.DeleteRangeRequest) error {
	if err := r.mayWrite(d.Span); err != nil {
		return err
	}
	if d.PrevKV {
		return r.mayRead(d.Span)
	}
	return nil
}

func (r *Rights) txn(t *kv.TxnRequest, leases Leases) error {
	for i := range t.Compare {
		if err := r.mayRead(t.Compare[i].Span); err != nil {
			return err
		}
	}
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if err := r.op(&ops[i], leases); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Rights) op(op *kv.Op, leases Leases) error {
	switch {
	case op.Range != nil:
		return r.mayRead(op.Range.Span)
	case op.Put != nil:
		return r.put(op.Put, leases)
	case op.DeleteRange != nil:
		return r.deleteRange(op.DeleteRange)
	case op.Txn != nil:
		return r.txn(op.Txn, leases)
	}
	return nil // it does nothing
}

func (r *Rights) mayWriteAll(keys [][]byte) error {
	for _, key := range keys {
		if err := r.mayWrite(kv.Span{Start: key}); err != nil {
			return err
		}
	}
	return nil
}

// Shows tells why the principal must not see the answer to a request that was allowed: the keys of a lease are known only then.
func (r *Rights) Shows(resp *kv.Response) error {
	if r.open || r.root || resp.LeaseTimeToLive == nil {
		return nil
	}
	for _, key := range resp.LeaseTimeToLive.Keys {
		if err := r.mayRead(kv.Span{Start: key}); err != nil {
			return err
		}
	}
	return nil
}

// Leases lists the leases whose keys Decide has to know, once each.
func (r *Rights) Leases(req *kv.Request) (ids []kv.LeaseID) {
	if r.open || r.root {
		return nil
	}
	switch req.Kind {
	case kv.KindPut:
		return addLease(nil, req.Put.Lease)
	case kv.KindTxn:
		return leasesOf(req.Txn, nil)
	case kv.KindLeaseRevoke:
		return addLease(nil, req.LeaseRevoke.ID)
	case kv.KindLeaseKeepAlive:
		return addLease(nil, req.LeaseKeepAlive.ID)
	}
	return nil
}

func addLease(ids []kv.LeaseID, id kv.LeaseID) []kv.LeaseID {
	if id == 0 {
		return ids
	}
	for _, known := range ids {
		if known == id {
			return ids
		}
	}
	return append(ids, id)
}

func leasesOf(t *kv.TxnRequest, ids []kv.LeaseID) []kv.LeaseID {
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			switch op := &ops[i]; {
			case op.Put != nil:
				ids = addLease(ids, op.Put.Lease)
			case op.Txn != nil:
				ids = leasesOf(op.Txn, ids)
			}
		}
	}
	return ids
}
