package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// patientWorkload: clients that stay with one node each, whatever happens to it, and wait until it answers: what becomes of a request that
// a node holds while it is cut off, only such a client hears. They write most of the time.
var patientWorkload = Workload{Name: "patient", Special: true, Client: func(c Client) {
	u := newUser(c, "patient")
	u.node = 1 + c.Number()%c.Nodes()
	for !u.Ended() {
		key := fmt.Appendf(nil, "p/%d", u.Rand().IntN(6))
		r := put(key, u.value())
		switch u.Rand().IntN(12) {
		case 0:
			r = get(single(key))
		case 1:
			r = get(prefix("p/"))
		}
		// Longer than any node takes to answer, if only that it does not know.
		if answer, err := u.Do(u.node, r, 5*time.Second); err == nil {
			u.newest = max(u.newest, answer.Revision)
		}
		if u.Sleep(u.between(100*time.Microsecond, 16*time.Millisecond)) != nil {
			return
		}
	}
}}

// listenWorkload: clients that stay with one node each and watch everything there, without ever falling behind: what happens to the feed
// of a watch that has nothing to catch up with, only they hear.
var listenWorkload = Workload{Name: "listen", Special: true, Client: func(c Client) {
	u := newUser(c, "listen")
	u.node = 1 + c.Number()%c.Nodes()
	for !u.Ended() {
		u.listen()
		if u.Sleep(u.between(10*time.Millisecond, 100*time.Millisecond)) != nil {
			return
		}
	}
}}

// listen reads a stream until it breaks.
func (u *user) listen() {
	stream, err := u.Watch(u.node)
	if err != nil {
		return
	}
	defer stream.Close()
	stream.Create(watch.CreateRequest{Span: kv.Everything()})
	for !u.Ended() {
		if _, err := stream.Next(time.Second); err != nil && !errors.Is(err, ErrClientTimeout) {
			u.Mark("watch broken")
			return
		}
		u.Mark("watch events")
	}
}

// stayWorkload: clients that stay with one node each and read again and again what it has applied, however old that is: what it shows while it
// catches up, or while a snapshot takes the place of its state, only they see.
var stayWorkload = Workload{Name: "stay", Special: true, Client: func(c Client) {
	u := newUser(c, "stay")
	u.node = 1 + c.Number()%c.Nodes()
	for !u.Ended() {
		r := get(single(fmt.Appendf(nil, "p/%d", u.Rand().IntN(6))))
		switch u.Rand().IntN(4) {
		case 0:
			r = get(prefix("p/"))
			r.Range.CountOnly = u.one(2)
		case 1:
			r = get(single(registerKey(u.Rand().IntN(registers))))
		case 2:
			r = get(registerSpan)
			r.Range.Limit = int64(u.Rand().IntN(3))
		}
		r.Range.Serializable = true
		if answer, err := u.Do(u.node, r, 5*time.Second); err == nil {
			u.newest = max(u.newest, answer.Revision)
		}
		if u.Sleep(u.between(time.Millisecond, 12*time.Millisecond)) != nil {
			return
		}
	}
}}
