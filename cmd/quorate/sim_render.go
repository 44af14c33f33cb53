package main

import (
	"cmp"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/sim/campaign"
)

// traceVersion is the version that trace files name: with the commit if the program knows it, because any commit may change what a
// seed does.
func traceVersion() string {
	version := server.Version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			version += "+" + setting.Value[:min(12, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			version += "-modified"
		}
	}
	return version
}

// runJSON is one run in JSON output.
type runJSON struct {
	Command string `json:"command"`
	campaign.Report
	Hash      string              `json:"hash,omitempty"` // hexadecimal, as --check-hash takes it
	Minimised *campaign.Minimised `json:"minimised,omitempty"`
}

func (s *simulation) printRun(report campaign.Report, smaller *campaign.Minimised) error {
	hash := ""
	if report.Result.Verdict != "" {
		hash = campaign.FormatHash(report.Result.Hash)
	}
	if s.json() {
		return writeJSON(s.app.stdout, runJSON{Command: report.Spec.Command(), Report: report, Hash: hash, Minimised: smaller})
	}
	result := report.Result
	var out lines
	out.add("verdict", string(report.Verdict))
	out.add("problem", report.Problem)
	out.add("hash", hash)
	if hash != "" {
		out.add("simulated", fmt.Sprintf("%v in %v, %s", result.Time, report.Wall.Round(time.Millisecond), plural(result.Events, "event")))
		out.add("operations", counts(result.Operations))
		out.add("faults", counts(result.Faults))
		out.add("marks", counts(result.Marks))
	}
	out.add("command", report.Spec.Command())
	if smaller != nil {
		out.add("smaller", smaller.Command)
		out.add("", shrinkage(smaller))
	} else if report.Failed() && !s.flags.minimise {
		out.add("smaller", "add --minimise to look for a smaller run that fails in the same way")
	}
	if report.Detail != "" {
		out.block("detail", report.Detail)
	}
	_, err := s.app.stdout.Write([]byte(out.String()))
	return err
}

// replayedJSON is a replay in JSON output.
type replayedJSON struct {
	Command       string `json:"command"`
	Same          bool   `json:"same"`
	SavedHash     string `json:"saved_hash"`
	Hash          string `json:"hash"`
	SavedVerdict  string `json:"saved_verdict"`
	Verdict       string `json:"verdict"`
	Lines         int64  `json:"lines"` // of the saved trace
	DifferentLine int64  `json:"different_line,omitempty"`
	SavedText     string `json:"saved_text,omitempty"`
	Text          string `json:"text,omitempty"`
}

func (s *simulation) printReplayed(r *campaign.Replayed) error {
	if s.json() {
		return writeJSON(s.app.stdout, replayedJSON{
			Command: r.Saved.Spec.Command(), Same: r.Same, SavedHash: r.Saved.Hash, Hash: r.Hash,
			SavedVerdict: string(r.Saved.Verdict), Verdict: string(r.Report.Verdict), Lines: r.Saved.Lines,
			DifferentLine: r.DifferentLine, SavedText: r.SavedLine, Text: r.ThisLine,
		})
	}
	var out lines
	if r.Same {
		out.add("same", fmt.Sprintf("all %s, hash %s, verdict %s", plural(r.Saved.Lines, "line"), r.Hash, r.Report.Verdict))
	} else {
		out.add("different", fmt.Sprintf("hash %s, and it was %s; verdict %s, and it was %s", r.Hash, r.Saved.Hash, r.Report.Verdict, r.Saved.Verdict))
	}
	if r.DifferentLine > 0 {
		out.add("line", strconv.FormatInt(r.DifferentLine, 10))
		out.add("saved", cmp.Or(r.SavedLine, "(the trace had ended)"))
		out.add("now", cmp.Or(r.ThisLine, "(the trace has ended)"))
	}
	out.add("command", r.Saved.Spec.Command())
	_, err := s.app.stdout.Write([]byte(out.String()))
	return err
}

// summaryJSON is a campaign in JSON output. Durations are nanoseconds.
type summaryJSON struct {
	*campaign.Summary
	SimulatedHours float64  `json:"simulated_hours"`
	HoursPerMinute float64  `json:"simulated_hours_per_real_minute"`
	Unreached      []string `json:"marks_unreached"`
}

func (s *simulation) printSummary(summary *campaign.Summary) error {
	unreached := summary.Unreached(s.app.simulator.KnownMarks())
	if s.json() {
		return writeJSON(s.app.stdout, summaryJSON{summary, summary.Simulated.Hours(), summary.HoursPerMinute(), unreached})
	}
	_, err := s.app.stdout.Write([]byte(summaryText(summary, unreached)))
	return err
}

