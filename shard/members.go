package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// The list of members is in the system shard (package members). As long as nobody has changed it, it is what the nodes say about themselves, a row of each.
// From the first change on it is one row, as of a node of the ID 0, and there are no others: versions that know nothing of it do not open the state.
//
// While the log is applied again after a crash, the rows may be as of a later entry. A change says what the whole list is after it, and is left out if the
// list is of its version or a later one. What a node says about itself counts for members only, and says nothing that a change decides, once there was one.
// So at the end everybody has the same.

// Members is the applied list of members. Shared.
func (m *Machine) Members() *members.List { return m.members }

// membersEvaluated is the list of members with what is in flight.
func (m *Machine) membersEvaluated() *members.List {
	if m.lead.list != nil {
		return m.lead.list
	}
	return m.members
}

// publishRequest takes what a node says about itself.
func (m *Machine) publishRequest(r *kv.NodeRecord) (*kv.Response, error) {
	list := m.membersEvaluated()
	if err := list.Hears(r); err != nil {
		return nil, err
	}
	record := *r
	m.lead.list = list.Publish(&record)
	m.lead.overlay.addOp(op{kind: opNode, node: &record})
	return &kv.Response{Kind: kv.KindPublishNode}, nil
}

func (m *Machine) memberRequest(r *kv.MemberRequest) (*kv.Response, error) {
	if m.options.Shard != kv.SystemShard {
		return nil, fmt.Errorf("the list of members is in shard %d: %w", kv.SystemShard, kv.ErrShardNotHere)
	}
	list := m.membersEvaluated()
	next, err := list.Evaluate(r)
	if err != nil {
		return nil, err
	}
	if next != list {
		m.lead.list = next
		m.lead.overlay.addOp(op{kind: opMembers, list: next, encoded: next.Append(nil)})
	}
	return &kv.Response{Kind: kv.KindMember, MemberList: &kv.MemberListResponse{Nodes: next.Records(), Version: next.Version}}, nil
}

// applyNode applies what a node says about itself.
func (m *Machine) applyNode(r *kv.NodeRecord, b storage.Batch) {
	after := m.members.Publish(r)
	switch {
	case after == m.members:
	case after.Version == 0:
		b.Set(keys.AppendNode(nil, m.options.Shard, r.ID), appendNode(nil, r))
	default:
		b.Set(m.listKey(), after.Append(nil))
	}
	m.members = after
}

// applyMembers applies a change of the list.
func (m *Machine) applyMembers(list *members.List, b storage.Batch) {
	if list.Version <= m.members.Version {
		return
	}
	if m.members.Version == 0 {
		for i := range m.members.Members {
			b.Delete(keys.AppendNode(nil, m.options.Shard, m.members.Members[i].ID))
		}
	}
	m.members = list
	b.Set(m.listKey(), list.Append(nil))
}

// listKey is the key of the list, once it has changed.
func (m *Machine) listKey() []byte { return keys.AppendNode(nil, m.options.Shard, 0) }

func (m *Machine) loadMembers() error {
	var records []kv.NodeRecord
	m.members = nil
	lower, upper := keys.Nodes(m.options.Shard)
	err := eachRow(m.reader, lower, upper, func(key, value []byte) (err error) {
		if string(key) == string(m.listKey()) {
			m.members, err = decodeMembers(value)
			return err
		}
		d := &decoder{data: value}
		node := d.node()
		if err = d.end(); err == nil && m.members != nil {
			err = fmt.Errorf("a node is beside the list of members: %w", ErrMalformed)
		}
		if err != nil {
			return fmt.Errorf("node row %x: %w", key, err)
		}
		records = append(records, *node)
		return nil
	})
	if m.members == nil {
		m.members = members.Founded(records)
	}
	return err
}

func (d *decoder) members() *members.List {
	list, err := decodeMembers(d.bytes())
	if err != nil && d.err == nil {
		d.fail(err.Error())
	}
	return list
}

// decodeMembers reads a list that somebody has decided on.
func decodeMembers(in []byte) (*members.List, error) {
	list, err := members.Decode(in)
	if err == nil && list.Version == 0 {
		err = fmt.Errorf("a list of members that nobody has changed: %w", ErrMalformed)
	}
	return list, err
}
