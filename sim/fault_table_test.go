package sim

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of faults in docs/simulator.md")

// TestFaultTable: the guide lists every kind of fault with the first sentence of its constant's comment.
//
// Rewrite it with: go test ./sim -run TestFaultTable -update
func TestFaultTable(t *testing.T) {
	const path = "../docs/simulator.md"
	const begin, end = "<!-- faults: begin (generated from sim) -->\n", "<!-- faults: end -->"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found1 := strings.Cut(string(content), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found1 || !found2 {
		t.Fatalf("%s has no table of faults between %q and %q", path, begin, end)
	}
	want := before + begin + "\n" + faultTable(t) + "\n" + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(content) != want {
		t.Errorf("%s differs from the constants in the code; run go test ./sim -run TestFaultTable -update", path)
	}
}

func faultTable(t *testing.T) string {
	constants := faultConstants(t)
	kinds := map[string]string{} // by the constant's name
	for _, c := range constants {
		kinds[c.name] = c.kind
	}
	names := regexp.MustCompile(`\bFault[A-Z]\w*`)
	var b strings.Builder
	b.WriteString("| fault | what it does |\n|---|---|\n")
	for _, c := range constants {
		meaning, ok := strings.CutPrefix(c.comment, c.name+" ")
		if !ok || len(c.kind) == 0 {
			t.Errorf("the comment of %s does not say what it does: %q", c.name, c.comment)
		}
		meaning, _, _ = strings.Cut(strings.TrimSuffix(meaning, "."), ". ") // the first sentence
		if FaultKind(c.kind).plotted() {
			meaning = "plot: " + meaning
		}
		meaning = names.ReplaceAllStringFunc(meaning, func(name string) string {
			if kinds[name] == "" {
				t.Errorf("the comment of %s names %s, which is no kind of fault", c.name, name)
			}
			return "`" + kinds[name] + "`"
		})
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.kind, strings.ReplaceAll(meaning, "|", `\|`))
	}
	return b.String()
}

type faultConstant struct{ name, kind, comment string }

// faultConstants are the constants of the type FaultKind, in the order of files and lines.
func faultConstants(t *testing.T) (constants []faultConstant) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.CONST {
				continue
			}
			for _, s := range general.Specs {
				spec := s.(*ast.ValueSpec)
				if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "FaultKind" {
					continue
				}
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				comment := spec.Doc
				if !general.Lparen.IsValid() {
					comment = general.Doc
				}
				constants = append(constants, faultConstant{spec.Names[0].Name, value, strings.Join(strings.Fields(comment.Text()), " ")})
			}
		}
	}
	if len(constants) < 30 {
		t.Fatalf("only %d kinds of faults were found in the source", len(constants))
	}
	return constants
}