func summaryText(summary *campaign.Summary, unreached []string) string {
	var out lines
	done := fmt.Sprintf("%d of %d (%v) in %v", summary.Done, summary.Seeds.Count(), summary.Seeds, summary.Wall.Round(time.Second/10))
	switch {
	case summary.Interrupted:
		done += ", ended early"
	case summary.StoppedAtFailures:
		done += fmt.Sprintf(", stopped after %d failures (--keep-going does not stop)", summary.Failed())
	}
	out.add("seeds", done)
	out.add("verdicts", counts(summary.Verdicts))
	out.add("simulated", fmt.Sprintf("%s, %.1f h per real minute, %d events", hours(summary.Simulated), summary.HoursPerMinute(), summary.Events))
	out.add("protocols", counts(summary.Protocols))
	out.add("engines", counts(summary.Engines))
	out.add("operations", counts(summary.Operations))
	out.add("faults", counts(summary.Faults))
	out.add("marks", cmp.Or(marks(summary), "none"))
	out.add("never reached", wrapped(unreached))
	for _, failure := range summary.Failures {
		out.add(string(failure.Verdict), failure.Command)
		out.add("", firstLine(failure.Problem))
		if smaller := failure.Minimised; smaller != nil {
			out.add("", "smaller: "+smaller.Command)
			out.add("", "         "+shrinkage(smaller))
		}
		out.add("", failure.NotMinimised)
	}
	if summary.FailuresOmitted > 0 {
		out.add("", fmt.Sprintf("and %s more", plural(int64(summary.FailuresOmitted), "failing seed")))
	}
	return out.String()
}

// marks lists in how many seeds each was reached, and how often, a line each.
func marks(summary *campaign.Summary) string {
	names := slices.Sorted(maps.Keys(summary.Marks))
	width := 0
	for _, name := range names {
		width = max(width, len(name))
	}
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "%-*s  %8d in %s\n", width, name, summary.Marks[name], plural(int64(summary.MarkSeeds[name]), "seed"))
	}
	return text.String()
}

// counts writes "name 1, other 2", by name.
func counts[K ~string, N int | uint64](numbers map[K]N) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		texts = append(texts, fmt.Sprintf("%s %d", name, numbers[name]))
	}
	return wrapped(texts)
}

// lineWidth is where lists are wrapped, without the column of names.
const lineWidth = 100

// wrapped joins texts by commas, in lines.
func wrapped(texts []string) string {
	var all strings.Builder
	width := 0
	for i, text := range texts {
		if i < len(texts)-1 {
			text += ","
		}
		switch {
		case i == 0:
		case width+1+len(text) > lineWidth:
			all.WriteByte('\n')
			width = 0
		default:
			all.WriteByte(' ')
			width++
		}
		all.WriteString(text)
		width += len(text)
	}
	return all.String()
}

// shrinkage says how much smaller a run got.
func shrinkage(m *campaign.Minimised) string {
	text := fmt.Sprintf("%d of %s, %d of %s, %v of %v", m.After.Faults, plural(int64(m.Before.Faults), "fault"),
		m.After.Clients, plural(int64(m.Before.Clients), "client"), m.After.Duration, m.Before.Duration)
	if m.After.Events > 0 && m.Before.Events > 0 {
		text += fmt.Sprintf(", %d of %s", m.After.Events, plural(m.Before.Events, "event"))
	}
	text += fmt.Sprintf("; found in %s", plural(int64(m.Runs), "run"))
	if m.Exhausted {
		text += ", and the search was not finished: --minimise-runs and --minimise-time give it more"
	}
	for _, verdict := range slices.Sorted(maps.Keys(m.OtherVerdicts)) {
		text += fmt.Sprintf("; on the way, %s: %s", verdict, m.OtherVerdicts[verdict])
	}
	return text
}

func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// lines are output lines with a name each, and texts that begin in one column.
type lines struct{ strings.Builder }

const nameWidth = 15

// add adds a line, or several if the text has them; no text, no line.
func (l *lines) add(name, text string) {
	if text == "" {
		return
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(l, "%-*s%s\n", nameWidth, name, strings.TrimRight(line, "\n"))
		name = ""
	}
}

// block adds a text as it is under a line of its own.
func (l *lines) block(name, text string) {
	fmt.Fprintf(l, "%s\n%s\n", name, strings.TrimRight(text, "\n"))
}
