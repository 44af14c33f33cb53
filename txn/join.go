package txn

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Join makes the answer to a request from those of all participants, which have passed Check. They are in the order of the participants. past is from the
// View that the path is from; it may be nil if there is no range at a revision. writes: the request changes something, at the revision; otherwise that was
// the present.
//
// The keys and values of the answer are those of the participants' answers; beside them there is a list for each operation.
func (p *Plan) Join(answers []*kv.CommitResponse, past []kv.OpResponse, revision kv.Revision, writes bool) *kv.Response {
	j := joiner{
		results: results{answers: answers, at: make([]int, len(answers))},
		plan:    p, path: p.path, past: past, ops: p.ops, now: revision, revision: revision,
	}
	for i := range p.compares {
		j.ranges(p.compares[i].at)
	}
	if writes {
		j.now-- // until the first change
	}
	answer := &kv.Response{Kind: p.request.Kind, Revision: revision}
	switch p.request.Kind {
	case kv.KindDeleteRange:
		answer.DeleteRange = j.op().DeleteRange
	case kv.KindTxn:
		answer.Txn = j.transaction(p.request.Txn)
	}
	return answer
}

// results goes through what participants answered, in the order of the places.
type results struct {
	answers []*kv.CommitResponse
	at      []int // results of each that were taken
}

func (r *results) take(i int) *kv.OpResponse {
	result := &r.answers[i].Results[r.at[i]]
	r.at[i]++
	return result
}

func (r *results) ranges(at []int) []*kv.RangeResponse {
	parts := make([]*kv.RangeResponse, len(at))
	for n, i := range at {
		parts[n] = r.take(i).Range
	}
	return parts
}

type joiner struct {
	results
	plan *Plan
	path Path
	past []kv.OpResponse
	ops  []sharedOp
	// now is the revision of the state after what was joined so far, revision that of the request.
	now, revision kv.Revision
}

func (j *joiner) transaction(t *kv.TxnRequest) *kv.TxnResponse {
	turn := j.path.next()
	ops := branch(t, turn)
	body := &kv.TxnResponse{Succeeded: turn == Holds, Responses: make([]kv.OpResponse, len(ops))}
	for i := range ops {
		answer := &body.Responses[i]
		switch o := &ops[i]; {
		case o.Txn != nil: // its header stays empty, as in etcd
			answer.Txn = j.transaction(o.Txn)
			continue
		case o.Range != nil && isPast(o.Range):
			answer.Range = j.past[0].Range
			j.past = j.past[1:]
		default:
			*answer = j.op()
		}
		answer.Revision = j.now
	}
	return body
}

// op joins the next operation.
func (j *joiner) op() (answer kv.OpResponse) {
	shared := &j.ops[0]
	j.ops = j.ops[1:]
	switch o := shared.op; {
	case o.Range != nil:
		answer.Range = j.joinRange(o.Range, j.ranges(shared.at))
	case o.Put != nil:
		answer.Put = &kv.PutResponse{}
		if prev := j.take(shared.at[0]).Put.Prev; prev != nil {
			answer.Put.Prev = &j.number([]kv.KeyValue{*prev})[0]
		}
		j.now = j.revision
	case o.DeleteRange != nil:
		answer.DeleteRange = j.joinDeletion(shared.at)
		if answer.DeleteRange.Deleted > 0 {
			j.now = j.revision
		}
	}
	return answer
}

func (j *joiner) joinDeletion(at []int) *kv.DeleteRangeResponse {
	body := &kv.DeleteRangeResponse{}
	for _, i := range at {
		part := j.take(i).DeleteRange
		body.Deleted += part.Deleted
		body.Prev = append(body.Prev, part.Prev...)
	}
	body.Prev = j.number(inKeyOrder(body.Prev, len(at)))
	return body
}

// number gives what the request itself wrote its revision.
func (j *joiner) number(kvs []kv.KeyValue) []kv.KeyValue {
	for i := range kvs {
		e := &kvs[i]
		if e.CreateRevision == kv.Unnumbered {
			e.CreateRevision = j.revision
		}
		if e.ModRevision == kv.Unnumbered {
			e.ModRevision = j.revision
		}
	}
	return kvs
}

func inKeyOrder(kvs []kv.KeyValue, parts int) []kv.KeyValue {
	if parts > 1 {
		slices.SortFunc(kvs, func(a, b kv.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	}
	return kvs
}

// joinRange does with the keys of all participants what package shard does with its own. The count is before filters.
func (j *joiner) joinRange(r *kv.RangeRequest, parts []*kv.RangeResponse) *kv.RangeResponse {
	body, n := &kv.RangeResponse{}, 0
	for _, part := range parts {
		body.Count += part.Count
		n += len(part.KVs)
	}
	if r.CountOnly || n == 0 {
		return body
	}
	kvs := make([]kv.KeyValue, 0, n)
	for _, part := range parts {
		kvs = append(kvs, part.KVs...)
	}
	body.KVs = j.number(inKeyOrder(kvs, len(parts)))
	r.Finish(body)
	return body
}
