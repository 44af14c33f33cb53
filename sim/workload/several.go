package workload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// Workloads whose transactions are about several keys each, which may be in several shards. Each holds something that is true of all its keys together.

// cycleWorkload: keys point at each other, and all of them are one ring. A transaction of three keys in a row changes their order, so it stays one.
var cycleWorkload = Workload{
	Name:    "cycle",
	Special: true,
	Setup: func(c Client) {
		u := newUser(c, "cycle setup")
		var open []kv.Op
		for i := range ringKeys {
			open = append(open, opPut(ringKey(i), u.amount((i+1)%ringKeys)))
		}
		_, _ = u.insist(txn([]kv.Compare{ifCreated(ringKey(0), 0)}, open, nil))
	},
	Client: func(c Client) {
		u := newUser(c, "cycle")
		u.loop(u.pause(), func() {
			if u.one(4) {
				checkRing(u)
				return
			}
			rotate(u)
		})
	},
	Check: func(c Client) { checkRing(newUser(c, "cycle check")) },
}

const ringKeys = 8

func ringKey(i int) []byte { return fmt.Appendf(nil, "cycle/%d", i) }

// rotate has a -> b -> c -> d become a -> c -> b -> d.
func rotate(u *user) {
	at := [4]int{u.Rand().IntN(ringKeys)}
	var seen [3]kv.KeyValue
	for i := range seen {
		answer, err := u.insist(get(single(ringKey(at[i]))))
		if err != nil || len(answer.Range.KVs) == 0 {
			return
		}
		seen[i] = answer.Range.KVs[0]
		at[i+1] = amountOf(seen[i].Value)
	}
	if at[0] == at[1] || at[1] == at[2] || at[0] == at[2] {
		return // somebody has changed it between the reads
	}
	compares := make([]kv.Compare, len(seen))
	for i := range seen {
		compares[i] = ifModified(seen[i].Key, seen[i].ModRevision)
	}
	answer, err := u.do(txn(compares, []kv.Op{
		opPut(seen[0].Key, u.amount(at[2])), opPut(seen[2].Key, u.amount(at[1])), opPut(seen[1].Key, u.amount(at[3])),
	}, nil))
	if err == nil && answer.Txn.Succeeded {
		u.Mark("ring rotated")
	}
}

func checkRing(u *user) {
	r := get(prefix("cycle/"))
	r.Range.Serializable = u.one(4)
	answer, err := u.insist(r)
	if err != nil || len(answer.Range.KVs) == 0 {
		return
	}
	if len(answer.Range.KVs) != ringKeys {
		u.Fail("at revision %d the ring has %d keys of %d", answer.Revision, len(answer.Range.KVs), ringKeys)
		return
	}
	at, steps := 0, 0
	for steps == 0 || at != 0 && steps <= ringKeys {
		at = amountOf(answer.Range.KVs[at].Value)
		steps++
	}
	if steps != ringKeys {
		u.Fail("at revision %d the ring is closed after %d keys of %d", answer.Revision, steps, ringKeys)
	}
	u.Mark("ring read")
}

// appendWorkload: transactions append an element to several lists at once. So two elements that are in two lists are in the same order in both (of
// elements that no list has forgotten).
var appendWorkload = Workload{
	Name:    "append",
	Special: true,
	Client: func(c Client) {
		u := newUser(c, "append")
		next := 0
		u.loop(u.pause(), func() {
			lists, known := readLists(u)
			switch {
			case !known || u.one(4):
				return
			}
			next++
			element := fmt.Sprintf("%d.%d", u.Number(), next)
			var compares []kv.Compare
			var ops []kv.Op
			for _, i := range u.Rand().Perm(listCount)[:1+u.Rand().IntN(listCount)] {
				elements := append(slices.Clone(lists[i].elements), element)
				elements = elements[max(0, len(elements)-listLength):]
				compares = append(compares, ifModified(listKey(i), lists[i].modified))
				ops = append(ops, opPut(listKey(i), fmt.Appendf(nil, "%s %s", strings.Join(elements, ","), u.value())))
			}
			if answer, err := u.do(txn(compares, ops, nil)); err == nil && answer.Txn.Succeeded {
				u.Mark("appended")
			}
		})
	},
	Check: func(c Client) { readLists(newUser(c, "append check")) },
}

const (
	listCount  = 4
	listLength = 12 // older elements are forgotten
)

