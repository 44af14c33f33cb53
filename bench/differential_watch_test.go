package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// watches are one watch stream of each system, on which the same is asked.
type watches struct {
	d             *differential
	etcd, quorate *watchStream
	ids           []int64 // that were created, in order; some are canceled since
	future        int64   // the latest start revision
}

// watchStream collects what a system sends.
type watchStream struct {
	name   string
	client pb.Watch_WatchClient

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with every message
	logs     map[int64][]note
	created  []*pb.WatchResponse
	progress int64
	err      error
}

func (d *differential) newWatches() *watches {
	w := d.watchesUntil(d.t.Context())
	w.created(&pb.WatchCreateRequest{Key: []byte("a stream without a watch is told no progress")})
	return w
}

func (d *differential) watchesUntil(ctx context.Context) *watches {
	return &watches{d: d, etcd: d.watchStream(ctx, d.etcd, 0), quorate: d.watchStream(ctx, d.quorate, d.chance.IntN(len(d.quorate.connections)))}
}

func (d *differential) watchStream(ctx context.Context, s *system, member int) *watchStream {
	client, err := pb.NewWatchClient(s.connections[member]).Watch(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	w := &watchStream{name: s.name, client: client, changed: make(chan struct{}), logs: map[int64][]note{}}
	go w.receive()
	return w
}

func (w *watchStream) receive() {
	for {
		r, err := w.client.Recv()
		w.mu.Lock()
		if err != nil {
			w.err = err
		} else {
			w.take(r)
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// note is an event, or a remark.
type note struct {
	event *mvccpb.Event
	text  string
}

// take notes a response: events one by one, for how many come at once is up to the system.
func (w *watchStream) take(r *pb.WatchResponse) {
	add := func(n note) { w.logs[r.WatchId] = append(w.logs[r.WatchId], n) }
	switch {
	case r.Created:
		w.created = append(w.created, r)
	case r.Canceled:
		add(note{text: fmt.Sprintf("canceled, compact revision %d, reason %q", r.CompactRevision, r.CancelReason)})
	case len(r.Events) == 0:
		w.progress = max(w.progress, r.Header.GetRevision())
	}
	for _, e := range r.Events {
		add(note{event: e})
		if r.Header.GetRevision() < e.Kv.GetModRevision() {
			add(note{text: fmt.Sprintf("the event is newer than its header, %d", r.Header.GetRevision())})
		}
	}
}

// wait waits until the condition, which holds the lock, is true.
func (w *watchStream) wait(ctx context.Context, condition func() bool) error {
	for {
		w.mu.Lock()
		done, err, changed := condition(), w.err, w.changed
		w.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *watchStream) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watches) streams() []*watchStream { return []*watchStream{w.etcd, w.quorate} }

func (w *watches) send(r *pb.WatchRequest) {
	for _, s := range w.streams() {
		if err := s.client.Send(r); err != nil {
			w.d.t.Fatalf("step %d: send %v: %v", w.d.step, r, err)
		}
	}
}

func (w *watches) act() {
	if len(w.ids) > 1 && w.d.flip(4) {
		w.cancel()
		return
	}
	w.create()
}

func (w *watches) create() {
	d := w.d
	r := w.request()
	if d.flip(3) {
		w.mutated(r)
		return
	}
	if r.StartRevision > 0 && r.StartRevision < d.compacted {
		d.compactedWatch(r)
		return
	}
	w.created(r)
}

func (w *watches) request() *pb.WatchCreateRequest {
	d := w.d
	key := d.key()
	r := &pb.WatchCreateRequest{Key: key, RangeEnd: d.end(key), PrevKv: d.flip(2), Fragment: d.flip(4), ProgressNotify: d.flip(4)}
	if d.flip(2) {
		r.StartRevision = d.at()
	}
	for range d.chance.IntN(4) / 2 {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(d.chance.IntN(5)/2))
	}
	if d.flip(6) {
		r.WatchId = d.chance.Int64N(40) - 3
	}
	return r
}

// mutated sends a request of which some bytes were changed on streams of its own, and then one that is answered for sure. What comes until
// then must be the same.
func (w *watches) mutated(r *pb.WatchCreateRequest) {
	d := w.d
	const last = 4711
	in := d.encode(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	in = d.mutate(in)
	after := d.encode(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("last"), WatchId: last}}})
	d.catchUpAll()
	member := d.chance.IntN(len(d.quorate.connections))
	etcd, quorate := w.untilCreated(d.etcd, 0, last, in, after), w.untilCreated(d.quorate, member, last, in, after)
	if etcd != quorate && !(complaint(etcd) && complaint(quorate)) {
		d.differ("watch requests of the bytes "+quoted(in), etcd, quorate)
	}
}

// untilCreated is what a stream answers to requests until a watch is created, or the stream ends: which watches are created and
// refused. What they get depends on time.
func (w *watches) untilCreated(s *system, member int, last int64, requests ...[]byte) string {
	ctx, cancel := w.d.limit()
	defer cancel()
	m := method{name: pb.Watch_Watch_FullMethodName}
	stream, err := s.connections[member].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, m.name, grpc.ForceCodec(raw{}))
	if err != nil {
		w.d.t.Fatal(err)
	}
	for _, in := range requests {
		if err := stream.SendMsg(&in); err != nil && !errors.Is(err, io.EOF) {
			w.d.t.Fatal(err)
		}
	}
	var text strings.Builder
	for {
		var out []byte
		if err := stream.RecvMsg(&out); err != nil {
			fmt.Fprintf(&text, "%v", err)
			return text.String()
		}
		var r pb.WatchResponse
		if err := proto.Unmarshal(out, &r); err != nil {
			w.d.t.Fatal(err)
		}
		if r.Created {
			fmt.Fprintf(&text, "watch %d at revision %d, refused: %v %s; ", r.WatchId, r.Header.GetRevision(), r.Canceled, r.CancelReason)
		}
		if r.Created && r.WatchId == last {
			return text.String()
		}
	}
}

