package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// watchWorkload: streams with several watches each, from the past, from now and from the future, that are resumed where they
// broke, and begun anew where history was compacted. The oracle judges what they deliver.
var watchWorkload = Workload{
	Name: "watch",
	Client: func(c Client) {
		w := &watchUser{user: newUser(c, "watch")}
		for !w.Ended() {
			if w.one(3) {
				w.wanted = nil
			}
			w.session()
			w.move()
			if w.Sleep(w.between(10*time.Millisecond, 200*time.Millisecond)) != nil {
				return
			}
		}
	},
	Check: func(c Client) {
		u := newUser(c, "watch check")
		for node := 1; node <= c.Nodes(); node++ {
			u.node = node
			u.untilDone(fmt.Sprintf("a watch of the whole history at node %d", node), 10*time.Second, u.watchAll)
		}
	},
}

// wanted is a watch that a client wants to have, over all streams.
type wanted struct {
	request watch.CreateRequest
	// next is the first revision it has not got; 0: it has not even begun.
	next kv.Revision
}

type watchUser struct {
	*user
	wanted  []*wanted
	stream  WatchStream
	asked   []*wanted // creations without an answer yet, in order
	running map[watch.ID]*wanted
	// boundary is the revision of a deletion up to which this client had history compacted; 0: none to look at.
	boundary kv.Revision
}

// session is the life of one stream.
func (w *watchUser) session() {
	stream, err := w.Watch(w.node)
	if err != nil {
		return
	}
	defer stream.Close()
	w.stream, w.asked, w.running = stream, nil, map[watch.ID]*wanted{}
	for _, one := range w.wanted {
		w.create(one)
	}
	for turn := range 5 + w.Rand().IntN(60) {
		if w.Ended() {
			w.finish()
			return
		}
		w.act(turn)
		b, err := stream.Next(w.between(time.Millisecond, 400*time.Millisecond))
		switch {
		case errors.Is(err, ErrClientTimeout):
		case err != nil:
			w.Mark("watch broken")
			return
		default:
			w.take(&b)
		}
	}
}

// finish waits, now that nothing is disturbed any more, until the stream has delivered everything: it must not have fallen asleep.
func (w *watchUser) finish() {
	answer, err := w.insist(put([]byte("w/end"), w.value()))
	if err != nil {
		return
	}
	for deadline := w.Now() + 15*time.Second; w.Now() < deadline; {
		w.stream.Progress()
		b, err := w.stream.Next(2 * time.Second)
		if err != nil && !errors.Is(err, ErrClientTimeout) {
			return
		}
		if err == nil {
			w.take(&b)
		}
		if w.hasAll(answer.Revision) {
			w.Mark("watch complete at the end")
			return
		}
	}
	w.Fail("for 15 s on a healthy cluster the stream at node %d has not told that everything up to revision %d is delivered", w.node, answer.Revision)
}

// hasAll tells whether every watch of the stream has everything up to a revision, or none ever says so: because one starts in
// the future, or there is none.
func (w *watchUser) hasAll(revision kv.Revision) bool {
	if len(w.asked) > 0 {
		return false
	}
	all := true
	for _, one := range w.running {
		if one.request.StartRevision > revision {
			return true
		}
		all = all && one.next > revision
	}
	return all
}

// act asks for something now and then.
func (w *watchUser) act(turn int) {
	switch n := w.Rand().IntN(20); {
	case n < 2 && len(w.wanted) < 4 || turn == 0 && len(w.wanted) == 0:
		one := w.want()
		w.wanted = append(w.wanted, one)
		w.create(one)
	case n < 5:
		w.stream.Progress()
	case n == 5:
		for id, one := range w.running {
			if len(w.running) == 1 { // maps have no order, so only when there is no choice
				w.stream.Cancel(id)
				w.drop(one)
			}
		}
	case n < 9:
		_, _ = w.do(put(fmt.Appendf(nil, "w/%d", w.Rand().IntN(3)), w.value()))
	case n == 9:
		w.compactAtDeletion()
	}
}

// compactAtDeletion compacts up to a deletion, which must still be there for a watch that starts at its revision.
func (w *watchUser) compactAtDeletion() {
	answer, err := w.do(remove(prefix("w/")))
	if err != nil || answer.DeleteRange.Deleted == 0 {
		return
	}
	if _, err := w.do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: answer.Revision}}); err == nil {
		w.boundary = answer.Revision
	}
}

