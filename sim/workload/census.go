package workload

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// censusWorkload: clients that stay with one node each and list or count keys of many shards there, mostly as they are there, however old that is: such an
// answer must be a state of the store all the same. Others write some of the keys often, some rarely, so that there are shards which write nothing meanwhile.
var censusWorkload = Workload{Name: "census", Special: true, Check: checkCensus, Client: func(c Client) {
	u := newUser(c, "census")
	u.node = 1 + c.Number()%c.Nodes()
	busy := 1 + u.Rand().IntN(censusKeys)
	u.loop([...]time.Duration{2 * time.Millisecond, 8 * time.Millisecond}[u.Rand().IntN(2)], func() {
		key := censusKey(u.Rand().IntN(busy))
		if u.one(12) {
			key = censusKey(u.Rand().IntN(censusKeys))
		}
		switch n := u.Rand().IntN(10); {
		case n < 3:
			_, _ = u.Do(u.node, put(key, u.value()), u.patience())
		case n == 3 && u.one(3):
			_, _ = u.Do(u.node, remove(single(key)), u.patience())
		case n == 4:
			_, _ = u.Do(u.node, u.both(), u.patience())
		case n == 5:
			r := u.census()
			r.Range.CountOnly = false // there is nothing to read portion by portion
			_, _ = u.List(u.node, r, int64(u.Rand().IntN(300)), u.patience())
		default:
			answer, err := u.Do(u.node, u.census(), u.patience())
			if err == nil {
				u.newest = max(u.newest, answer.Revision)
			}
		}
	})
}}

// censusKeys is how many keys the workload has.
const censusKeys = 10

func censusKey(i int) []byte { return fmt.Appendf(nil, "census/%d", i) }

// census lists or counts some of the keys, or all that there are.
func (u *user) census() *kv.Request {
	r := get(prefix("census/"))
	switch u.Rand().IntN(4) {
	case 0:
		r = get(kv.Everything())
	case 1:
		r = get(kv.Span{Start: censusKey(u.Rand().IntN(censusKeys / 2)), End: censusKey(censusKeys/2 + u.Rand().IntN(censusKeys/2))})
	}
	r.Range.Serializable = !u.one(4)
	r.Range.CountOnly = u.one(4)
	r.Range.KeysOnly = u.one(3)
	if u.one(4) {
		r.Range.Limit = 1 + int64(u.Rand().IntN(censusKeys))
	}
	return r
}

// both looks at two parts of the keys at once, as they are at one revision.
func (u *user) both() *kv.Request {
	first, second := u.census().Range, u.census().Range
	first.Serializable, second.Serializable = true, true
	return txn(nil, []kv.Op{{Range: first}, {Range: second}}, nil)
}

// checkCensus: a list of a node's own state comes to what has been written, whatever shard that is in and though the others write nothing.
func checkCensus(c Client) {
	u := newUser(c, "census")
	for _, i := range []int{0, censusKeys - 1} {
		var at kv.Revision
		u.untilDone("a write", censusPatience, func() error {
			answer, err := u.insist(put(censusKey(i), u.value()))
			if err == nil {
				at = answer.Revision
			}
			return err
		})
		r := get(prefix("census/"))
		r.Range.Serializable = true
		for node := 1; node <= u.Nodes(); node++ {
			u.untilDone(fmt.Sprintf("that a list of what node %d has comes to revision %d", node, at), censusPatience, func() error {
				answer, err := u.Do(node, r, 0)
				if err == nil && answer.Revision < at {
					err = fmt.Errorf("it is as of revision %d", answer.Revision)
				}
				return err
			})
		}
	}
}

// censusPatience is how long a healthy node may take to have what was written.
const censusPatience = 10 * time.Second
