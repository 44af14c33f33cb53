package main

import "github.com/quoratedb/quorate/sim"

// scrubMutations leave damage on a disk that nobody reads. The verdict is that the healed cluster still has it.
var scrubMutations = []Mutation{
	{
		Name: "scrub/finding-ignored", Breaks: "a scrub that has found damage does nothing about it",
		File: "driver/scrub.go", Verdicts: []sim.Verdict{sim.Liveness}, Seeds: 150,
		Old: "\t\td.fail(fmt.Errorf(\"a scrub found damaged data: %w\", err))\n",
		New: "\t\t_ = fmt.Errorf\n",
	},
	{
		Name: "scrub/log-left-out", Breaks: "a scrub reads the state and not the log",
		File: "driver/scrub.go", Verdicts: []sim.Verdict{sim.Liveness}, Seeds: 600,
		Old: "\t\t\tp.left = p.left[1:]\n",
		New: "\t\t\tp.left = nil\n",
	},
	{
		Name: "scrub/state-left-out", Breaks: "a scrub reads the log and not the state",
		File: "driver/scrub.go", Verdicts: []sim.Verdict{sim.Liveness}, Seeds: 300,
		Old: "\t\tp.open = true\n",
		New: "\t\tp.open, p.left = true, p.left[1:]\n",
	},
	{
		Name: "scrub/once", Breaks: "there is one scrub pass, and never another",
		File: "driver/scrub.go", Verdicts: []sim.Verdict{sim.Liveness}, Seeds: 600,
		Old: "\tp.begins = max(p.begins+p.interval, now+p.interval/16)\n",
		New: "\tp.begins = now + 1000*p.interval\n",
	},
}
