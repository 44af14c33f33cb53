package kv

import (
	"bytes"
	"cmp"
)

// Holds tells whether a compare holds for a key that exists.
func (c *Compare) Holds(e *KeyValue) bool {
	order := 0
	switch c.Target {
	case CompareValue:
		order = bytes.Compare(e.Value, c.Value)
	case CompareCreate:
		order = cmp.Compare(int64(e.CreateRevision), c.Integer)
	case CompareMod:
		order = cmp.Compare(int64(e.ModRevision), c.Integer)
	case CompareVersion:
		order = cmp.Compare(e.Version, c.Integer)
	case CompareLease:
		order = cmp.Compare(int64(e.Lease), c.Integer)
	}
	switch c.Result {
	case CompareEqual:
		return order == 0
	case CompareNotEqual:
		return order != 0
	case CompareGreater:
		return order > 0
	case CompareLess:
		return order < 0
	}
	return true // etcd accepts relations it does not know
}

// HoldsOfNone tells whether a compare holds where there is no key: one of a value does not, any other looks at zeros.
func (c *Compare) HoldsOfNone() bool {
	return c.Target != CompareValue && c.Holds(&KeyValue{})
}
