// Command mutate proves that the simulator sees. It builds deliberately broken variants of Quorate,
// runs each on the simulator's seeds, and prints at which seed the simulator noticed and what it said. A variant that survives is a
// defect of the simulator: a fault, a workload or a check is missing.
//
//	go run ./sim/mutate                          all of them
//	go run ./sim/mutate --list                   what there is
//	go run ./sim/mutate --check                  every mutation still applies and compiles; nothing is run
//	go run ./sim/mutate --only NAME --first K --seeds 1
//	go run ./sim/mutate --markdown               also writes docs/mutations.md
//
// Production code knows nothing of this. A mutation is a text that must occur exactly once in one file, inside a function, and what
// takes its place. The program that runs the seeds is built from changed sources (go build -overlay; for a required module, a changed
// copy of it and -modfile), in which each function that is to be mutated has changed copies beside it.
//
//	mutation.go   what a mutation is, and applying it     list_*.go   the mutations, by layer
//	schemata.go   all mutations in one program            build.go    building it
//	run.go        from a mutation to a row                report.go   rows for people and machines
//	worker/       the program: runs seeds
package main
