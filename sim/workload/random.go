package workload

import (
	"bytes"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/shard/model"
)

// randomWorkload: any request there is, whether it makes sense or not.
var randomWorkload = Workload{Name: "random", Client: func(c Client) {
	r := newRandomUser(c, "random")
	r.loop(r.pause(), func() {
		request := r.generator.Request()
		if r.harmless(request) {
			_, _ = r.do(r.own(request))
		}
	})
}}

// nestedWorkload: transactions in transactions.
var nestedWorkload = Workload{Name: "nested", Client: func(c Client) {
	r := newRandomUser(c, "nested")
	r.loop(r.pause(), func() {
		if request := r.nested(); request != nil {
			_, _ = r.do(request)
		}
	})
}}

type randomUser struct {
	*user
	generator model.Generator
}

func newRandomUser(c Client, name string) *randomUser {
	u := newUser(c, name)
	return &randomUser{user: u, generator: model.Generator{Rand: u.Rand(), Keys: 12, Leases: 4, Revision: 10}}
}

func (r *randomUser) do(request *kv.Request) (*kv.Response, error) {
	answer, err := r.user.do(request)
	r.generator.Revision = max(10, r.newest)
	return answer, err
}

// harmless tells whether the request leaves the cluster useful for others: alarms would stop all writes, and the records of nodes are
// the nodes' own.
func (r *randomUser) harmless(request *kv.Request) bool {
	switch request.Kind {
	case kv.KindAlarm:
		return request.Alarm.Action != kv.AlarmActivate && request.Alarm.Alarm.Type != kv.AlarmFence
	case kv.KindPublishNode:
		return false
	case kv.KindCompact: // as often as others can bear
		return r.one(4)
	}
	return true
}

// nested looks for a valid transaction with one inside.
func (r *randomUser) nested() *kv.Request {
	for range 50 {
		if request := r.own(r.generator.Nested()); shard.Validate(request, shard.Limits{}) == nil {
			return request
		}
	}
	return nil
}

// own moves a generated request under the workload's prefix and makes its values different from all others.
func (r *randomUser) own(request *kv.Request) *kv.Request {
	op := kv.Op{Range: request.Range, Put: request.Put, DeleteRange: request.DeleteRange, Txn: request.Txn}
	r.ownOp(&op)
	return request
}

func (r *randomUser) ownOp(op *kv.Op) {
	switch {
	case op.Range != nil:
		r.ownSpan(&op.Range.Span)
	case op.Put != nil:
		op.Put.Key = r.ownKey(op.Put.Key)
		if !op.Put.IgnoreValue {
			op.Put.Value = r.value()
		}
	case op.DeleteRange != nil:
		r.ownSpan(&op.DeleteRange.Span)
	case op.Txn != nil:
		for i := range op.Txn.Compare {
			r.ownSpan(&op.Txn.Compare[i].Span)
		}
		for _, ops := range [][]kv.Op{op.Txn.Success, op.Txn.Failure} {
			for i := range ops {
				r.ownOp(&ops[i])
			}
		}
	}
}

func (r *randomUser) ownKey(key []byte) []byte { return append([]byte(r.name+"/"), key...) }

func (r *randomUser) ownSpan(s *kv.Span) {
	own := prefix(r.name + "/")
	s.Start = r.ownKey(bytes.TrimPrefix(s.Start, []byte{0}))
	switch {
	case len(s.End) == 0:
	case bytes.Equal(s.End, []byte{0}):
		s.End = own.End
	default:
		s.End = r.ownKey(s.End)
	}
}
