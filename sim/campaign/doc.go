// Package campaign runs seeds of the simulator: many of them in worker processes, one of them with its trace, a failing
// one again and again until it is small.
//
// A run is named by a Spec: a seed, and what is left out of the seed's plan. Whoever needs a run gives its spec to
// a Runner. The Pool is the real one: it keeps worker processes, because a process can run one simulation at a time,
// and because a panic, an endless loop or too much memory then costs one seed and not the campaign. What a run showed is a Report.
//
//	spec.go      what a run is, as a command line     seeds.go     ranges of seeds
//	report.go    what a run showed                    simulator.go package sim behind a seam; real.go: package sim
//	worker.go    the worker's side of a pipe          process.go   the other side
//	pool.go      as many workers as jobs              campaign.go  all seeds of a range
//	summary.go   what a campaign has shown            minimise.go  a smaller run that fails the same way
//	trace.go     trace files                          ddmin.go     the search for fewer faults and clients
//	replay.go    reading them, and running them again marks.go     the names of all coverage marks
package campaign