func listKey(i int) []byte { return fmt.Appendf(nil, "append/%d", i) }

type list struct {
	modified kv.Revision
	elements []string
}

// readLists reads the lists, each by itself or all in one range, and holds those of one moment against each other.
func readLists(u *user) (lists [listCount]list, known bool) {
	answer, err := u.insist(get(prefix("append/")))
	if err != nil {
		return lists, false
	}
	for _, e := range answer.Range.KVs {
		_, number, _ := strings.Cut(string(e.Key), "/")
		i, err := strconv.Atoi(number)
		if err != nil || i >= listCount {
			u.Fail("there is a list %q", e.Key)
			return lists, false
		}
		elements, _, _ := strings.Cut(string(e.Value), " ")
		lists[i] = list{e.ModRevision, strings.Split(elements, ",")}
	}
	for i := range lists {
		for j := range lists[:i] {
			checkOrder(u, answer.Revision, i, j, lists[i].elements, lists[j].elements)
		}
	}
	u.Mark("lists read")
	return lists, true
}

// checkOrder: what two lists have both is in the same order.
func checkOrder(u *user, at kv.Revision, i, j int, a, b []string) {
	last := -1
	for _, element := range a {
		place := slices.Index(b, element)
		if place < 0 {
			continue
		}
		if place <= last {
			u.Fail("at revision %d list %d has %v, list %d has %v: %s is not in the same order", at, i, a, j, b, element)
			return
		}
		last = place
	}
}

// uniqueWorkload: a row and its place in an index are there together, or neither is.
var uniqueWorkload = Workload{
	Name:    "unique",
	Special: true,
	Client: func(c Client) {
		u := newUser(c, "unique")
		u.loop(u.pause(), func() {
			i := u.Rand().IntN(uniqueRows)
			row, index := rowKey(i), indexKey(i)
			switch u.Rand().IntN(4) {
			case 0:
				checkIndex(u)
			case 1: // both branches are about the same shards
				_, _ = u.do(txn([]kv.Compare{exists(row), exists(index)}, []kv.Op{opDelete(row), opDelete(index)},
					[]kv.Op{opGet(single(row)), opGet(single(index))}))
			default:
				answer, err := u.do(txn([]kv.Compare{ifCreated(row, 0), ifCreated(index, 0)}, []kv.Op{opPut(row, u.value()), opPut(index, u.value())},
					[]kv.Op{opGet(single(index)), opGet(single(row))}))
				if err != nil || answer.Txn.Succeeded {
					return
				}
				first, second := answer.Txn.Responses[0].Range, answer.Txn.Responses[1].Range
				if len(first.KVs) != len(second.KVs) {
					u.Fail("at revision %d of row %d there are %d keys in the index, and %d rows", answer.Revision, i, len(first.KVs), len(second.KVs))
				}
				u.Mark("row was there")
			}
		})
	},
	Check: func(c Client) { checkIndex(newUser(c, "unique check")) },
}

const uniqueRows = 5

func rowKey(i int) []byte   { return fmt.Appendf(nil, "unique/row/%d", i) }
func indexKey(i int) []byte { return fmt.Appendf(nil, "unique/by/%d", i) }

func exists(key []byte) kv.Compare {
	return kv.Compare{Span: single(key), Target: kv.CompareVersion, Result: kv.CompareGreater, Integer: 0}
}

func opDelete(key []byte) kv.Op {
	return kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: single(key)}}
}

// checkIndex reads rows and index at once.
func checkIndex(u *user) {
	r := get(prefix("unique/"))
	r.Range.Serializable = u.one(4)
	answer, err := u.insist(r)
	if err != nil {
		return
	}
	var there [uniqueRows]kv.Revision
	count := 0
	for _, e := range answer.Range.KVs {
		i, err := strconv.Atoi(string(e.Key[len(e.Key)-1:]))
		if err != nil || i >= uniqueRows {
			u.Fail("there is a row %q", e.Key)
			return
		}
		if there[i] == 0 {
			there[i] = e.ModRevision
			count++
			continue
		}
		if there[i] != e.ModRevision {
			u.Fail("at revision %d row %d and its place in the index are of revisions %d and %d", answer.Revision, i, there[i], e.ModRevision)
		}
		count--
	}
	if count != 0 {
		u.Fail("at revision %d there are %d rows without their place in the index, or the other way round", answer.Revision, count)
	}
	u.Mark("index read")
}
