package server

import (
	"context"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
	"github.com/quoratedb/quorate/timeline/calendar"
)

// timesInterval is how often the store keeps which revision it has, while it is written to.
const timesInterval = time.Second

// recordTimes has the store keep when it had which revision, wherever the system shard is led.
func (s *Server) recordTimes() {
	ticker := time.NewTicker(timesInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
			revision := s.revision() // before the clock is read: it was issued by then
			s.shard.RecordTime(revision, calendar.Millis(time.Now()))
		}
	}
}

// pointsPerMessage is how many points are in a message.
const pointsPerMessage = 4096

// Times sends what is known of the times of revisions, as new as anybody was told before the call.
func (n localNode) Times(ctx context.Context, req native.TimesRequest, send func(*native.TimesPart) error) error {
	s := n.s
	if err := s.gateway.CatchUp(ctx, kv.SystemShard); err != nil {
		return err
	}
	series := s.shard.Times()
	part := native.TimesPart{Known: series.Known(req.At, s.revision(), calendar.Millis(time.Now())), Compacted: s.shard.Compacted()}
	if err := send(&part); err != nil || !req.All {
		return err
	}
	for points := series.Points(); len(points) > 0; {
		some := points[:min(pointsPerMessage, len(points))]
		points = points[len(some):]
		if err := send(&native.TimesPart{Points: some}); err != nil {
			return err
		}
	}
	return nil
}
