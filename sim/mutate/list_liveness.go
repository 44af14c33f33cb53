package main

var livenessMutations = []Mutation{
	{
		Name: "liveness/promise-counted-from-arrival", Breaks: "a promise is counted from the arrival of its acknowledgement, not from the sending of the heartbeat",
		File: "liveness/liveness.go", Verdicts: noticed, Seeds: 200,
		Old: "until := p.sent[i].at + duration - c.options.DriftMargin",
		New: "until := c.now + duration - c.options.DriftMargin",
	},
	{
		Name: "liveness/promise-kept-too-short", Breaks: "a node keeps its promises for a third of what it said",
		File: "liveness/liveness.go", Verdicts: noticed, Seeds: 200,
		Old: "p.promised = max(p.promised, c.now+c.options.PromiseDuration)",
		New: "p.promised = max(p.promised, c.now+c.options.PromiseDuration/3)",
	},
	{
		Name: "liveness/epoch-never-changes", Breaks: "a promise after an interruption looks like the one before it",
		File: "liveness/liveness.go", Verdicts: noticed, Seeds: 200,
		Old: "if p.withdrawn || c.now >= p.promised || p.epoch == 0 {",
		New: "if p.epoch == 0 {",
	},
	{
		Name: "liveness/other-process-ends-promise", Breaks: "what was promised to a process is forgotten when another one comes under its node's name",
		File: "liveness/liveness.go", Verdicts: noticed, Seeds: 400,
		Old: "p.former, p.promised = max(p.former, p.promised), 0\n",
		New: "p.former, p.promised = 0, 0\n",
	},
	{
		Name: "liveness/heartbeats-to-the-dead", Breaks: "heartbeats that were never answered are remembered for ever: memory grows as long as a node is away",
		File: "liveness/liveness.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tp.sent = p.sent[1:]\n",
		New: "\t\tbreak\n",
	},
}
