package oracle

import (
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/sim/workload"
)

// Recorded returns the client with what happens on its streams of watches taken down in the history.
func Recorded(c workload.Client, h *history.History) workload.Client {
	return recordedClient{c, h}
}

type recordedClient struct {
	workload.Client
	history *history.History
}

func (c recordedClient) Watch(node int) (workload.WatchStream, error) {
	stream, err := c.Client.Watch(node)
	if err != nil {
		return nil, err
	}
	c.history.Streams = append(c.history.Streams, history.Stream{Client: c.Number(), Node: node})
	return &recordedStream{WatchStream: stream, client: c, place: len(c.history.Streams) - 1}, nil
}

// recordedStream is a stream whose moves are taken down.
type recordedStream struct {
	workload.WatchStream
	client recordedClient
	place  int // in the history
}

func (s *recordedStream) note(m history.Move) {
	m.At = s.client.Now()
	stream := &s.client.history.Streams[s.place]
	stream.Moves = append(stream.Moves, m)
}

func (s *recordedStream) Create(r watch.CreateRequest) {
	span := r.Span
	if len(span.Start) == 0 {
		span.Start = []byte{0}
	}
	s.note(history.Move{Create: &history.WatchRequest{
		ID: int64(r.ID), Span: span, Start: r.StartRevision, PrevKV: r.PrevKV, ProgressNotify: r.ProgressNotify,
		NoPut: r.Filters&watch.FilterNoPut != 0, NoDelete: r.Filters&watch.FilterNoDelete != 0,
	}})
	s.WatchStream.Create(r)
}

func (s *recordedStream) Cancel(id watch.ID) {
	number := int64(id)
	s.note(history.Move{Cancel: &number})
	s.WatchStream.Cancel(id)
}

func (s *recordedStream) Progress() {
	s.note(history.Move{Ask: true})
	s.WatchStream.Progress()
}

func (s *recordedStream) Next(timeout time.Duration) (watch.Batch, error) {
	b, err := s.WatchStream.Next(timeout)
	if err == nil {
		s.note(history.Move{Message: messageOf(&b)})
	}
	return b, err
}

var messageKinds = [...]history.MessageKind{
	watch.KindCreated: history.Created, watch.KindCanceled: history.Canceled, watch.KindEvents: history.Events, watch.KindProgress: history.Progress,
}

func messageOf(b *watch.Batch) *history.Message {
	m := &history.Message{Kind: messageKinds[b.Kind], Revision: b.Revision, Compacted: b.CompactRevision, Err: b.Err}
	for _, id := range b.IDs {
		m.IDs = append(m.IDs, int64(id))
	}
	for _, e := range b.Events {
		m.Events = append(m.Events, e.Event(b.PrevKV))
	}
	return m
}
