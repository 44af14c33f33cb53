package kv

// EachSpan calls fn with the spans of keys that a request names, in whichever branch, and whether it may write there, until fn returns false; EachSpan returns
// that. Requests that are not about keys name none.
func (r *Request) EachSpan(fn func(span Span, writes bool) bool) bool {
	switch r.Kind {
	case KindRange:
		return fn(r.Range.Span, false)
	case KindPut:
		return fn(Span{Start: r.Put.Key}, true)
	case KindDeleteRange:
		return fn(r.DeleteRange.Span, true)
	case KindTxn:
		return r.Txn.eachSpan(fn)
	}
	return true
}

func (t *TxnRequest) eachSpan(fn func(span Span, writes bool) bool) bool {
	for i := range t.Compare {
		if !fn(t.Compare[i].Span, false) {
			return false
		}
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			proceed := true
			switch o := &ops[i]; {
			case o.Range != nil:
				proceed = fn(o.Range.Span, false)
			case o.Put != nil:
				proceed = fn(Span{Start: o.Put.Key}, true)
			case o.DeleteRange != nil:
				proceed = fn(o.DeleteRange.Span, true)
			case o.Txn != nil:
				proceed = o.Txn.eachSpan(fn)
			}
			if !proceed {
				return false
			}
		}
	}
	return true
}
