package txn

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Path says which branches a request takes: for each transaction on the way, one before those in its branch, Holds, and its operations of success are
// taken, or the index of a compare that does not hold, and those of failure are. A path may be shorter than the way: the compares of the rest hold. So nil
// is the guess that all compares hold.
type Path []int

// Holds stands in a Path for: all compares of the transaction hold.
const Holds = -1

// next takes the first turn off.
func (p *Path) next() int {
	if len(*p) == 0 {
		return Holds
	}
	turn := (*p)[0]
	*p = (*p)[1:]
	return turn
}

// branch is what is done of a transaction after a turn.
func branch(t *kv.TxnRequest, turn int) []kv.Op {
	if turn == Holds {
		return t.Success
	}
	return t.Failure
}

// MayWrite tells whether the request has an operation on the path that may write.
func MayWrite(req *kv.Request, path Path) bool {
	return req.Kind == kv.KindDeleteRange || mayWrite(req.Txn, &path)
}

func mayWrite(t *kv.TxnRequest, path *Path) bool {
	ops, writes := branch(t, path.next()), false
	for i := range ops {
		switch o := &ops[i]; {
		case o.Put != nil || o.DeleteRange != nil:
			writes = true
		case o.Txn != nil:
			writes = mayWrite(o.Txn, path) || writes // the path goes on
		}
	}
	return writes
}

// ReadsPast tells whether a transaction has a range at a revision, in any branch. No participant is asked for one: it would not know whether it has all of that
// revision. What was at a revision does not change any more, so it is read before.
func ReadsPast(t *kv.TxnRequest) bool {
	for _, ops := range [2][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if r := ops[i].Range; r != nil && isPast(r) {
				return true
			}
			if ops[i].Txn != nil && ReadsPast(ops[i].Txn) {
				return true
			}
		}
	}
	return false
}

// isPast tells whether a range is at a revision. One that is below all there are is among them: it is refused, as by package shard.
func isPast(r *kv.RangeRequest) bool { return r.Revision != 0 }

// Probe returns a read-only transaction. Its answer, as of one revision, tells which path a request takes then, what its ranges at revisions have, and, if
// nothing is written on the path, is the answer (See). If it fails, so does the request.
//
// It is never answered from an older state, as one would be whose ranges are all serializable: the request may write, so it is no read.
//
// It has the compares of the request, and the ranges that may be needed. Behind the operations of failure there are transactions with one compare each,
// which tell which of several does not hold.
func Probe(t *kv.TxnRequest) *kv.TxnRequest { return probe(t, true) }

func probe(t *kv.TxnRequest, whole bool) *kv.TxnRequest {
	p := &kv.TxnRequest{Compare: t.Compare, Success: probeOps(t.Success, whole), Failure: probeOps(t.Failure, whole)}
	if len(t.Compare) > 1 {
		for i := range t.Compare {
			p.Failure = append(p.Failure, kv.Op{Txn: &kv.TxnRequest{Compare: t.Compare[i : i+1]}})
		}
	}
	return p
}

// probeOps leaves out what writes. whole: the operations around may all turn out to write nothing, so that all ranges are needed.
func probeOps(ops []kv.Op, whole bool) (kept []kv.Op) {
	whole = whole && mayOnlyRead(ops)
	for i := range ops {
		switch o := &ops[i]; {
		case o.Range != nil && (whole || isPast(o.Range)):
			newest := *o.Range
			newest.Serializable = false
			kept = append(kept, kv.Op{Range: &newest})
		case o.Txn != nil:
			kept = append(kept, kv.Op{Txn: probe(o.Txn, whole)})
		}
	}
	return kept
}

// mayOnlyRead tells whether there is a path through the operations on which nothing is written.
func mayOnlyRead(ops []kv.Op) bool {
	for i := range ops {
		switch o := &ops[i]; {
		case o.Put != nil || o.DeleteRange != nil:
			return false
		case o.Txn != nil && !mayOnlyRead(o.Txn.Success) && !mayOnlyRead(o.Txn.Failure):
			return false
		}
	}
	return true
}

// View is what the answer to a Probe tells.
type View struct {
	Path Path
	// Past are the answers to ranges at revisions on the path, in their order.
	Past []kv.OpResponse
	// Answer is that of the request, if nothing is written on the path.
	Answer *kv.TxnResponse
}

var errNotProbe = errors.New("txn: the answer to a read of a transaction's compares is not one to that question")

// See takes the answer to the probe of a transaction. An error means that it is the answer to something else.
func See(t *kv.TxnRequest, answer *kv.TxnResponse) (View, error) {
	v := viewer{}
	whole, err := v.see(t, answer, true)
	if err != nil {
		return View{}, err
	}
	if !v.writes {
		v.Answer = whole
	}
	return v.View, nil
}

type viewer struct {
	View
	writes bool
}

func (v *viewer) see(t *kv.TxnRequest, answer *kv.TxnResponse, whole bool) (*kv.TxnResponse, error) {
	turn := Holds
	if answer == nil {
		return nil, errNotProbe
	}
	responses := answer.Responses
	if !answer.Succeeded {
		turn = 0
		if n := len(t.Compare); n == 0 || n > 1 && len(responses) < n {
			return nil, errNotProbe
		} else if n > 1 {
			of := responses[len(responses)-n:]
			responses = responses[:len(responses)-n]
			for turn < n && of[turn].Txn != nil && of[turn].Txn.Succeeded {
				turn++
			}
			if turn == n {
				return nil, fmt.Errorf("%w: all compares hold, and they do not hold together", errNotProbe)
			}
		}
	}
	v.Path = append(v.Path, turn)
	ops := branch(t, turn)
	whole = whole && mayOnlyRead(ops)
	body := &kv.TxnResponse{Succeeded: turn == Holds}
	for i := range ops {
		o := &ops[i]
		if o.Put != nil || o.DeleteRange != nil {
			v.writes = true
			continue
		}
		if o.Range != nil && !whole && !isPast(o.Range) {
			continue
		}
		if len(responses) == 0 {
			return nil, errNotProbe
		}
		seen := responses[0]
		responses = responses[1:]
		switch {
		case o.Txn != nil:
			nested, err := v.see(o.Txn, seen.Txn, whole)
			if err != nil {
				return nil, err
			}
			seen = kv.OpResponse{Txn: nested}
		case seen.Range == nil:
			return nil, errNotProbe
		case isPast(o.Range):
			v.Past = append(v.Past, seen)
		}
		body.Responses = append(body.Responses, seen)
	}
	if len(responses) > 0 {
		return nil, errNotProbe
	}
	return body, nil
}
