package workload

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// pagesWorkload: a listing is read page by page at the revision of its first page, while others write.
var pagesWorkload = Workload{Name: "pages", Client: func(c Client) {
	u := newUser(c, "pages")
	u.loop(u.pause(), func() {
		key := fmt.Appendf(nil, "page/%02d", u.Rand().IntN(20))
		switch n := u.Rand().IntN(10); {
		case n < 5:
			_, _ = u.do(put(key, u.value()))
		case n < 7:
			_, _ = u.do(remove(single(key)))
		default:
			u.list(prefix("page/"), int64(1+u.Rand().IntN(5)))
		}
	})
}}

// list reads all keys of a span as Kubernetes does.
func (u *user) list(span kv.Span, limit int64) {
	total, read, last := int64(0), int64(0), ""
	for page, at := 0, kv.Revision(0); ; page++ {
		answer, err := u.insist(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: span, Limit: limit, Revision: at, Serializable: page > 0 && u.one(2)}})
		switch {
		case errors.Is(err, kv.ErrCompacted):
			u.Mark("listing compacted")
			return
		case err != nil: // the node that is asked now may be behind
			return
		case page == 0:
			at, total = answer.Revision, answer.Range.Count
		case answer.Revision < at:
			u.Fail("a page at revision %d came from a state at revision %d", at, answer.Revision)
		}
		for _, e := range answer.Range.KVs {
			if string(e.Key) <= last {
				u.Fail("key %q was listed after %q", e.Key, last)
			}
			last = string(e.Key)
			read++
		}
		if rest := total - read; answer.Range.Count != rest+int64(len(answer.Range.KVs)) || answer.Range.More != (rest > 0) {
			u.Fail("page %d at revision %d: %d keys of %d are read, but it counts %d with its own %d, more %v",
				page, at, read, total, answer.Range.Count, len(answer.Range.KVs), answer.Range.More)
		}
		if !answer.Range.More {
			u.Mark("listed")
			return
		}
		span.Start = []byte(last + "\x00")
	}
}

// sweepWorkload: groups of keys are written at one revision and deleted at another, so that whoever sees one of a group sees all.
var sweepWorkload = Workload{Name: "sweep", Client: func(c Client) {
	u := newUser(c, "sweep")
	u.loop(u.pause(), func() {
		group := prefix(fmt.Sprintf("d/%d/", u.Rand().IntN(3)))
		switch u.Rand().IntN(4) {
		case 0:
			var ops []kv.Op
			for i := range groupKeys {
				ops = append(ops, opPut(fmt.Appendf(nil, "%s%d", group.Start, i), u.value()))
			}
			_, _ = u.do(txn(nil, ops, nil))
		case 1:
			r := remove(group)
			if u.one(4) {
				r = remove(prefix("d/"))
			}
			r.DeleteRange.PrevKV = u.one(2)
			answer, err := u.do(r)
			if err == nil && answer.DeleteRange.Deleted%groupKeys != 0 {
				u.Fail("%d keys were deleted at revision %d, of groups of %d", answer.DeleteRange.Deleted, answer.Revision, groupKeys)
			}
		default:
			r := get(group)
			r.Range.Serializable, r.Range.CountOnly = u.one(3), u.one(4)
			answer, err := u.insist(r)
			if err == nil && answer.Range.Count%groupKeys != 0 {
				u.Fail("%d keys are there at revision %d, of a group of %d", answer.Range.Count, answer.Revision, groupKeys)
			}
		}
	})
}}

const groupKeys = 4
