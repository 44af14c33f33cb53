package campaign

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestKnownMarks finds every call of mark or Mark in the simulator.
func TestKnownMarks(t *testing.T) {
	world, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	workloads, err := filepath.Glob("../workload/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range slices.Concat(world, workloads) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(tree) {
			if name, ok := markName(t, file, node); ok {
				found = append(found, name)
			}
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if !slices.Equal(found, knownMarks) {
		t.Errorf("the simulator has the marks\n\t%q\nand marks.go lists\n\t%q\nChange the list.", found, knownMarks)
	}
	if len(found) < 20 {
		t.Errorf("only %d marks were found: is this how they are set?", len(found))
	}
}

func markName(t *testing.T, file string, node ast.Node) (string, bool) {
	call, ok := node.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return "", false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !strings.EqualFold(selector.Sel.Name, "mark") {
		return "", false
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		// The one place that passes a name on.
		if filepath.Base(file) != "clients.go" {
			t.Errorf("%s: a mark whose name is no constant text: nobody can tell whether it was reached", file)
		}
		return "", false
	}
	name, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return name, true
}