// want invents a watch.
func (w *watchUser) want() *wanted {
	r := watch.CreateRequest{PrevKV: w.one(2), ProgressNotify: w.one(2)}
	switch w.Rand().IntN(5) {
	case 0, 1:
		r.Span = kv.Everything()
	case 2:
		r.Span = registerSpan
		if w.one(2) { // it ends at a key that exists
			r.Span = kv.Span{Start: registerKey(w.Rand().IntN(registers / 2)), End: registerKey(registers/2 + w.Rand().IntN(registers/2))}
		}
	case 3:
		r.Span = single(registerKey(w.Rand().IntN(registers)))
	case 4:
		if w.one(2) { // it ends at a key that exists
			r.Span = kv.Span{Start: []byte("w/0"), End: fmt.Appendf(nil, "w/%d", 1+w.Rand().IntN(2))}
			break
		}
		r.Span = prefix([]string{"w/", "l/", "d/", "random/", "nested/", "lock/"}[w.Rand().IntN(6)])
	}
	if w.one(4) {
		r.Filters = watch.Filter(1 + w.Rand().IntN(2))
	}
	switch w.Rand().IntN(6) {
	case 0, 1:
		r.StartRevision = max(0, w.newest-kv.Revision(w.Rand().IntN(50)))
	case 2:
		r.StartRevision = w.newest + kv.Revision(w.Rand().IntN(10))
	case 3:
		r.StartRevision = 1
	}
	if w.boundary > 0 && w.one(2) {
		r.Span, r.StartRevision, r.Filters, w.boundary = prefix("w/"), w.boundary, 0, 0
	}
	if w.one(6) {
		r.ID = watch.ID(1 + w.Rand().IntN(4))
	}
	switch w.Rand().IntN(40) {
	case 0:
		r.Span.End = r.Span.Start // nothing can lie in it
	case 1:
		r.StartRevision = -1
	}
	return &wanted{request: r, next: r.StartRevision}
}

func (w *watchUser) create(one *wanted) {
	r := one.request
	if one.next > 0 {
		r.StartRevision = one.next
	}
	w.asked = append(w.asked, one)
	w.stream.Create(r)
}

func (w *watchUser) take(b *watch.Batch) {
	w.newest = max(w.newest, b.Revision)
	switch b.Kind {
	case watch.KindCreated:
		w.created(b)
	case watch.KindCanceled:
		for _, id := range b.IDs {
			one := w.running[id]
			delete(w.running, id)
			if one != nil && b.CompactRevision > 0 {
				w.Mark("watch compacted")
				one.next = max(one.next, b.CompactRevision) // what was before is gone for this client
				w.create(one)
			}
		}
	case watch.KindEvents:
		for _, id := range b.IDs {
			if one := w.running[id]; one != nil {
				one.next = max(one.next, b.Events[len(b.Events)-1].Revision()+1)
			}
		}
		w.Mark("watch events")
	case watch.KindProgress:
		for id, one := range w.running {
			if contains(b.IDs, id) {
				one.next = max(one.next, b.Revision+1)
			}
		}
		w.Mark("watch progress")
	}
}

func contains(ids []watch.ID, id watch.ID) bool {
	for _, other := range ids {
		if other == id || other == watch.NoID {
			return true
		}
	}
	return false
}

func (w *watchUser) created(b *watch.Batch) {
	if len(w.asked) == 0 {
		w.Fail("a creation was answered that nobody asked for")
		return
	}
	one := w.asked[0]
	w.asked = w.asked[1:]
	if b.Err != nil {
		w.drop(one)
		return
	}
	if one.next <= 0 {
		one.next = b.Revision + 1
	} else if one.next > b.Revision+1 {
		w.Mark("watch of the future")
	}
	w.running[b.IDs[0]] = one
}

func (w *watchUser) drop(one *wanted) {
	for i, other := range w.wanted {
		if other == one {
			w.wanted = append(w.wanted[:i:i], w.wanted[i+1:]...)
			return
		}
	}
}

// watchAll watches everything from the oldest revision there is to the newest.
func (u *user) watchAll() error {
	answer, err := u.insist(get(single([]byte("none"))))
	if err != nil {
		return err
	}
	last, start := answer.Revision, kv.Revision(1)
	stream, err := u.Watch(u.node)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		stream.Create(watch.CreateRequest{Span: kv.Everything(), StartRevision: start, PrevKV: true})
		compacted, err := u.drain(stream, last)
		if compacted == 0 || err != nil {
			return err
		}
		start = compacted
	}
}

// drain reads until everything up to the last revision has come, or the watch is ended by a compaction.
func (u *user) drain(stream WatchStream, last kv.Revision) (compacted kv.Revision, err error) {
	for reached := kv.Revision(1); reached < last; {
		stream.Progress()
		b, err := stream.Next(2 * time.Second)
		switch {
		case err != nil:
			return 0, err
		case b.Kind == watch.KindCanceled:
			return b.CompactRevision, nil
		case b.Kind == watch.KindCreated && b.Err != nil:
			return 0, b.Err
		case b.Kind == watch.KindProgress:
			reached = b.Revision
		case b.Kind == watch.KindEvents:
			reached = b.Events[len(b.Events)-1].Revision()
		}
	}
	u.Mark("watched everything")
	return 0, nil
}
