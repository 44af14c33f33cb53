package workload

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

const registers = 6

var registerSpan = prefix("r/")

func registerKey(i int) []byte { return fmt.Appendf(nil, "r/%d", i) }

// registerWorkload: few keys that everybody reads and writes, in every way a single request can.
var registerWorkload = Workload{Name: "register", Client: func(c Client) {
	u := &registerUser{user: newUser(c, "register"), seen: map[string]kv.KeyValue{}}
	u.loop(u.pause(), func() {
		answer, err := u.do(u.request())
		if err == nil {
			u.learn(answer)
		}
	})
}}

type registerUser struct {
	*user
	seen map[string]kv.KeyValue // the last it saw of each, for compares
}

func (u *registerUser) request() *kv.Request {
	key := registerKey(u.Rand().IntN(registers))
	switch n := u.Rand().IntN(100); {
	case n < 25:
		r := put(key, u.value())
		r.Put.PrevKV = n < 10
		return r
	case n < 45:
		return get(single(key))
	case n < 66:
		return u.scan()
	case n < 74:
		r := remove(single(key))
		r.DeleteRange.PrevKV = n < 70
		return r
	case n < 78:
		return txn(nil, []kv.Op{opGet(single(key)), opGet(registerSpan)}, nil)
	case n < 84:
		return txn(nil, []kv.Op{
			{Put: &kv.PutRequest{Key: key, Value: u.value(), PrevKV: true}}, opPut([]byte("r/all"), u.value()), opGet(registerSpan)}, nil)
	}
	return u.swap(key)
}

// scan reads all registers, with every option there is.
func (u *registerUser) scan() *kv.Request {
	r := get(registerSpan)
	s := r.Range
	s.Serializable = u.one(3)
	if u.one(3) {
		s.Revision = max(1, u.newest-kv.Revision(u.Rand().IntN(30)))
		if u.one(20) {
			s.Revision = u.newest + kv.Revision(u.Rand().IntN(4))
		}
	}
	if u.one(3) {
		s.Limit = 1 + int64(u.Rand().IntN(registers))
	}
	if u.one(3) {
		s.SortOrder, s.SortTarget = kv.SortOrder(u.Rand().IntN(3)), kv.SortTarget(u.Rand().IntN(5))
	}
	s.CountOnly, s.KeysOnly = u.one(8), u.one(8)
	for _, bound := range []*kv.Revision{&s.MinMod, &s.MaxMod, &s.MinCreate, &s.MaxCreate} {
		if u.one(12) {
			*bound = max(1, u.newest-kv.Revision(u.Rand().IntN(30)))
		}
	}
	return r
}

// swap changes a register if it still is as this client saw it last.
func (u *registerUser) swap(key []byte) *kv.Request {
	last := u.seen[string(key)]
	compare := ifModified(key, last.ModRevision)
	switch u.Rand().IntN(4) {
	case 0:
		compare = kv.Compare{Span: single(key), Target: kv.CompareVersion, Integer: last.Version}
	case 1:
		compare = ifCreated(key, last.CreateRevision)
	case 2:
		if len(last.Value) > 0 {
			compare = kv.Compare{Span: single(key), Target: kv.CompareValue, Value: last.Value}
		}
	}
	success := []kv.Op{opPut(key, u.value())}
	if u.one(4) {
		success = []kv.Op{{DeleteRange: &kv.DeleteRangeRequest{Span: single(key), PrevKV: true}}}
	}
	return txn([]kv.Compare{compare}, success, []kv.Op{opGet(single(key))})
}

func (u *registerUser) learn(answer *kv.Response) {
	note := func(r *kv.RangeResponse) {
		for _, e := range r.KVs {
			u.seen[string(e.Key)] = e
		}
	}
	switch {
	case answer.Range != nil:
		note(answer.Range)
	case answer.Txn != nil:
		for i := range answer.Txn.Responses {
			if one := &answer.Txn.Responses[i]; one.Range != nil {
				note(one.Range)
			}
		}
	}
}
