package campaign

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/sim"
)

// A trace file is the trace between a head and an end, whose lines begin with "# ":
//
//	# quorate simulator trace, format 1
//	# version 0.1.0
//	# run {"seed":5,...}             the Spec
//	# plan {"seed":5,...}            the sim.Plan, without what the spec leaves out
//	# | raft on memory, 3 nodes ...  the plan for people
//	# trace
//	...                              a line for everything that happened
//	# end
//	# verdict passed
//	# lines 12345
//	# sum 0123456789abcdef           of the lines of the trace
//	# hash 0123456789abcdef          as the simulation counts it; "unknown" if it did not survive
//
// The hash stands at the end because only then it is known, and a trace is written while it happens.
const (
	traceFormat  = "quorate simulator trace, format "
	formatNumber = "1"
	mark         = "# "
	traceBegins  = mark + "trace\n"
	traceEnds    = mark + "end\n"
	unknownHash  = "unknown"
)

// TraceWriter writes a trace file.
type TraceWriter struct {
	output  io.Writer
	sum     hash.Hash
	lines   int64
	midLine bool // the last piece did not end its line
}

// NewTraceWriter writes the head. The version is that of this program; plan is without what the spec leaves out.
func NewTraceWriter(output io.Writer, version string, spec Spec, plan sim.Plan) (*TraceWriter, error) {
	head := []string{traceFormat + formatNumber, "version " + version, "run " + asJSON(spec), "plan " + asJSON(plan)}
	for _, line := range DescribePlan(spec, plan) {
		head = append(head, "| "+line)
	}
	for _, line := range head {
		if _, err := io.WriteString(output, mark+line+"\n"); err != nil {
			return nil, err
		}
	}
	_, err := io.WriteString(output, traceBegins)
	return &TraceWriter{output: output, sum: sha256.New()}, err
}

// Write takes a piece of the trace.
func (t *TraceWriter) Write(piece []byte) (int, error) {
	if len(piece) == 0 {
		return 0, nil
	}
	t.sum.Write(piece)
	t.lines += int64(strings.Count(string(piece), "\n"))
	t.midLine = piece[len(piece)-1] != '\n'
	return t.output.Write(piece)
}

// End writes the end of the file.
func (t *TraceWriter) End(report Report) error {
	if t.midLine { // a run that died while it wrote
		if _, err := t.Write([]byte("\n")); err != nil {
			return err
		}
	}
	hash := unknownHash
	if report.Result.Verdict != "" {
		hash = FormatHash(report.Result.Hash)
	}
	_, err := fmt.Fprintf(t.output, "%s# verdict %s\n# lines %d\n# sum %s\n# hash %s\n",
		traceEnds, report.Verdict, t.lines, formatSum(t.sum), hash)
	return err
}

func formatSum(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)[:8]) }

func asJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil { // numbers, texts and lists of them
		panic(fmt.Sprintf("campaign: %v", err))
	}
	return string(text)
}

// DescribePlan says in lines what a plan is. The faults have the numbers that they have in the plan with nothing left out, as in Spec.Faults.
func DescribePlan(spec Spec, plan sim.Plan) []string {
	reads := "reads rely on clocks"
	if plan.ReadQuorum {
		reads = "reads ask a quorum"
	}
	nodes := fmt.Sprintf("%d nodes", plan.Nodes)
	if plan.Phase1Quorum != 0 || plan.Phase2Quorum != 0 {
		nodes += fmt.Sprintf(" (quorums of %d and %d; 0: a majority)", plan.Phase1Quorum, plan.Phase2Quorum)
	}
	lines := []string{fmt.Sprintf("seed %d: %s on %s, %s, %s, %v of work and faults", plan.Seed, plan.Protocol, plan.Engine, nodes, reads, plan.Duration)}
	if plan.Scene != "" {
		lines = append(lines, "scene: "+plan.Scene)
	}
	if plan.Shards > 1 {
		lines = append(lines, fmt.Sprintf("%d shards", plan.Shards))
	}
	for _, client := range plan.Clients {
		lines = append(lines, fmt.Sprintf("client %d: %s%s", client.Number, client.Workload, ofShard(client.Shard)))
	}
	for i, fault := range plan.Faults {
		number := i
		if i < len(spec.Faults) { // a shorter time leaves out the last ones
			number = spec.Faults[i]
		}
		lines = append(lines, fmt.Sprintf("fault %d: %s", number, describeFault(fault)))
	}
	return lines
}

// ofShard names the shard, where there are several.
func ofShard(shard int) string {
	if shard == 0 {
		return ""
	}
	return fmt.Sprintf(", shard %d", shard)
}

func describeFault(fault sim.Fault) string {
	var b strings.Builder
	fmt.Fprintf(&b, "at %v %s", fault.At, fault.Kind)
	if fault.Node == 0 {
		b.WriteString(" node=leader")
	} else {
		fmt.Fprintf(&b, " node=%d", fault.Node)
	}
	if fault.Other != 0 {
		fmt.Fprintf(&b, " other=%d", fault.Other)
	}
	if fault.Shard != 0 {
		fmt.Fprintf(&b, " shard=%d", fault.Shard)
	}
	if fault.Duration != 0 {
		fmt.Fprintf(&b, " for=%v", fault.Duration)
	}
	if fault.Amount != 0 {
		fmt.Fprintf(&b, " amount=%g", fault.Amount)
	}
	return b.String()
}

// ParseHash reads a trace hash: 1 to 16 hexadecimal digits.
func ParseHash(text string) (uint64, error) {
	hash, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a trace hash: it has up to 16 hexadecimal digits, such as %s", text, FormatHash(uint64(0xcbf29ce484222325)))
	}
	return hash, nil
}

// TraceHead is what a trace file says about the run.
type TraceHead struct {
	Version  string
	Spec     Spec
	planJSON string
	Verdict  sim.Verdict
	Lines    int64
	Hash     string // FormatHash, or "unknown"

	body int64 // where the trace begins
}
