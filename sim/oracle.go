package sim

import "github.com/quoratedb/quorate/sim/history"

// checkHistory holds what clients were answered against the model.
func checkHistory(h *history.History) []string { return history.Check(h).Problems }
