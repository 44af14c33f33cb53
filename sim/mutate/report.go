package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/quoratedb/quorate/docs/markdown"
)

// problemWidth is how much of a problem a table shows.
const problemWidth = 150

// place says where a row was found.
func (r *Row) place() string {
	if r.Status == found && r.At != 0 {
		return fmt.Sprintf("seed %d alone", r.At)
	}
	switch r.Status {
	case found:
		return fmt.Sprintf("seed %d of %d", r.Seed, r.Within)
	case passed:
		return fmt.Sprintf("passes %d seeds", r.Within)
	case failed:
		return fmt.Sprintf("FAILS at seed %d", r.Seed)
	}
	return strings.ToUpper(r.Status)
}

// shortProblem is the beginning of the problem, on one line.
func (r *Row) shortProblem() string {
	one := strings.Join(strings.Fields(r.Problem), " ")
	if runes := []rune(one); len(runes) > problemWidth {
		return strings.TrimSpace(string(runes[:problemWidth])) + " ..."
	}
	return one
}

// what is the sentence, with the protocol and the number of shards when they matter.
func (r *Row) what() string {
	text := r.Breaks
	if r.Protocol != "" {
		text += fmt.Sprintf(" (%s)", r.Protocol)
	}
	if r.Shards != 0 {
		text += fmt.Sprintf(" (%d shards)", r.Shards)
	}
	if r.Partition != "" {
		text += fmt.Sprintf(" (partition by %s)", r.Partition)
	}
	return text
}

// printRow writes a row for somebody who watches.
func printRow(w io.Writer, r *Row) {
	fmt.Fprintf(w, "%s | %s | %s | %s | %s | %s", r.Name, r.Layer, r.what(), r.place(), r.Verdict, r.shortProblem())
	if r.Status == found {
		fmt.Fprintf(w, " | %s", r.command())
	}
	fmt.Fprintf(w, " (%.0f s)\n", r.Seconds)
}

func printJSON(w io.Writer, rows []Row) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(rows)
}

const markdownPath = "docs/mutations.md"

const markdownHead = `# Broken variants, and where the simulator finds them

Written by ` + "`go run ./sim/mutate --markdown`" + `; do not edit.

A simulator that reports nothing has found nothing, or sees nothing. Each row is Quorate with one deliberate mistake: what is wrong, where and how
the simulator saw it, and the beginning of what it said. All run on the same seeds, 1, 2, 3, ..., of the same simulator that tests Quorate itself;
"seed 3 of 40" says that the third seed showed the mistake and that a survivor of 40 would have counted as a defect of the simulator. What none of
the first seeds shows names the one that does ("seed 771003877 alone"). The code as it is passes the same seeds (last rows).

[A blind trial](trial.md) says how many bugs are found by somebody who did not have the simulator in mind.

`

const markdownFoot = `
` + "`go run ./sim/mutate --only NAME --first SEED --seeds 1`" + ` shows a row again; "raft", "paxos", "4 shards" or "partition by hash" at the
end of a sentence says what its seeds are run with. The verdicts: *correctness*, an answer, a watch or a state was wrong; *crash*, an assertion or a node that stopped
without a fault that explains it; *liveness*, after everything was well the cluster did not serve; *hang*, the run itself did not end.
`

const markdownUnseen = `
## Not found yet

These are mistakes too, and the simulator does not find them, or so rarely that it proves nothing. They are tried only by name, so that whoever sharpens the
simulator has something to aim at.

`

// writeMarkdown writes the list into the repository.
func writeMarkdown(root string, rows []Row) error {
	var b strings.Builder
	b.WriteString(markdownHead)
	plain := strings.NewReplacer("<", "&lt;").Replace
	for i := range rows {
		r := &rows[i]
		name := "`" + r.Name + "`"
		if r.Layer == "control" {
			name = "no change"
		}
		b.WriteString(markdown.Item(name, plain(r.what())))
		outcome := r.place()
		if r.Verdict != "" {
			outcome += ", " + string(r.Verdict) + ": " + plain(r.shortProblem())
		}
		b.WriteString(markdown.Wrap(outcome, "  * ", "    "))
	}
	b.WriteString(markdownFoot)
	head := markdownUnseen
	for _, m := range mutations() {
		if m.Unseen != "" {
			b.WriteString(head + markdown.Item("`"+m.Name+"`", plain(m.Breaks)) + markdown.Wrap("why, as far as we know: "+plain(m.Unseen), "  * ", "    "))
			head = ""
		}
	}
	return os.WriteFile(filepath.Join(root, markdownPath), []byte(b.String()), 0o644)
}
