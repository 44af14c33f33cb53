package oracle

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/workload"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// fakeStream is a stream of watches of the fake.
type fakeStream struct {
	f        *fake
	client   *fakeClient
	node     int
	watches  []*fakeWatch
	nextID   watch.ID
	inbox    []watch.Batch
	last     time.Duration // when the last message arrives
	sends    time.Duration // when the last request arrives
	broken   bool
	wake     func(func())
	pumping  bool
	progress time.Duration
}

type fakeWatch struct {
	id      watch.ID
	request watch.CreateRequest
	next    kv.Revision
	told    bool // events since the last periodic progress
}

// fakeMessage is a message before it is put into package watch's words.
type fakeMessage struct {
	watch.Batch
	watch  *fakeWatch
	events []kv.Event
}

func (c *fakeClient) Watch(node int) (workload.WatchStream, error) {
	if c.Sleep(c.f.delay()) != nil {
		return nil, workload.ErrEnded
	}
	if !c.f.calm && c.f.one(10) {
		return nil, workload.ErrConnection
	}
	s := &fakeStream{f: c.f, client: c, node: node}
	c.f.streams = append(c.f.streams, s)
	return s, nil
}

// tell lets something happen at the node, in order.
func (s *fakeStream) tell(do func()) {
	s.sends = max(s.sends, s.f.now+s.f.delay())
	s.f.after(s.sends-s.f.now, func() {
		if !s.broken {
			do()
		}
	})
}

func (s *fakeStream) Create(r watch.CreateRequest) {
	s.tell(func() {
		now := s.f.store.Revision()
		refused := error(nil)
		if len(r.Span.Start) == 0 {
			r.Span.Start = []byte{0}
		}
		switch {
		case r.StartRevision < 0:
			refused = kv.ErrCompacted
		case r.Span.Empty():
			refused = watch.ErrEmptyRange
		case r.ID != watch.AutoID && s.runs(r.ID):
			refused = watch.ErrDuplicateID
		}
		if refused != nil {
			s.send(&fakeMessage{Batch: watch.Batch{Kind: watch.KindCreated, IDs: []watch.ID{watch.NoID}, Revision: now, Err: refused}})
			return
		}
		w := &fakeWatch{id: r.ID, request: r, next: r.StartRevision}
		if r.ID == watch.AutoID {
			for s.runs(s.nextID) {
				s.nextID++
			}
			w.id = s.nextID
			s.nextID++
		}
		if w.next == 0 {
			w.next = now + 1
		}
		s.watches = append(s.watches, w)
		s.send(&fakeMessage{watch: w, Batch: watch.Batch{Kind: watch.KindCreated, IDs: []watch.ID{w.id}, Revision: now}})
		s.pumpSoon()
	})
}

func (s *fakeStream) runs(id watch.ID) bool {
	return slices.ContainsFunc(s.watches, func(w *fakeWatch) bool { return w.id == id })
}

func (s *fakeStream) Cancel(id watch.ID) {
	s.tell(func() {
		if i := slices.IndexFunc(s.watches, func(w *fakeWatch) bool { return w.id == id }); i >= 0 {
			w := s.watches[i]
			s.watches = slices.Delete(s.watches, i, i+1)
			s.send(&fakeMessage{watch: w, Batch: watch.Batch{Kind: watch.KindCanceled, IDs: []watch.ID{id}, Revision: s.f.store.Revision()}})
		}
	})
}

func (s *fakeStream) Progress() {
	s.tell(func() {
		now := s.f.store.Revision()
		s.pump()
		if len(s.watches) == 0 || slices.ContainsFunc(s.watches, func(w *fakeWatch) bool { return w.request.StartRevision > now }) {
			return
		}
		s.send(&fakeMessage{Batch: watch.Batch{Kind: watch.KindProgress, IDs: []watch.ID{watch.NoID}, Revision: now}})
	})
}

// pumpSoon delivers what is new, after a while: so several revisions come in one message.
func (s *fakeStream) pumpSoon() {
	if s.pumping || s.broken {
		return
	}
	s.pumping = true
	s.f.after(s.f.delay(), func() {
		s.pumping = false
		s.pump()
		if !s.f.calm && s.f.one(150) {
			s.breakNow()
		}
	})
}

