package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// shardsReport is what the load "shards" measured.
type shardsReport struct {
	Keys, ListedKeys int
	Lines            []shardsResult
	Failover         []shardsFailoverResult
	Profiles         []shardsProfile
}

type shardsResult struct {
	Name, Title string
	Variants    []shardsMeasured
	goals       []shardsGoal
}

type shardsMeasured struct {
	Name   string
	Leads  []int `json:",omitempty"` // how many shards each member led in the last round
	Rounds []result
}

type shardsFailoverResult struct {
	Variant   string
	GapMillis []float64 // of each part of the keys
	Lost      int
}

func (r shardsFailoverResult) worst() float64 { return slices.Max(r.GapMillis) }

type shardsProfile struct {
	Name string
	Top  []string
}

// shardsQuantity is what a goal is about.
type shardsQuantity struct {
	name string
	of   func(result) float64
}

var (
	ofRate = shardsQuantity{"ops/s", rate}
	ofCPU  = shardsQuantity{"server us/op", server}
	ofP50  = shardsQuantity{"p50 ms", p50}
)

// shardsGoal compares two variants within each round. Without a bound the comparison is only reported.
type shardsGoal struct {
	of, base        shardsVariant
	what            shardsQuantity
	difference      bool // not a quotient
	atLeast, atMost float64
}

// longestGapMillis is how long the keys of a shard may be without a leader when a member dies.
const longestGapMillis = 500

// compared is the goal's quantity in each round.
func (g shardsGoal) compared(r shardsResult) (values []float64) {
	a, b := r.rounds(g.of.name), r.rounds(g.base.name)
	for i := range min(len(a), len(b)) {
		x, y := g.what.of(a[i]), g.what.of(b[i])
		if g.difference {
			values = append(values, x-y)
		} else if y > 0 {
			values = append(values, x/y)
		}
	}
	return values
}

// reach says what is wanted, and whether it was reached by the median.
func (g shardsGoal) reach(value float64) (wanted, reached string) {
	switch {
	case g.atLeast > 0:
		return fmt.Sprintf("at least %.2f", g.atLeast), yes(value >= g.atLeast)
	case g.atMost > 0:
		return fmt.Sprintf("at most %.2f", g.atMost), yes(value <= g.atMost)
	}
	return "-", "-"
}

func yes(reached bool) string {
	if reached {
		return "yes"
	}
	return "NO"
}

func (r shardsResult) rounds(variant string) []result {
	for _, v := range r.Variants {
		if v.Name == variant {
			return v.Rounds
		}
	}
	return nil
}

func (r *report) printShards(w io.Writer) {
	if r.Shards == nil {
		return
	}
	fmt.Fprintf(w, "\nseveral shards; %d keys, lists of %d. Median of the rounds (lowest-highest); for lists an operation is a key, and p50 the time of a list; for watches\n"+
		"an operation is an event, and p50 the time from the call of its put to its arrival\n\n", r.Shards.Keys, r.Shards.ListedKeys)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "load\tvariant\tmembers lead\tops/s\tp50 ms\tp99 ms\tserver us/op\tclient us/op\terrors")
	for _, l := range r.Shards.Lines {
		for _, v := range l.Variants {
			errors := 0
			for _, round := range v.Rounds {
				errors += round.Errors
			}
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%s\t%s\t%s\t%s\t%d\n", l.Title, v.Name, v.Leads, spread(v.Rounds, rate, "%.0f"), spread(v.Rounds, p50, "%.2f"),
				spread(v.Rounds, p99, "%.2f"), spread(v.Rounds, server, "%.1f"), spread(v.Rounds, func(r result) float64 { return r.ClientCPU }, "%.1f"), errors)
		}
	}
	t.Flush()
	r.Shards.printGoals(w)
	for _, p := range r.Shards.Profiles {
		fmt.Fprintf(w, "\nprocessor time of the leader: %s\n", p.Name)
		for _, line := range p.Top {
			fmt.Fprintln(w, "  "+line)
		}
	}
}

// spread shows the median, and the lowest and highest.
func spread(rounds []result, f func(result) float64, format string) string {
	var values []float64
	for _, r := range rounds {
		values = append(values, f(r))
	}
	return spreadOf(values, format)
}

func spreadOf(values []float64, format string) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+"-"+format+")", median(values), slices.Min(values), slices.Max(values))
}

func (r *shardsReport) printGoals(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nload\tcompared, in each round\tmedian (lowest-highest)\twanted\treached")
	for _, l := range r.Lines {
		for _, g := range l.goals {
			values := g.compared(l)
			if len(values) == 0 {
				continue
			}
			sign := "/"
			if g.difference {
				sign = "-"
			}
			wanted, reached := g.reach(median(values))
			fmt.Fprintf(t, "%s\t%s: %s %s %s\t%s\t%s\t%s\n", l.Title, g.what.name, g.of.name, sign, g.base.name, spreadOf(values, "%.2f"), wanted, reached)
		}
	}
	for _, v := range []shardsVariant{variantOne, variant16Range} {
		worst, lost := r.gaps(v.name)
		if len(worst) == 0 {
			continue
		}
		wanted, reached := fmt.Sprintf("at most %d", longestGapMillis), yes(slices.Max(worst) <= longestGapMillis && lost == 0)
		fmt.Fprintf(t, "kill -9 of the member that leads all, 64 clients\tlongest gap of 16 parts of the keys, ms: %s\t%s, lost writes: %d\t%s\t%s\n",
			v.name, spreadOf(worst, "%.0f"), lost, wanted, reached)
	}
	t.Flush()
}

// gaps are the longest of each round, and the acknowledged writes that were lost in all rounds.
func (r *shardsReport) gaps(variant string) (worst []float64, lost int) {
	for _, f := range r.Failover {
		if f.Variant == variant {
			worst = append(worst, f.worst())
			lost += f.Lost
		}
	}
	return worst, lost
}
