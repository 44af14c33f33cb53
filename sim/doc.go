// Package sim runs a whole cluster in one goroutine on virtual time: real drivers, consensus cores, state machines, gateways
// and watch hubs, on a simulated network, simulated disks and simulated clocks, under faults, with clients whose every answer is
// checked. Everything follows from one seed: the same seed gives the same trace, always.
//
// A run is a Plan, drawn from the seed by NewPlan: cluster, protocol, limits, clients, faults, as data. Run
// executes a plan and returns a Result. Because a plan is data, a failing one can be made smaller: whatever belongs to one client or
// one fault has a source of chance of its own, so that leaving a part out does not change what the others do.
//
//	plan.go, draw*.go  what a run is, and how a seed becomes one
//	run.go             the course of a run: set up, safety phase, healing, liveness phase     verdict.go   how it ends
//	world.go           events and invariants   events.go, coroutine.go, clock.go, trace.go   what it stands on
//	node.go            one node: its life and its ends     node_rounds.go   when its code runs
//	node_parts.go      its process, put together as package server does
//	group.go           one shard: what happened in it, and who led
//	part.go            what a node has of one shard     part_options.go   put together as package server does
//	strangers.go       nodes that hold some shards only, and who asks them for others
//	network.go         links between nodes     clients.go   links to clients   streams.go  clients' streams of watches
//	disk.go, files.go  the disks in memory     pebble*.go   the real ones on a file system that forgets
//	fault*.go          what goes wrong         damage.go    what rots   repair.go  how lost data comes back
//	backup.go          backups that are made meanwhile
//	backup_fence.go    behind a fence, some of them
//	backup_check.go    those are restored, and compared with what happened
//	plot.go            faults that watch the nodes           scene.go   runs that are set up for one thing
//	testdata           clusters told step by step, see TestScenarios
//	truth.go           what was applied, equal everywhere
//
// Rooms of their own have those parts that never touch the world:
//
//	workload           what clients do, by the interface Client alone
//	history            what clients asked and were answered, and whether it was right by the revisions and times in it
//	oracle             the same of a simulated run: takes down streams of watches, and judges what needs no revision, too
//	campaign           many seeds in worker processes, traces, and smaller runs that fail in the same way
//	mutate             bugs put in on purpose: does the simulator find them?
//
// # What is real and what is not
//
// Real: driver, consensus, state machine, gateway, watch hub, and every byte between nodes. Not real: package transport, of which
// network.go keeps the promises; package api; goroutines. The driver of a node is a coroutine that gives way where it waits
// for a disk, so that the gateway of the node serves meanwhile, as it does in production; what the product would give to a
// goroutine of its own is a coroutine too.
//
// # The same seed, the same trace
//
// Each part of the world has a source of chance of its own (see world.source): a node, a direction of a link, a
// connection, a client, a client's links, a fault. go.etcd.io/raft takes its election jitter from crypto/rand.Reader and from nowhere else, so
// Run replaces that variable while a cluster of Raft runs; only one runs at a time in a process, and several processes use
// several processors. The product must not let the order of a Go map be seen: the trace's hash shows when it does.
package sim
