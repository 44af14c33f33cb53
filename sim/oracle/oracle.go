// Package oracle judges what the clients of a simulated run were answered: Recorded takes down what comes on their streams of watches, and Check
// holds a whole history against the sequential model. The comparison by revisions is in package history, which also serves tests with real processes.
package oracle

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/sim/workload"
)

// Check tells what is wrong with what clients saw: first what can be judged without any state, then everything else.
func Check(h *history.History) []string {
	var problems []string
	for i := range h.Operations {
		if problem := checkForm(&h.Operations[i]); problem != "" {
			problems = append(problems, problem)
		}
	}
	return append(problems, history.Check(h).Problems...)
}

// formErrors are the errors that judge a request by its form alone.
var formErrors = []error{
	kv.ErrEmptyKey, kv.ErrValueProvided, kv.ErrLeaseProvided, kv.ErrTooManyOps, kv.ErrDuplicateKey,
	kv.ErrInvalidSortOption, kv.ErrInvalidRequest, kv.ErrUnknownCompareType,
}

// checkForm: a request that is not well formed is refused, with the right error, and no other is refused for its form.
func checkForm(o *history.Operation) string {
	invalid := shard.Validate(o.Request, shard.Limits{})
	what := func() string {
		return fmt.Sprintf("a request of kind %d of client %d at node %d (%v to %v)", o.Request.Kind, o.Client, o.Node, o.Invoke, o.Return)
	}
	if invalid == nil {
		for _, err := range formErrors {
			if errors.Is(o.Err, err) {
				return fmt.Sprintf("%s is well formed, but was refused: %v", what(), err)
			}
		}
		return ""
	}
	switch {
	case o.Outcome == history.Acknowledged:
		return fmt.Sprintf("%s was answered, but it must be refused: %v", what(), invalid)
	case workload.AnsweredByStore(o.Err) && kv.CodeOf(o.Err) != kv.CodeOf(invalid):
		return fmt.Sprintf("%s was refused with %v, not with %v", what(), o.Err, invalid)
	}
	return ""
}
