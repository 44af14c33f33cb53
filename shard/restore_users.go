package shard

import (
	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/storage"
)

// Users gives the system shard users and roles.
func (r *Restoration) Users(c *auth.Change, b storage.Batch) { r.machine.applyAuth(c, b) }
