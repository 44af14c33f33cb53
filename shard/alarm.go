package shard

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// alarmTable holds the active alarms.
//
// Invariant: byType[t] is how many of active have the type t. Every write asks for it, so it is not counted each time.
type alarmTable struct {
	active map[kv.Alarm]struct{}
	byType map[kv.AlarmType]int
}

func newAlarmTable(alarms []kv.Alarm) alarmTable {
	t := alarmTable{active: make(map[kv.Alarm]struct{}), byType: make(map[kv.AlarmType]int)}
	for _, a := range alarms {
		t.raise(a)
	}
	return t
}

func (t *alarmTable) raise(a kv.Alarm) {
	if _, found := t.active[a]; !found {
		t.active[a] = struct{}{}
		t.byType[a.Type]++
	}
}

func (t *alarmTable) clear(a kv.Alarm) {
	if _, found := t.active[a]; found {
		delete(t.active, a)
		t.byType[a.Type]--
	}
}

// list returns the active alarms, by type and node.
func (t *alarmTable) list() []kv.Alarm {
	list := make([]kv.Alarm, 0, len(t.active))
	for a := range t.active { // sorted below
		list = append(list, a)
	}
	sortAlarms(list)
	return list
}

func sortAlarms(list []kv.Alarm) {
	slices.SortFunc(list, func(a, b kv.Alarm) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Node, b.Node)) })
}

func alarmsOfType(active []kv.Alarm, t kv.AlarmType) []kv.Alarm {
	return slices.DeleteFunc(active, func(a kv.Alarm) bool {
		if t == kv.AlarmNone {
			return a.Type == kv.AlarmFence
		}
		return a.Type != t
	})
}

// validateAlarm refuses what no state could make valid. Unknown types can still be listed and cleared: a log of an
// older version may have raised them.
func validateAlarm(r *kv.AlarmRequest) error {
	switch {
	case r.Action > kv.AlarmDeactivate:
		return fmt.Errorf("unknown alarm action %d: %w", r.Action, kv.ErrInvalidRequest)
	case r.Action == kv.AlarmActivate && r.Alarm.Type > kv.AlarmFence:
		return fmt.Errorf("unknown alarm type %d; there are 1 (NOSPACE), 2 (CORRUPT) and 3 (a fence): %w", r.Alarm.Type, kv.ErrInvalidRequest)
	case r.Action == kv.AlarmActivate && r.Alarm.Type == kv.AlarmFence && r.Alarm.Node != 0:
		return fmt.Errorf("a fence is of the whole cluster, not of node %v: %w", r.Alarm.Node, kv.ErrInvalidRequest)
	}
	return nil
}

// alarmRequest does as etcd: raising and clearing answer with the alarm concerned, clearing one that
// is not raised answers with nothing. Unlike etcd it raises only known types, for nodes of the cluster, which bounds
// their number; CORRUPT without a node is of all, and so is the fence. A request of another node was perhaps not validated.
func (m *Machine) alarmRequest(r *kv.AlarmRequest) (*kv.Response, error) {
	if err := validateAlarm(r); err != nil {
		return nil, err
	}
	body := &kv.AlarmResponse{}
	active := m.alarmsEvaluated()
	switch r.Action {
	case kv.AlarmGet:
		body.Alarms = alarmsOfType(active, r.Alarm.Type)
	case kv.AlarmActivate:
		if r.Alarm.Type == kv.AlarmNone {
			break
		}
		if !r.Alarm.OfAll() && m.membersEvaluated().Member(r.Alarm.Node) == nil {
			return nil, kv.ErrMemberNotFound
		}
		body.Alarms = []kv.Alarm{r.Alarm}
		if !slices.Contains(active, r.Alarm) {
			m.lead.overlay.addOp(op{kind: opAlarmRaise, alarm: r.Alarm})
		}
	case kv.AlarmDeactivate:
		if slices.Contains(active, r.Alarm) {
			body.Alarms = []kv.Alarm{r.Alarm}
			m.lead.overlay.addOp(op{kind: opAlarmClear, alarm: r.Alarm})
		}
	}
	return &kv.Response{Kind: kv.KindAlarm, Alarm: body}, nil
}

// TellAlarms says which types of alarms are raised in the system shard, bit n for type n, and, from bit AuthVersionBit on, how often users and roles have
// changed: what this leadership of another shard evaluates from now on goes by it. Driver.
func (m *Machine) TellAlarms(types uint64) {
	if m.lead != nil {
		m.lead.toldAlarms = types
	}
}

// AuthVersionBit is from which bit on the word about alarms has auth.State.Version. So whoever gets revisions is told of it with them, as of alarms.
const AuthVersionBit = 8

// alarmed tells whether an alarm of the type is active in the overlaid state. An op is added only when it changes
// that state, so the ops in flight can be counted. Of several shards only the system shard has them; the others go by what they were told.
func (m *Machine) alarmed(t kv.AlarmType) bool {
	if m.options.Sequenced && m.options.Shard != kv.SystemShard {
		return m.lead.toldAlarms&(1<<(t&63)) != 0
	}
	return m.alarms.byType[t]+m.lead.overlay.alarms[t] > 0
}

// alarmsEvaluated lists the alarms of the overlaid state, by type and node.
func (m *Machine) alarmsEvaluated() []kv.Alarm {
	active := m.Alarms()
	if m.lead.overlay.otherOps == 0 {
		return active
	}
	m.lead.overlay.eachOp(func(p *op) {
		switch p.kind {
		case opAlarmRaise:
			active = append(active, p.alarm)
		case opAlarmClear:
			active = slices.DeleteFunc(active, func(a kv.Alarm) bool { return a == p.alarm })
		}
	})
	sortAlarms(active)
	return active
}
