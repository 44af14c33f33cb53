package serveflags

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/docs/markdown"
)

// TestOperationsDocument keeps docs/operations.md equal to the code.
// Rewrite it with: go test ./cmd/quorate/serveflags -update
func TestOperationsDocument(t *testing.T) {
	const path = "../../../docs/operations.md"
	const begin, end = "<!-- flags: begin (generated from cmd/quorate/serveflags) -->\n", "<!-- flags: end -->"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found1 := strings.Cut(string(content), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found1 || !found2 {
		t.Fatalf("%s has no flags section between %q and %q", path, begin, end)
	}
	want := before + begin + "\n" + flagsSection() + "\n" + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(content) != want {
		t.Errorf("%s differs from the flags in the code; run go test ./cmd/quorate/serveflags -update", path)
	}
}

// flagsSection is the flags section of docs/operations.md.
func flagsSection() string {
	var text strings.Builder
	for _, group := range Groups() {
		fmt.Fprintf(&text, "### %s\n\n", group)
		for _, f := range appliedIn(group) {
			about := f.Usage
			if f.Default != "" {
				about += " Default: `" + f.Default + "`."
			}
			if f.Limits != "" {
				about += " Values: " + f.Limits + "."
			}
			text.WriteString(markdown.Item("`--"+f.Name+"`", about))
		}
		text.WriteString("\n")
	}
	section := func(title, intro string, treatment Treatment) {
		fmt.Fprintf(&text, "### %s\n\n%s\n\n", title, intro)
		for _, row := range byReason(treatment) {
			text.WriteString(markdown.Wrap("`--"+strings.Join(row.names, "` `--")+"`: "+row.because, "* ", "  "))
		}
		text.WriteString("\n")
	}
	section("Refused", "These flags of etcd's end the start with an error, unless their value asks for nothing (`--force-new-cluster=false`).", Refused)
	section("Accepted without effect", "These flags of etcd's are accepted, each with a notice of one line when its value differs from what happens anyway.", Ignored)
	return strings.TrimRight(text.String(), "\n") + "\n"
}

type reason struct {
	because string
	names   []string
}

// byReason collects flags that are treated so for the same reason, in the order
// of the table.
func byReason(treatment Treatment) []*reason {
	var rows []*reason
	found := map[string]*reason{}
	for _, f := range Table() {
		if f.Treatment != treatment {
			continue
		}
		row := found[f.Because]
		if row == nil {
			row = &reason{because: f.Because}
			found[f.Because] = row
			rows = append(rows, row)
		}
		row.names = append(row.names, f.Name)
	}
	return rows
}
