// Command worker runs seeds of the simulator, one after the other, and prints a line of JSON before and after each. It is what
// the mutations are built into.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/metrics"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// line is what a seed showed; without a verdict it says that the seed begins.
type line struct {
	Seed    uint64      `json:"seed"`
	Verdict sim.Verdict `json:"verdict,omitempty"`
	Problem string      `json:"problem,omitempty"`
}

// maxHeapBytes is more than any run of correct code needs; a variant may run away.
const maxHeapBytes = 2 << 30

func main() {
	shards := flag.Int("shards", 0, "how many groups; 0: as the seed says")
	partition := flag.String("partition", sim.NoPartition, "makes the groups shards of one store: range, hash, or none")
	first := flag.Uint64("first", 1, "first seed")
	count := flag.Int("count", 1, "seeds")
	protocol := flag.String("protocol", "", "raft, paxos, or nothing: what the seed says")
	flag.Parse()
	go watchMemory()
	out := json.NewEncoder(os.Stdout)
	o := sim.PlanOptions{Protocol: sim.Protocol(*protocol), Shards: *shards, Partition: *partition}
	for seed := *first; seed < *first+uint64(*count); seed++ {
		if err := run(out, seed, o); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
	}
}

func run(out *json.Encoder, seed uint64, o sim.PlanOptions) error {
	if err := out.Encode(line{Seed: seed}); err != nil {
		return err
	}
	result := sim.Run(sim.NewPlan(seed, o), sim.RunOptions{})
	return out.Encode(line{Seed: seed, Verdict: result.Verdict, Problem: result.Problem})
}

// watchMemory ends the program before the machine suffers.
func watchMemory() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for range time.Tick(200 * time.Millisecond) {
		if metrics.Read(sample); sample[0].Value.Uint64() > maxHeapBytes {
			fmt.Fprintf(os.Stderr, "fatal error: the run needs more than %d MiB of memory\n", maxHeapBytes>>20)
			os.Exit(2)
		}
	}
}
