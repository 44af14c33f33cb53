package server

import "testing"

func TestSpaceQuota(t *testing.T) {
	q := newSpaceQuota(1000)
	q.look(func() int64 { return 500 })
	if !q.Admit(400) || q.Admit(200) || !q.Admit(50) {
		t.Error("what is under way does not count")
	}
	q.look(func() int64 { return 500 })
	if q.Admit(50) {
		t.Error("a request that fills the quota to the last byte was admitted, which etcd refuses; or what is under way was forgotten by a look at the size")
	}
	q.Answered(400)
	if q.Admit(50) {
		t.Error("what was answered since the size was looked at does not count")
	}
	q.look(func() int64 { return 900 })
	if !q.Admit(40) || q.reached() {
		t.Error("what was answered before the size was looked at counts twice")
	}
	q.look(func() int64 { return 1000 })
	if !q.reached() {
		t.Error("a full store has not reached its quota")
	}
	if none := newSpaceQuota(-1); !none.Admit(1<<40) || none.reached() {
		t.Error("a negative quota is none")
	}
}

func TestRefusalsWaitForTheAlarm(t *testing.T) {
	q := newSpaceQuota(1)
	refused := 0
	refuse := func() { refused++ }
	q.Refuse(refuse)
	q.Refuse(refuse)
	if refused != 0 || len(q.wanted) != 1 {
		t.Fatalf("%d refused before anybody raised an alarm, %d asked for one", refused, len(q.wanted))
	}
	q.answer(false)
	q.answer(true)
	if refused != 2 {
		t.Fatalf("%d refused", refused)
	}
	if q.Refuse(refuse); refused != 3 {
		t.Fatal("after the end nobody refuses")
	}
}
