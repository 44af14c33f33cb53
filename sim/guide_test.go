package sim

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/docs/markdown"
	"github.com/quoratedb/quorate/sim/workload"
)

const guidePath = "../docs/simulator.md"

var update = flag.Bool("update", false, "rewrite the lists of faults and workloads in "+guidePath)

// TestGuide: the guide lists every kind of fault and every workload, with the first sentence of its comment in the source.
//
// Rewrite it with: go test ./sim -run TestGuide -update
func TestGuide(t *testing.T) {
	content, err := os.ReadFile(guidePath)
	if err != nil {
		t.Fatal(err)
	}
	want := replaceTable(t, string(content), "faults", faultTable(t))
	want = replaceTable(t, want, "workloads", workloadTable(t))
	if *update && !t.Failed() {
		if err := os.WriteFile(guidePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(content) != want {
		t.Errorf("%s differs from the source; run go test ./sim -run TestGuide -update", guidePath)
	}
}

var sceneItem = regexp.MustCompile("(?m)^\\* \\*\\*`([a-z ]+)`\\*\\*\n  \\* what it brings about: ")

// TestGuideListsTheScenes: the guide says of every scene what it brings about, and of nothing else, in the order of the code.
func TestGuideListsTheScenes(t *testing.T) {
	content, err := os.ReadFile(guidePath)
	if err != nil {
		t.Fatal(err)
	}
	var listed, drawn []string
	for _, found := range sceneItem.FindAllStringSubmatch(string(content), -1) {
		listed = append(listed, found[1])
	}
	for _, s := range scenes {
		drawn = append(drawn, s.name)
	}
	if !slices.Equal(listed, drawn) {
		t.Errorf("%s lists the scenes %q; plans are drawn of %q", guidePath, listed, drawn)
	}
}

func replaceTable(t *testing.T, guide, name, table string) string {
	begin, end := "<!-- "+name+": begin (generated from sim) -->\n", "<!-- "+name+": end -->"
	before, rest, found1 := strings.Cut(guide, begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found1 || !found2 {
		t.Fatalf("%s has no table between %q and %q", guidePath, begin, end)
	}
	return before + begin + "\n" + table + "\n" + end + after
}

// declared is a constant or variable of the simulator that stands for something a plan can name.
type declared struct{ identifier, name, comment string }

// sentence is the first one of the comment, after what it begins with.
func (d declared) sentence(t *testing.T, beginning string) string {
	meaning, ok := strings.CutPrefix(d.comment, beginning)
	if !ok {
		t.Errorf("the comment of %s does not begin with %q: %q", d.identifier, beginning, d.comment)
	}
	meaning, _, _ = strings.Cut(strings.TrimSuffix(meaning, "."), ". ")
	return meaning
}

func faultTable(t *testing.T) string {
	constants := declarations(t, ".", token.CONST, func(s *ast.ValueSpec) string {
		if kind, ok := s.Type.(*ast.Ident); !ok || kind.Name != "FaultKind" {
			return ""
		}
		return unquote(t, s.Values[0])
	})
	kinds, names := map[string]string{}, map[FaultKind]bool{}
	for _, c := range constants {
		kinds[c.identifier], names[FaultKind(c.name)] = c.name, true
	}
	for _, r := range faultRanges {
		if !names[r.kind] {
			t.Errorf("plans can have the fault %q, but no constant of the type FaultKind was found for it", r.kind)
		}
	}
	identifiers := regexp.MustCompile(`\bFault[A-Z]\w*`)
	var b strings.Builder
	for _, c := range constants {
		meaning := c.sentence(t, c.identifier+" ")
		if FaultKind(c.name).plotted() {
			meaning = "plot: " + meaning
		}
		meaning = identifiers.ReplaceAllStringFunc(meaning, func(other string) string {
			if kinds[other] == "" {
				t.Errorf("the comment of %s names %s, which is no kind of fault", c.identifier, other)
			}
			return "`" + kinds[other] + "`"
		})
		b.WriteString(markdown.Item("`"+c.name+"`", meaning))
	}
	return b.String()
}

func workloadTable(t *testing.T) string {
	variables := map[string]declared{}
	for _, v := range declarations(t, "workload", token.VAR, func(s *ast.ValueSpec) string { return workloadName(t, s) }) {
		variables[v.name] = v
	}
	var b strings.Builder
	for _, w := range workload.All() {
		v, ok := variables[w.Name]
		if !ok {
			t.Errorf("no variable was found for the workload %q", w.Name)
		}
		b.WriteString(markdown.Item("`"+w.Name+"`", v.sentence(t, v.identifier+": ")))
	}
	return b.String()
}

// workloadName is the name of the workload that the variable holds; "": it holds something else.
func workloadName(t *testing.T, s *ast.ValueSpec) string {
	if len(s.Values) != 1 {
		return ""
	}
	literal, ok := s.Values[0].(*ast.CompositeLit)
	if !ok {
		return ""
	}
	if kind, ok := literal.Type.(*ast.Ident); !ok || kind.Name != "Workload" {
		return ""
	}
	for _, e := range literal.Elts {
		if pair := e.(*ast.KeyValueExpr); pair.Key.(*ast.Ident).Name == "Name" {
			return unquote(t, pair.Value)
		}
	}
	return ""
}

func unquote(t *testing.T, e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("a name is no constant text: %v", e)
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// declarations are those in the source of a package that have a name, in the order of files and lines.
func declarations(t *testing.T, folder string, kind token.Token, name func(*ast.ValueSpec) string) (found []declared) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			general, ok := d.(*ast.GenDecl)
			if !ok || general.Tok != kind {
				continue
			}
			for _, s := range general.Specs {
				spec := s.(*ast.ValueSpec)
				comment := spec.Doc
				if !general.Lparen.IsValid() {
					comment = general.Doc
				}
				if n := name(spec); n != "" {
					found = append(found, declared{spec.Names[0].Name, n, strings.Join(strings.Fields(comment.Text()), " ")})
				}
			}
		}
	}
	return found
}
