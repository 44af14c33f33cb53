package server

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// spaceQuota judges whether there is room for a request, by the size that was looked at last, what was answered since, and what
// is under way. It is a gateway.Space.
type spaceQuota struct {
	limit                   int64 // 0: none
	size, answered, pending atomic.Int64

	mu      sync.Mutex
	refused []func() // requests that found no room, until the alarm is raised
	closed  bool
	wanted  chan struct{} // has something in it when refused has
}

func newSpaceQuota(limit int64) *spaceQuota {
	return &spaceQuota{limit: max(0, limit), wanted: make(chan struct{}, 1)}
}

// look takes the size as of now. What is answered while it looks may count twice, rather than not at all.
func (q *spaceQuota) look(size func() int64) {
	q.answered.Store(0)
	q.size.Store(size())
}

func (q *spaceQuota) reached() bool { return q.limit > 0 && q.size.Load() >= q.limit }

// Admit implements gateway.Space.
func (q *spaceQuota) Admit(bytes int64) bool {
	pending := q.pending.Add(bytes)
	if q.limit == 0 || q.size.Load()+q.answered.Load()+pending < q.limit {
		return true
	}
	q.pending.Add(-bytes)
	return false
}

// Answered implements gateway.Space.
func (q *spaceQuota) Answered(bytes int64) {
	q.answered.Add(bytes)
	q.pending.Add(-bytes)
}

// Refuse implements gateway.Space. A request that found no room is refused once the whole cluster knows: whoever is told that the space
// is exceeded finds the alarm, as with etcd.
func (q *spaceQuota) Refuse(refuse func()) {
	q.mu.Lock()
	closed := q.closed
	if !closed {
		q.refused = append(q.refused, refuse)
	}
	q.mu.Unlock()
	if closed {
		refuse()
		return
	}
	select {
	case q.wanted <- struct{}{}:
	default:
	}
}

// answer refuses those that wait. closed: from now on nobody raises an alarm.
func (q *spaceQuota) answer(closed bool) {
	q.mu.Lock()
	refused := q.refused
	q.refused, q.closed = nil, q.closed || closed
	q.mu.Unlock()
	for _, refuse := range refused {
		refuse()
	}
}

// stateBytes is what counts against the quota: files, which are compressed, and what will be in
// files soon. Without the latter a quota below the size of a memtable would be overshot several times.
func stateBytes(m storage.Metrics) int64 { return m.DiskBytes + m.UnflushedBytes }

// lookAtSize tells the quota, the status and the metrics the sizes of state and log. The latter two must not wait for the engine or the log; and
// the log, which may be in the middle of a slow write, comes last.
func (s *Server) lookAtSize() {
	s.quota.look(func() int64 {
		m := s.engine.Metrics()
		s.size.Store(&m)
		return stateBytes(m)
	})
	m := s.log.Metrics()
	s.logSize.Store(&m)
}

// quotaInterval is how often the size is looked at.
const quotaInterval = 100 * time.Millisecond

// watchSize looks at the size from time to time, and raises the NOSPACE alarm when the state has reached the quota, or a request would
// exceed it. Applying what the others admitted may exceed it as well.
func (s *Server) watchSize() {
	defer s.quota.answer(true)
	ticker := time.NewTicker(quotaInterval)
	defer ticker.Stop()
	for {
		exceeded := false
		select {
		case <-s.context.Done():
			return
		case <-s.quota.wanted:
			exceeded = true
		case <-ticker.C:
			s.lookAtSize()
		}
		if exceeded || s.quota.reached() {
			s.raiseNoSpace()
		}
		s.quota.answer(false)
	}
}

func (s *Server) raiseNoSpace() {
	alarm := kv.Alarm{Node: s.options.NodeID(), Type: kv.AlarmNoSpace}
	if s.raised(alarm) {
		return
	}
	s.logger.Error("the quota is reached: writes are refused until there is space and the alarm is cleared",
		"quota_bytes", s.quota.limit, "size_bytes", s.quota.size.Load())
	if err := s.submit(&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmActivate, Alarm: alarm}}); err != nil {
		s.logger.Warn("raising the NOSPACE alarm failed", "error", err)
	}
}

func (s *Server) raised(alarm kv.Alarm) bool { return slices.Contains(s.shard.Alarms(), alarm) }
