package driver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestHandleKeepsOut: what any goroutine may call on a Replica does not look at what belongs to the driver's goroutine, but has that done there.
func TestHandleKeepsOut(t *testing.T) {
	may := []string{
		"ask", "call", // pass it to what is done in a round
		"Propose",                            // in the request
		"Backers", "Following", "HoldsStill", // between rounds
	}
	var seen []string
	for name, method := range methodsOf(t, "Replica") {
		ast.Inspect(method.Body, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "driven" && !isCall(method.Body, s) {
				seen = append(seen, name)
			}
			return true
		})
	}
	slices.Sort(may)
	slices.Sort(seen)
	if seen = slices.Compact(seen); !slices.Equal(seen, may) {
		t.Errorf("these methods of Replica look at what is the driver's: %v; only these may: %v", seen, may)
	}
}

// isCall tells whether the selector is what a call calls: a method of that name.
func isCall(in ast.Node, s *ast.SelectorExpr) (is bool) {
	ast.Inspect(in, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && c.Fun == s {
			is = true
		}
		return !is
	})
	return is
}

// methodsOf finds the methods of a type of this package.
func methodsOf(t *testing.T, receiver string) map[string]*ast.FuncDecl {
	t.Helper()
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	methods := make(map[string]*ast.FuncDecl)
	for _, entry := range names {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok {
				if of, ok := star.X.(*ast.Ident); ok && of.Name == receiver {
					methods[f.Name.Name] = f
				}
			}
		}
	}
	return methods
}
