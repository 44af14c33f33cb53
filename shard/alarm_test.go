package shard

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

func raising(node kv.NodeID, kind kv.AlarmType) *kv.Request {
	return &kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmActivate, Alarm: kv.Alarm{Node: node, Type: kind}}}
}

// However many alarms are asked for, by whoever did not validate the request: no more than the members times the types, and two, are raised.
func TestAlarmsAreBounded(t *testing.T) {
	const members, types = 3, 2
	g := newGroup(t, testOptions(1))
	for node := range members {
		g.must(t, fmt.Sprintf("node %d n%d", node+1, node+1))
	}
	for kind := range kv.AlarmType(80) {
		for node := range kv.NodeID(members + 10) {
			_, err := g.do(raising(node, kind))
			var wanted error
			switch {
			case kind == kv.AlarmFence && node == 0:
			case kind > types:
				wanted = kv.ErrInvalidRequest
			case kind != kv.AlarmNone && (node == 0 && kind != kv.AlarmCorrupt || node > members):
				wanted = kv.ErrMemberNotFound
			}
			if !errors.Is(err, wanted) {
				t.Fatalf("type %d, node %d: %v, want %v", kind, node, err, wanted)
			}
			if _, inMemory := g.leader.lead.overlay.alarms[kind]; kind > types && kind != kv.AlarmFence && inMemory {
				t.Fatalf("type %d is counted", kind)
			}
		}
	}
	if n := len(g.leader.Alarms()); n != members*types+2 { // CORRUPT of all of them is one more, and so is the fence
		t.Fatalf("%d alarms, want %d", n, members*types+2)
	}
}

// A log of a version that raised whatever was asked for is replayed as then. What it raised is listed, costs other requests nothing,
// and can be cleared.
func TestAlarmsOfOlderLogs(t *testing.T) {
	const invented = 800
	g := newGroup(t, testOptions(1))
	for i := range invented {
		g.leader.lead.overlay.addOp(op{kind: opAlarmRaise, alarm: kv.Alarm{Node: kv.NodeID(1000 + i), Type: 77}})
	}
	inFlight := testing.AllocsPerRun(10, func() { g.leader.alarmed(kv.AlarmNoSpace) })
	if !g.leader.alarmed(77) || inFlight != 0 {
		t.Fatalf("a look at the alarms in flight allocates %v times", inFlight)
	}
	g.propose()
	if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
		t.Fatal(err)
	}
	other := mustOpen(testOptions(2))
	for range 2 { // the second time from its rows
		if err := g.catchUp(other, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
		if n := len(other.Alarms()); n != invented {
			t.Fatalf("%d alarms, want %d", n, invented)
		}
		if err := errors.Join(other.flushAll(), other.reopen(), other.Check()); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(10, func() { g.leader.alarmed(kv.AlarmNoSpace) }); n != 0 {
		t.Fatalf("a look at the alarms allocates %v times", n)
	}
	g.must(t, "put a 1")
	for _, a := range g.leader.Alarms() {
		if _, err := g.do(&kv.Request{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmDeactivate, Alarm: a}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.leader.Alarms()); n != 0 || g.leader.Check() != nil {
		t.Fatalf("%d alarms are left: %v", n, g.leader.Check())
	}
}

// A shard beside the system shard goes by the alarms that it is told, and by none of its own; the next leadership has to be told anew.
func TestAlarmsOfAnotherShard(t *testing.T) {
	options := testOptions(1)
	options.Shard, options.Sequenced = 2, true
	g := &group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("a")}}
	remove := &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("a")}}}
	m := g.leader
	evaluate := func(what string, r *kv.Request, want error) {
		t.Helper()
		if out := m.Evaluate(r); !errors.Is(out.Err, want) || out.Fatal != nil {
			t.Errorf("%s: %+v, want %v", what, out, want)
		}
	}
	if err := m.Begin(kv.Present{Revision: 1}, true); err != nil {
		t.Fatal(err)
	}
	evaluate("put without an alarm", put, nil)
	m.TellAlarms(1 << kv.AlarmNoSpace)
	evaluate("put without space", put, kv.ErrNoSpace)
	evaluate("delete without space", remove, nil)
	m.TellAlarms(1<<kv.AlarmNoSpace | 1<<kv.AlarmCorrupt)
	evaluate("put with damage", put, kv.ErrCorrupt)
	evaluate("delete with damage", remove, kv.ErrCorrupt)
	m.lead.overlay.addOp(op{kind: opAlarmRaise, alarm: kv.Alarm{Node: 1, Type: kv.AlarmNoSpace}})
	m.TellAlarms(0)
	evaluate("put with an alarm of its own", put, nil)
	m.Follow()
	m.TellAlarms(1 << kv.AlarmNoSpace) // nobody hears it
}
