package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// streamWorkload: ranges are read portion by portion from one state, by clients that take their time, while others write the same keys.
var streamWorkload = Workload{Name: "stream", Special: true, Client: func(c Client) {
	u := newUser(c, "stream")
	u.loop(u.pause(), func() {
		switch key := fmt.Appendf(nil, "s/%02d", u.Rand().IntN(30)); {
		case u.one(2):
			_, _ = u.do(put(key, u.value()))
		case u.one(6):
			_, _ = u.do(remove(single(key)))
		default:
			u.stream(prefix("s/"))
		}
	})
}}

// stream reads a span slowly.
func (u *user) stream(span kv.Span) {
	r := get(span)
	r.Range.Serializable = u.one(2)
	r.Range.KeysOnly = u.one(8)
	if u.one(4) {
		r.Range.Revision = max(1, u.newest-kv.Revision(u.Rand().IntN(20)))
	}
	if u.one(3) {
		r.Range.Limit = 1 + int64(u.Rand().IntN(20))
	}
	portion := int64(1 + u.Rand().IntN(400))
	if u.one(4) {
		portion = 0
	}
	answer, err := u.List(u.node, r, portion, u.patience())
	switch {
	case err == nil:
		u.newest = max(u.newest, answer.Revision)
		u.Mark("range streamed")
	case !AnsweredByStore(err):
		u.move()
	}
}

// echoWorkload: streams with several equal watches, of which more come while the client, who reads slowly, has not got what is there for the others.
var echoWorkload = Workload{Name: "echo", Special: true, Client: func(c Client) {
	u := newUser(c, "echo")
	for !u.Ended() {
		u.echo()
		if u.Sleep(u.between(10*time.Millisecond, 100*time.Millisecond)) != nil {
			return
		}
	}
}}

func (u *user) echo() {
	stream, err := u.Watch(u.node)
	if err != nil {
		u.move()
		return
	}
	defer stream.Close()
	r := watch.CreateRequest{Span: prefix("e/"), PrevKV: u.one(2)}
	var running []watch.ID
	for !u.Ended() {
		switch n := u.Rand().IntN(12); {
		case n < 2 && len(running) < 6:
			if u.one(3) && u.newest > 0 {
				r.StartRevision = max(1, u.newest-kv.Revision(u.Rand().IntN(30)))
			}
			stream.Create(r)
		case n == 2 && len(running) > 1:
			stream.Cancel(running[0])
			running = running[1:]
		case n < 9: // a burst of them fills the stream's outbox
			_, _ = u.do(put(fmt.Appendf(nil, "e/%d", u.Rand().IntN(4)), u.value()))
			continue
		}
		b, err := stream.Next(u.between(time.Millisecond, 60*time.Millisecond))
		switch {
		case errors.Is(err, ErrClientTimeout):
		case err != nil:
			u.Mark("watch broken")
			return
		case b.Kind == watch.KindCreated && b.Err == nil:
			running = append(running, b.IDs...)
		case b.Kind == watch.KindEvents && len(b.IDs) > 1:
			u.Mark("events for several watches")
		}
	}
}
