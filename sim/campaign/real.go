package campaign

import "github.com/quoratedb/quorate/sim"

// Real is the simulator of package sim.
type Real struct{}

// Plan draws the plan from the seed and leaves out what the spec leaves out.
func (Real) Plan(spec Spec) sim.Plan {
	return sim.NewPlan(spec.Seed, sim.PlanOptions{Protocol: spec.Protocol, Engine: spec.Engine, Shards: spec.Shards, Partition: spec.Partition, Commit: spec.Commit}).Restrict(spec.Restrict())
}

// Validate tells why a plan cannot be run.
func (Real) Validate(plan sim.Plan) error { return plan.Validate() }

// Run runs the plan.
func (Real) Run(plan sim.Plan, options sim.RunOptions) sim.Result { return sim.Run(plan, options) }

// KnownMarks are all marks of package sim.
func (Real) KnownMarks() []string { return knownMarks }
