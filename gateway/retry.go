package gateway

import (
	"errors"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// A write that a leader evaluated and did not propose had no effect, and another leader may have it. But its cost must not go from node to
// node: one that costs little is evaluated by at most maxEvaluations leaders, any other one by one.
const (
	maxEvaluations = 2
	cheapKeys      = 16 // looked at by the evaluation of a request that costs little
)

// again tells whether a call that ended with the error at a leader is for another one. What was not evaluated always is.
func (c *Call) again(err error) bool {
	switch {
	case errors.Is(err, kv.ErrNotLeader):
		return true
	case !errors.Is(err, kv.ErrLeaderChanged):
		return false
	}
	c.evaluations++
	return c.evaluations < maxEvaluations && shard.ReadsAtMost(c.Req, cheapKeys)
}
