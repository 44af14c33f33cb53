// Package sim runs a whole cluster in one goroutine on virtual time: real drivers, consensus cores, state machines, gateways
// and watch hubs, on a simulated network, simulated disks and simulated clocks, under faults, with clients whose every answer is
// checked. Everything follows from one seed: the same seed gives the same trace, always.
//
// A run is a Plan, drawn from the seed by NewPlan: cluster, protocol, limits, clients, faults, as data. Run
// executes a plan and returns a Result. Because a plan is data, a failing one can be made smaller: whatever belongs to one client or
// one fault has a source of chance of its own, so that leaving a part out does not change what the others do.
//
//	plan.go      what a run is            world.go     events, time, trace
//	node.go      one node and its parts   network.go   links between nodes, and to clients
//	client.go    what workloads use       workload_*.go
//	fault.go     what goes wrong          oracle.go    what must hold
package sim