// compactedWatch has streams of its own: those on which a compaction has ended a watch are told no progress any more by etcd.
func (d *differential) compactedWatch(r *pb.WatchCreateRequest) {
	ctx, cancel := d.limit()
	defer cancel()
	w := d.watchesUntil(ctx)
	w.created(r)
	for _, id := range w.ids {
		for _, s := range w.streams() {
			if err := s.wait(ctx, func() bool { return len(s.logs[id]) > 0 }); err != nil {
				d.t.Fatalf("step %d: %s does not end the watch %v: %v", d.step, s.name, r, err)
			}
		}
		if etcd, quorate := w.etcd.takeLog(id, d.withoutPrevious), w.quorate.takeLog(id, d.withoutPrevious); etcd != quorate {
			d.differ("watch "+prototext.MarshalOptions{}.Format(r), etcd, quorate)
		}
	}
}

// created creates a watch and compares the answers.
func (w *watches) created(r *pb.WatchCreateRequest) {
	d := w.d
	d.catchUpAll()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	ctx, cancel := d.limit()
	defer cancel()
	var answers []*pb.WatchResponse
	for _, s := range w.streams() {
		if err := s.wait(ctx, func() bool { return len(s.created) > 0 }); err != nil {
			d.t.Fatalf("step %d: create %v on %s: %v", d.step, r, s.name, err)
		}
		s.mu.Lock()
		clearIdentity(s.created[0].Header)
		answers = append(answers, s.created[0])
		s.created = s.created[1:]
		s.mu.Unlock()
	}
	if !proto.Equal(answers[0], answers[1]) {
		d.differ("watch "+prototext.MarshalOptions{}.Format(r), answers[0].String(), answers[1].String())
	}
	if !answers[0].Canceled {
		w.ids = append(w.ids, answers[0].WatchId)
		w.future = max(w.future, r.StartRevision)
	}
}

// catchUpAll: a watch without a start revision starts after what its member has.
func (d *differential) catchUpAll() {
	for i := range d.quorate.connections {
		d.catchUp(i)
	}
}

func (w *watches) cancel() {
	w.compare()
	id := w.ids[1+w.d.chance.IntN(len(w.ids)-1)]
	if w.d.flip(6) {
		id = []int64{-1, 999}[w.d.chance.IntN(2)]
	}
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
	w.compare()
}

// compare waits until both have sent everything, and looks at it.
func (w *watches) compare() {
	if w.d.diverged {
		return
	}
	// While a watch waits for its start there is no progress.
	for w.d.revision < w.future && !w.d.diverged {
		w.d.both(methodPut, &pb.PutRequest{Key: []byte("progress")})
	}
	ctx, cancel := w.d.limit()
	defer cancel()
	for _, s := range w.streams() {
		w.settle(ctx, s)
	}
	for _, id := range append([]int64{-1, 999}, w.ids...) {
		etcd, quorate := w.etcd.takeLog(id, w.d.withoutPrevious), w.quorate.takeLog(id, w.d.withoutPrevious)
		if etcd != quorate {
			w.d.differ(fmt.Sprintf("what watch %d got", id), etcd, quorate)
		}
	}
}

// takeLog is what a watch got since it was last asked. Previous values are left out of the revisions named.
func (w *watchStream) takeLog(id int64, withoutPrevious map[int64]bool) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, n := range w.logs[id] {
		if n.event != nil {
			if withoutPrevious[n.event.Kv.GetModRevision()] {
				n.event.PrevKv = nil
			}
			n.text = prototext.MarshalOptions{}.Format(n.event)
		}
		lines = append(lines, n.text)
	}
	delete(w.logs, id)
	return strings.Join(lines, "\n\t\t")
}

// settle asks for progress until it is told, which is after all events. While watches catch up etcd does not answer.
func (w *watches) settle(ctx context.Context, s *watchStream) {
	s.mu.Lock()
	s.progress = 0
	s.mu.Unlock()
	for {
		if err := s.client.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
			w.d.t.Fatalf("step %d: %s's stream: %v, received %v", w.d.step, s.name, err, s.end())
		}
		attempt, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		err := s.wait(attempt, func() bool { return s.progress >= w.d.revision })
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil || attempt.Err() == nil {
			w.d.t.Fatalf("step %d: %s tells no progress to revision %d: %v", w.d.step, s.name, w.d.revision, err)
		}
	}
}
