package server

import "testing"

func TestSpaceQuota(t *testing.T) {
	refused := 0
	admit := func(q *spaceQuota, bytes int64) bool { return q.Admit(bytes, func() { refused++ }) }
	q := newSpaceQuota(1000)
	q.look(func() int64 { return 500 })
	if !admit(q, 400) || admit(q, 200) || !admit(q, 50) {
		t.Error("what is under way does not count")
	}
	q.look(func() int64 { return 500 })
	if admit(q, 50) {
		t.Error("a request that fills the quota to the last byte was admitted, which etcd refuses; or what is under way was forgotten by a look at the size")
	}
	q.Answered(400)
	if admit(q, 50) {
		t.Error("what was answered since the size was looked at does not count")
	}
	q.look(func() int64 { return 900 })
	if !admit(q, 40) || q.reached() {
		t.Error("what was answered before the size was looked at counts twice")
	}
	q.look(func() int64 { return 1000 })
	if !q.reached() {
		t.Error("a full store has not reached its quota")
	}
	if none := newSpaceQuota(-1); !admit(none, 1<<40) || none.reached() {
		t.Error("a negative quota is none")
	}
	if q.answer(false); refused != 3 {
		t.Errorf("%d refused, want 3", refused)
	}
}

func TestRefusalsWaitForTheAlarm(t *testing.T) {
	q := newSpaceQuota(1)
	refused := 0
	refuse := func() { refused++ }
	first, second := q.Admit(1, refuse), q.Admit(1, refuse)
	if first || second || refused != 0 || len(q.wanted) != 1 {
		t.Fatalf("%d refused before anybody raised an alarm, %d asked for one", refused, len(q.wanted))
	}
	q.answer(false)
	q.answer(true)
	if refused != 2 {
		t.Fatalf("%d refused", refused)
	}
	if q.Admit(1, refuse); refused != 3 {
		t.Fatal("after the end nobody refuses")
	}
}