func (s *fakeStream) pump() {
	if s.broken {
		return
	}
	f := s.f
	now := f.store.Revision()
	for _, w := range slices.Clone(s.watches) {
		if w.next < f.store.Compacted() {
			s.watches = slices.DeleteFunc(s.watches, func(other *fakeWatch) bool { return other == w })
			s.send(&fakeMessage{watch: w, Batch: watch.Batch{Kind: watch.KindCanceled, IDs: []watch.ID{w.id}, Revision: now, CompactRevision: f.store.Compacted()}})
			continue
		}
		if now < w.next {
			continue
		}
		events := slices.DeleteFunc(f.store.Events(w.request.Span, w.next, now), func(e kv.Event) bool {
			return e.Type == kv.EventPut && w.request.Filters&watch.FilterNoPut != 0 || e.Type == kv.EventDelete && w.request.Filters&watch.FilterNoDelete != 0
		})
		for i := range events {
			if !w.request.PrevKV || events[i].KV.ModRevision <= f.store.Compacted() {
				events[i].Prev = nil
			}
		}
		w.next = now + 1
		if len(events) > 0 {
			w.told = true
			s.send(&fakeMessage{watch: w, events: events, Batch: watch.Batch{Kind: watch.KindEvents, IDs: []watch.ID{w.id},
				Revision: events[len(events)-1].KV.ModRevision, PrevKV: w.request.PrevKV}})
		}
	}
}

// tick sends periodic progress.
func (s *fakeStream) tick() {
	if s.broken || s.f.now < s.progress {
		return
	}
	s.progress = s.f.now + 400*time.Millisecond
	s.pump()
	now := s.f.store.Revision()
	for _, w := range s.watches {
		if w.request.ProgressNotify && !w.told && w.request.StartRevision <= now {
			s.send(&fakeMessage{watch: w, Batch: watch.Batch{Kind: watch.KindProgress, IDs: []watch.ID{w.id}, Revision: now}})
		}
		w.told = false
	}
}

// send lets a message travel, after lies had their turn.
func (s *fakeStream) send(m *fakeMessage) {
	messages := []*fakeMessage{m}
	if s.f.lies.message != nil {
		messages = s.f.lies.message(s, m)
	}
	for _, m := range messages {
		b := m.Batch
		for i := range m.events {
			e := &m.events[i]
			b.Events = append(b.Events, watch.NewEvent(&mvcc.Effect{Key: e.KV.Key, Value: e.KV.Value, At: mvcc.Locator{Rev: e.KV.ModRevision},
				Create: e.KV.CreateRevision, Version: e.KV.Version, Lease: e.KV.Lease}, e.Prev))
		}
		s.last = max(s.last, s.f.now+s.f.delay())
		s.f.after(s.last-s.f.now, func() {
			if !s.broken {
				s.inbox = append(s.inbox, b)
				s.notify()
			}
		})
	}
}

func (s *fakeStream) notify() {
	if wake := s.wake; wake != nil {
		s.wake = nil
		wake(func() {})
	}
}

func (s *fakeStream) breakNow() {
	s.broken = true
	s.notify()
}

func (s *fakeStream) Next(timeout time.Duration) (watch.Batch, error) {
	if len(s.inbox) == 0 && !s.broken && !s.client.over {
		s.client.wait(timeout, func(wake func(func())) { s.wake = wake })
		s.wake = nil
	}
	switch {
	case s.client.over:
		return watch.Batch{}, workload.ErrEnded
	case len(s.inbox) > 0:
		b := s.inbox[0]
		s.inbox = s.inbox[1:]
		return b, nil
	case s.broken:
		return watch.Batch{}, workload.ErrConnection
	}
	return watch.Batch{}, workload.ErrClientTimeout
}

func (s *fakeStream) Close() {
	s.broken = true
	s.f.streams = slices.DeleteFunc(s.f.streams, func(other *fakeStream) bool { return other == s })
}
