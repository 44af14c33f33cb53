package driver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestFiguresDoNotWait: while the driver stands still, and holds its lock, everything that metrics and a status are made of is there, and
// says how long. (A wait for the lock would be a deadlock, which synctest reports.)
func TestFiguresDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := alone(t, func(*Options) {})
		alarm := kv.Alarm{Node: 1, Type: kv.AlarmNoSpace}
		r.answer(t, &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}})
		r.answer(t, &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: 2}})
		r.answer(t, &kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: alarm.Node}})
		r.answer(t, &kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmActivate, Alarm: alarm}})
		if since := r.driver.Standstill(); since > 200*time.Millisecond {
			t.Errorf("a driver that works has stood still for %v", since)
		}
		until := make(chan struct{})
		r.driver.call(func() {
			r.mu.Lock()
			<-until
			r.mu.Unlock()
		})
		time.Sleep(3 * time.Second)
		if r.Revision() != 2 || r.Compacted() != 2 || len(r.Alarms()) != 1 || r.Alarms()[0] != alarm || r.Standing() != "member" || r.Outside() {
			t.Errorf("revision %d, compacted %d, alarms %v, standing %s", r.Revision(), r.Compacted(), r.Alarms(), r.Standing())
		}
		if leader, _ := r.Leader(); leader != 1 || r.Committed() == 0 || r.driver.Metrics().Rounds == 0 {
			t.Errorf("leader %v, committed %d, metrics %+v", leader, r.Committed(), r.driver.Metrics())
		}
		if since := r.driver.Standstill(); since < 2900*time.Millisecond || since > 3100*time.Millisecond {
			t.Errorf("it has stood still for %v, not for 3 s", since)
		}
		close(until)
		r.answer(t, &kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmDeactivate, Alarm: alarm}})
		if len(r.Alarms()) != 0 || r.driver.Standstill() > 200*time.Millisecond {
			t.Errorf("afterwards: alarms %v, standstill %v", r.Alarms(), r.driver.Standstill())
		}
	})
}
