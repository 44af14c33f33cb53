package workload

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// user is a client with habits: it stays with a node until that disappoints it, and is patient or not.
type user struct {
	Client
	name   string // of the workload
	node   int
	values int
	// newest is the highest revision that it was answered.
	newest kv.Revision
}

func newUser(c Client, name string) *user {
	return &user{Client: c, name: name, node: 1 + c.Rand().IntN(c.Nodes())}
}

func (u *user) one(in int) bool { return u.Rand().IntN(in) == 0 }

// value returns one that nobody puts again. Some are longer than the bounds of small runs allow for one message.
func (u *user) value() []byte {
	u.values++
	value := fmt.Appendf(nil, "%s-%d-%d", u.name, u.Number(), u.values)
	if u.one(60) {
		value = append(value, bytes.Repeat([]byte{'.'}, 100+u.Rand().IntN(700))...)
	}
	return value
}

// patience is how long the client waits for one answer.
func (u *user) patience() time.Duration {
	return [...]time.Duration{300 * time.Millisecond, time.Second, 2 * time.Second, 0}[u.Rand().IntN(4)]
}

// do asks once. What may have been lost is the caller's to think about.
func (u *user) do(r *kv.Request) (*kv.Response, error) {
	if u.one(25) {
		u.move()
	}
	answer, err := u.Do(u.node, r, u.patience())
	switch {
	case err == nil:
		u.newest = max(u.newest, answer.Revision)
	case !AnsweredByStore(err):
		u.move()
		if errors.Is(err, kv.ErrTooManyRequests) {
			_ = u.Sleep(u.between(5*time.Millisecond, 50*time.Millisecond)) // whoever is to end finds out by itself
		}
	}
	return answer, err
}

// insist asks until the store answers: for reads, and for writes that do no harm when they take effect again.
// An error is the store's answer, or ErrEnded.
func (u *user) insist(r *kv.Request) (*kv.Response, error) {
	for {
		answer, err := u.do(r)
		if err == nil || AnsweredByStore(err) || errors.Is(err, ErrEnded) {
			return answer, err
		}
		if u.Ended() || u.Sleep(u.between(20*time.Millisecond, 300*time.Millisecond)) != nil {
			return nil, ErrEnded
		}
	}
}

// move turns to another node, if there is one.
func (u *user) move() {
	if n := u.Nodes(); n > 1 {
		u.node = 1 + (u.node+u.Rand().IntN(n-1))%n
	}
}

func (u *user) between(low, high time.Duration) time.Duration {
	return low + time.Duration(u.Rand().Int64N(int64(high-low)))
}

// pause is how long the client thinks between two steps, on average.
func (u *user) pause() time.Duration {
	return [...]time.Duration{2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond}[u.Rand().IntN(3)]
}

// loop does step again and again, with pauses, until the client is to finish. One that hardly pauses works in bursts: a
// few hundred requests at a time bring out what happens under load, and thousands would only make runs rare.
func (u *user) loop(pause time.Duration, step func()) {
	burst := u.Now() + u.between(100*time.Millisecond, 400*time.Millisecond)
	for !u.Ended() {
		step()
		think := u.between(0, 2*pause)
		if pause < hurried && u.Now() >= burst {
			think = u.between(100*time.Millisecond, 700*time.Millisecond)
			burst = u.Now() + think + u.between(100*time.Millisecond, 400*time.Millisecond)
		}
		if u.Sleep(think) != nil {
			return
		}
	}
}

// hurried is the pause below which a client works in bursts.
const hurried = 5 * time.Millisecond

// AnsweredByStore tells whether the error is an answer about the request and the state of the store, rather than
// about a node or a connection.
func AnsweredByStore(err error) bool {
	switch kv.CodeOf(err) {
	case 0, kv.ErrFenced.Code, kv.ErrShardNotHere.Code, kv.ErrTooManyRequests.Code, kv.ErrNoLeader.Code, kv.ErrNotLeader.Code, kv.ErrLeaderChanged.Code, kv.ErrTimeout.Code,
		kv.ErrOutcomeUnknown.Code, kv.ErrStopped.Code, kv.ErrUnhealthy.Code, kv.ErrCanceled.Code:
		return false
	}
	return true
}

// untilDone does a step that may fail until it succeeds: for Setup and Check, on a healthy cluster.
func (u *user) untilDone(what string, limit time.Duration, step func() error) {
	deadline := u.Now() + limit
	for {
		err := step()
		if err == nil || errors.Is(err, ErrEnded) {
			return
		}
		if u.Now() > deadline {
			u.Fail("%s did not succeed within %v: %v", what, limit, err)
			return
		}
		if u.Sleep(100*time.Millisecond) != nil {
			return
		}
	}
}

// Requests, in short.

func prefix(p string) kv.Span {
	end := []byte(p)
	end[len(end)-1]++
	return kv.Span{Start: []byte(p), End: end}
}

func single(key []byte) kv.Span { return kv.Span{Start: key} }

func put(key, value []byte) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: value}}
}

func get(span kv.Span) *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: span}}
}

func remove(span kv.Span) *kv.Request {
	return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: span}}
}

func txn(compare []kv.Compare, success, failure []kv.Op) *kv.Request {
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: compare, Success: success, Failure: failure}}
}

func ifCreated(key []byte, at kv.Revision) kv.Compare {
	return kv.Compare{Span: single(key), Target: kv.CompareCreate, Integer: int64(at)}
}

func ifModified(key []byte, at kv.Revision) kv.Compare {
	return kv.Compare{Span: single(key), Target: kv.CompareMod, Integer: int64(at)}
}

func opPut(key, value []byte) kv.Op { return kv.Op{Put: &kv.PutRequest{Key: key, Value: value}} }

func opGet(span kv.Span) kv.Op { return kv.Op{Range: &kv.RangeRequest{Span: span}} }
