package workload

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// setWorkload: every client adds its elements one after the other, each until it is told that the element is there. So the elements of a
// client that are there are the first ones, without a hole, at any moment.
var setWorkload = Workload{
	Name: "set",
	Client: func(c Client) {
		u := newUser(c, "set")
		next := 1
		u.loop(u.pause(), func() {
			key := fmt.Appendf(nil, "set/%03d/%05d", u.Number(), next)
			_, err := u.insist(txn([]kv.Compare{ifCreated(key, 0)}, []kv.Op{opPut(key, u.value())}, []kv.Op{opGet(single(key))}))
			if err == nil {
				next++
			}
			if u.one(5 + next/5) { // all reads together cost about as much as the set has elements
				checkSet(u)
			}
		})
	},
	Check: func(c Client) { checkSet(newUser(c, "set check")) },
}

func checkSet(u *user) {
	answer, err := u.insist(get(prefix("set/")))
	if err != nil {
		return
	}
	if n := int64(len(answer.Range.KVs)); n != answer.Range.Count {
		u.Fail("the set has %d elements, but counts %d", n, answer.Range.Count)
	}
	owner, last := "", 0
	for _, e := range answer.Range.KVs {
		parts := strings.Split(string(e.Key), "/")
		number, err := strconv.Atoi(parts[2])
		if err != nil {
			u.Fail("the set has an element %q that nobody added", e.Key)
			return
		}
		if parts[1] != owner {
			owner, last = parts[1], 0
		}
		if number != last+1 {
			u.Fail("at revision %d the set lacks element %d of client %s, but has element %d", answer.Revision, last+1, owner, number)
			return
		}
		last = number
	}
	u.Mark("set read")
}

// bankWorkload: money moves between accounts, and every read of all accounts sums up to the same.
var bankWorkload = Workload{
	Name: "bank",
	Setup: func(c Client) {
		u := newUser(c, "bank setup")
		var open []kv.Op
		for i := range accounts {
			open = append(open, opPut(accountKey(i), u.amount(startAmount)))
		}
		_, _ = u.insist(txn([]kv.Compare{ifCreated(accountKey(0), 0)}, open, nil))
	},
	Client: func(c Client) {
		u := newUser(c, "bank")
		u.loop(u.pause(), func() { transfer(u) })
	},
	Check: func(c Client) {
		u := newUser(c, "bank check")
		if answer, err := u.insist(get(prefix("bank/"))); err == nil {
			checkBank(u, answer)
		}
	},
}

const (
	accounts    = 5
	startAmount = 100
)

func accountKey(i int) []byte { return fmt.Appendf(nil, "bank/%d", i) }

func (u *user) amount(n int) []byte { return fmt.Appendf(nil, "%d %s", n, u.value()) }

func amountOf(value []byte) int {
	number, _, _ := strings.Cut(string(value), " ")
	n, _ := strconv.Atoi(number)
	return n
}

// checkBank tells whether the accounts are open.
func checkBank(u *user, answer *kv.Response) bool {
	sum := 0
	for _, e := range answer.Range.KVs {
		sum += amountOf(e.Value)
	}
	switch n := len(answer.Range.KVs); {
	case n == 0:
		return false
	case n != accounts:
		u.Fail("at revision %d the bank has %d accounts of %d", answer.Revision, n, accounts)
	case sum != accounts*startAmount:
		u.Fail("at revision %d the accounts sum up to %d, not to %d", answer.Revision, sum, accounts*startAmount)
	}
	u.Mark("bank read")
	return true
}

// readBank reads account by account in one transaction, which shows the same moment of all.
func readBank(u *user) {
	var ops []kv.Op
	for i := range accounts {
		ops = append(ops, opGet(single(accountKey(i))))
	}
	answer, err := u.insist(txn(nil, ops, nil))
	if err != nil {
		return
	}
	whole := &kv.Response{Revision: answer.Revision, Range: &kv.RangeResponse{}}
	for i := range answer.Txn.Responses {
		whole.Range.KVs = append(whole.Range.KVs, answer.Txn.Responses[i].Range.KVs...)
	}
	checkBank(u, whole)
}

func transfer(u *user) {
	if u.one(8) {
		readBank(u)
	}
	r := get(prefix("bank/"))
	switch {
	case u.one(6):
		r.Range.Serializable = true
	case u.one(6):
		r.Range.Revision = max(0, u.newest-kv.Revision(u.Rand().IntN(20)))
	}
	answer, err := u.insist(r)
	if err != nil || !checkBank(u, answer) {
		return
	}
	// Stale reads may lead to a transfer too: its compares decide.
	from := answer.Range.KVs[u.Rand().IntN(accounts)]
	to := answer.Range.KVs[u.Rand().IntN(accounts)]
	moved := u.Rand().IntN(amountOf(from.Value) + 1)
	if string(from.Key) == string(to.Key) || moved == 0 {
		return
	}
	answer, err = u.do(txn(
		[]kv.Compare{ifModified(from.Key, from.ModRevision), ifModified(to.Key, to.ModRevision)},
		[]kv.Op{opPut(from.Key, u.amount(amountOf(from.Value)-moved)), opPut(to.Key, u.amount(amountOf(to.Value)+moved))},
		[]kv.Op{opGet(prefix("bank/"))}))
	if err == nil && answer.Txn.Succeeded {
		u.Mark("bank transfer")
	}
}

// counterWorkload: clients count one key up by compare and swap. The key is never deleted, so its version is the count.
var counterWorkload = Workload{Name: "counter", Client: func(c Client) {
	u := newUser(c, "counter")
	key, last := []byte("counter/0"), int64(0)
	u.loop(u.pause(), func() {
		answer, err := u.insist(get(single(key)))
		if err != nil {
			return
		}
		var now kv.KeyValue
		if len(answer.Range.KVs) > 0 {
			now = answer.Range.KVs[0]
		}
		count := int64(amountOf(now.Value))
		switch {
		case count != now.Version:
			u.Fail("at revision %d the counter is %d, but was put %d times", answer.Revision, count, now.Version)
		case count < last:
			u.Fail("at revision %d the counter is %d, it was %d before", answer.Revision, count, last)
		}
		answer, err = u.do(txn([]kv.Compare{ifModified(key, now.ModRevision)}, []kv.Op{opPut(key, u.amount(int(count)+1))}, nil))
		if err == nil && answer.Txn.Succeeded {
			count++
			u.Mark("counted")
		}
		last = count
	})
}}
