package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// Users and roles are in the system shard (package auth). What may be done is decided where a client's request enters, by the state that is applied there;
// the request says by which. The leader that evaluates it knows of the latest state, and refuses what was allowed by an earlier one: so nothing takes effect
// behind a change, in the order of the log, that was not allowed by the state after it. Leaders of other shards are told of the version of the state with
// the revisions that they write at, as they are told of alarms. docs/decisions/0024-users-and-roles.md argues for it.

// judged tells whether requests of a kind come from clients, who must be allowed what they ask for. Nodes ask each other for the rest.
func judged(kind kv.Kind) bool {
	switch kind {
	case kv.KindPublishNode, kv.KindAssignReplica, kv.KindSetRoster, kv.KindRecordTime, kv.KindLeaseAttach, kv.KindLeaseRelease, kv.KindLeaseKeys, kv.KindLeaseEnd:
		return false
	}
	return !aboutTransactions(kind)
}

// Auth is the applied state of users and roles. Shared.
func (m *Machine) Auth() *auth.State { return m.auth }

// authState is the state of users and roles with what is in flight.
func (m *Machine) authState() *auth.State {
	if m.lead.auth != nil {
		return m.lead.auth
	}
	return m.auth
}

// authEvaluated is the version of the latest state of users and roles that this leader knows of.
func (m *Machine) authEvaluated() uint64 {
	if m.options.Sequenced && m.options.Shard != kv.SystemShard {
		return m.lead.toldAlarms >> AuthVersionBit
	}
	return m.authState().Version
}

func (m *Machine) authRequest(r *kv.AuthRequest) (*kv.Response, error) {
	if m.options.Shard != kv.SystemShard {
		return nil, fmt.Errorf("users and roles are in shard %d: %w", kv.SystemShard, kv.ErrShardNotHere)
	}
	answer, change, err := m.authState().Evaluate(r)
	if err != nil {
		return nil, err
	}
	if change != nil {
		m.lead.auth = m.authState().Apply(change)
		m.lead.overlay.addOp(op{kind: opAuth, auth: change, encoded: auth.AppendChange(nil, change)})
	}
	return &kv.Response{Kind: kv.KindAuth, Auth: answer}, nil
}

// applyAuth applies a change of users and roles. While the log is applied again after a crash, the rows may be as of a later one, which has all before it.
func (m *Machine) applyAuth(c *auth.Change, b storage.Batch) {
	after := m.auth.Apply(c)
	if after == m.auth {
		return
	}
	m.auth = after
	c.Rows(func(class byte, name string, row []byte) {
		b.Set(keys.AppendAuth(nil, m.options.Shard, class, name), row)
	}, func(class byte, name string) {
		b.Delete(keys.AppendAuth(nil, m.options.Shard, class, name))
	})
}

func (m *Machine) loadAuth() error {
	m.auth = auth.NewState()
	if m.options.Shard != kv.SystemShard {
		return nil
	}
	lower, upper := keys.Auth(m.options.Shard)
	return eachRow(m.reader, lower, upper, func(key, row []byte) error {
		class, name, err := keys.ParseAuth(key)
		if err == nil {
			err = m.auth.Load(class, name, row)
		}
		return err
	})
}

func (d *decoder) auth() *auth.Change {
	c, err := auth.DecodeChange(d.bytes())
	if err != nil && d.err == nil {
		d.fail(err.Error())
	}
	return c
}
