package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

// Accounts are keys in different shards between which clients move money by transactions. Their sum is always the same, for everybody who reads them at one
// revision. An account that has nothing may be missing.
const (
	accounts       = 8
	moneyOfAccount = 100
)

func accountKey(i int) []byte { return fmt.Appendf(nil, "t/%d", i) }

func accountKeys() (keys []string) {
	for i := range accounts {
		keys = append(keys, string(accountKey(i)))
	}
	return keys
}

var accountSpan = kv.Span{Start: []byte("t/"), End: []byte("t0")}

// balance is what an account with the value has. Behind the number a value says who wrote it, so that it is like no other.
func balance(value []byte) (money int, err error) {
	number, _, _ := strings.Cut(string(value), " ")
	_, err = fmt.Sscanf(number, "%d", &money)
	return money, err
}

func (w *worker) balanceValue(money int) []byte { return fmt.Appendf(nil, "%d %s", money, w.value()) }

// openAccounts gives all accounts their money, at one revision.
func (r *recorder) openAccounts(t *testing.T, seed uint64) {
	t.Helper()
	w, err := newWorker(r, *workers, seed, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	deadline := time.Now().Add(servingBound)
	for {
		o := w.do(w.opening())
		if o.Outcome == history.Acknowledged {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the accounts cannot be opened: %v", o.Err)
		}
	}
}

func (w *worker) opening() *kv.Request {
	open := &kv.TxnRequest{Compare: []kv.Compare{{Span: kv.Span{Start: accountKey(0)}, Target: kv.CompareVersion}}}
	for i := range accounts {
		open.Success = append(open.Success, kv.Op{Put: &kv.PutRequest{Key: accountKey(i), Value: w.balanceValue(moneyOfAccount)}})
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: open}
}

// audit reads all accounts again and again, and adds up.
func (r *recorder) audit(t *testing.T, ctx context.Context, seed uint64) {
	w, err := newWorker(r, *workers+1, seed, *think)
	if err != nil {
		t.Error(err)
		return
	}
	defer w.close()
	reads := 0
	for ctx.Err() == nil {
		o := w.do(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: accountSpan, Serializable: w.random.IntN(4) == 0}})
		if o.Outcome != history.Acknowledged || len(o.Response.Range.KVs) == 0 { // a node may not have heard of any account yet
			continue
		}
		reads++
		if err := sums(o.Response.Range.KVs); err != nil {
			t.Errorf("a read at %v to %v, revision %d: %v", o.Invoke, o.Return, o.Response.Revision, err)
			return
		}
	}
	t.Logf("the accounts were added up %d times", reads)
}

func sums(kvs []kv.KeyValue) error {
	total := 0
	for i := range kvs {
		money, err := balance(kvs[i].Value)
		if err != nil {
			return err
		}
		total += money
	}
	if total != accounts*moneyOfAccount {
		return fmt.Errorf("the accounts have %d, not %d: %v", total, accounts*moneyOfAccount, kvs)
	}
	return nil
}

// transfer moves money between accounts if they are as they were read.
func (w *worker) transfer() {
	if o := w.do(readAccounts()); o.Outcome == history.Acknowledged {
		w.do(w.transferOf(o.Response.Range.KVs))
	}
}

func readAccounts() *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: accountSpan}}
}

// transferOf moves mostly some of the money from one account to another, sometimes all that two have to a third.
func (w *worker) transferOf(read []kv.KeyValue) *kv.Request {
	seen := map[string]*kv.KeyValue{}
	for i := range read {
		seen[string(read[i].Key)] = &read[i]
	}
	money := func(account int) int {
		if e := seen[string(accountKey(account))]; e != nil {
			has, _ := balance(e.Value) // a value that is none is the auditor's
			return has
		}
		return 0
	}
	request := &kv.TxnRequest{}
	unchanged := func(account int) {
		c := kv.Compare{Span: kv.Span{Start: accountKey(account)}, Target: kv.CompareMod}
		if e := seen[string(accountKey(account))]; e != nil {
			c.Integer = int64(e.ModRevision)
		}
		request.Compare = append(request.Compare, c)
		request.Failure = append(request.Failure, kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: accountKey(account)}}})
	}
	put := func(account, money int) {
		request.Success = append(request.Success, kv.Op{Put: &kv.PutRequest{Key: accountKey(account), Value: w.balanceValue(money), PrevKV: true}})
	}
	from := w.random.IntN(accounts - 1)
	to := (from + 2 + w.random.IntN(accounts-2)) % accounts // neither from nor the next
	unchanged(from)
	unchanged(to)
	if w.random.IntN(4) == 0 {
		unchanged(from + 1)
		pair := kv.Span{Start: accountKey(from), End: accountKey(from + 2)}
		request.Success = append(request.Success, kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: pair, PrevKV: true}})
		put(to, money(to)+money(from)+money(from+1))
	} else {
		some := w.random.IntN(money(from) + 1)
		put(from, money(from)-some)
		put(to, money(to)+some)
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: request}
}

// addUp rebuilds the accounts from all events. At no revision is a part of a transfer missing.
func addUp(full []kv.Event) (transfers int, problems []string) {
	state, at := map[string]kv.KeyValue{}, kv.Revision(0)
	check := func() {
		if len(state) == 0 {
			return
		}
		var kvs []kv.KeyValue
		for _, key := range accountKeys() {
			if e, exists := state[key]; exists {
				kvs = append(kvs, e)
			}
		}
		if err := sums(kvs); err != nil {
			problems = append(problems, fmt.Sprintf("events up to revision %d: %v", at, err))
		}
	}
	for i := range full {
		e := &full[i]
		if !accountSpan.Contains(e.KV.Key) {
			continue
		}
		if e.KV.ModRevision != at {
			check()
			at = e.KV.ModRevision
			transfers++
		}
		if e.Type == kv.EventPut {
			state[string(e.KV.Key)] = e.KV
		} else {
			delete(state, string(e.KV.Key))
		}
	}
	check()
	return transfers, problems
}

// decidedBound is how soon every transaction is decided when nothing is disturbed any more: a leader looks after what is undecided for a second, on a machine
// with other work.
const decidedBound = 10 * time.Second

// waitDecided waits until no transaction is undecided, as the program says.
func (c *cluster) waitDecided() {
	began := time.Now()
	var endpoints []string
	for _, n := range c.nodes {
		endpoints = append(endpoints, strings.TrimPrefix(n.clientURL, "http://"))
	}
	for {
		var list struct {
			Transactions []json.RawMessage `json:"transactions"`
			Unanswered   []string          `json:"unanswered"`
		}
		out, err := exec.Command(c.binary, "transactions", "--output", "json", "--endpoints", strings.Join(endpoints, ",")).Output()
		if err == nil {
			err = json.Unmarshal(out, &list)
		}
		took := time.Since(began)
		if err == nil && len(list.Transactions)+len(list.Unanswered) == 0 {
			c.t.Logf("no transaction was undecided after %v", took.Round(time.Millisecond))
			return
		}
		if took > decidedBound {
			c.t.Errorf("undecided transactions after %v: %s, %v", took, out, err)
			return
		}
		time.Sleep(50 * time.Millisecond) // a condition with a deadline
	}
}
