package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
)

// All variants are in one program ("mutant schemata": Untch, Offutt and Harrold, 1993), because building one for each would take most of
// the time. Each mutation changes one function. Its changed copy stands beside the original, which begins by asking whether to
// hand over to it.

// chosenVariable is declared in every package that a mutation changes.
const chosenVariable = "mutationChosenByEnvironment"

// Environment names the mutation that a worker runs with; none if it is not set.
const environment = "QUORATE_MUTATION"

const chosenSource = `package %s

import "os"

var ` + chosenVariable + ` = os.Getenv("` + environment + `")
`

// schemata returns all files that the mutations change, and those to be added, by path.
func (t *tree) schemata(all []Mutation) (map[string]string, error) {
	changed := map[string]string{}
	insertions := map[string][]insertion{}
	for i := range all {
		m := &all[i]
		path, source, mutated, err := t.read(m)
		if err != nil {
			return nil, err
		}
		add, name, err := m.schema(source, mutated, i)
		if err != nil {
			return nil, err
		}
		changed[path] = source
		insertions[path] = append(insertions[path], add...)
		changed[filepath.Join(filepath.Dir(path), "mutation_chosen.go")] = fmt.Sprintf(chosenSource, name)
	}
	for path, list := range insertions {
		changed[path] = insert(changed[path], list)
	}
	return changed, nil
}

// insertion is text to be put into a source at an offset.
type insertion struct {
	at   int
	text string
}

func insert(source string, list []insertion) string {
	slices.SortStableFunc(list, func(a, b insertion) int { return a.at - b.at })
	var b strings.Builder
	from := 0
	for _, one := range list {
		b.WriteString(source[from:one.at])
		b.WriteString(one.text)
		from = one.at
	}
	b.WriteString(source[from:])
	return b.String()
}

// schema finds the function that the mutation changes, and returns what to insert: at its beginning the hand-over, and at the end of the
// file the changed copy.
func (m *Mutation) schema(source, mutated string, number int) (list []insertion, packageName string, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, m.File, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, "", err
	}
	from, to := difference(source, mutated)
	at := slices.IndexFunc(file.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Body != nil && set.Position(f.Body.Lbrace).Offset < from && to <= set.Position(f.Body.Rbrace).Offset
	})
	if at < 0 {
		return nil, "", fmt.Errorf("%s: %w: it must change the body of one function of %s", m.Name, errStale, m.File)
	}
	original := file.Decls[at].(*ast.FuncDecl)
	name := fmt.Sprintf("mutation%dOf%s", number, original.Name.Name)
	call, err := handOver(original, name)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", m.Name, err)
	}
	begin, end := set.Position(original.Pos()).Offset, set.Position(original.End()).Offset+len(mutated)-len(source)
	copied := mutated[begin:end]
	nameAt := set.Position(original.Name.Pos()).Offset - begin
	copied = copied[:nameAt] + name + copied[nameAt+len(original.Name.Name):]
	return []insertion{
		{set.Position(original.Body.Lbrace).Offset + 1, fmt.Sprintf("\n\tif %s == %q {\n\t\t%s\n\t}\n", chosenVariable, m.Name, call)},
		{len(source), "\n" + copied + "\n"},
	}, file.Name.Name, nil
}

// difference returns the part of the source that the mutation changes.
func difference(source, mutated string) (from, to int) {
	shorter := min(len(source), len(mutated))
	for from < shorter && source[from] == mutated[from] {
		from++
	}
	tail := 0
	for tail < shorter-from && source[len(source)-1-tail] == mutated[len(mutated)-1-tail] {
		tail++
	}
	return from, len(source) - tail
}

// handOver is the statement that calls the copy with what the original was called with.
func handOver(f *ast.FuncDecl, name string) (string, error) {
	var arguments []string
	for _, field := range f.Type.Params.List {
		if len(field.Names) == 0 {
			return "", fmt.Errorf("%w: function %s has a parameter without a name", errStale, f.Name.Name)
		}
		_, variadic := field.Type.(*ast.Ellipsis)
		for _, one := range field.Names {
			switch {
			case one.Name == "_":
				return "", fmt.Errorf("%w: function %s has a parameter without a name", errStale, f.Name.Name)
			case variadic:
				arguments = append(arguments, one.Name+"...")
			default:
				arguments = append(arguments, one.Name)
			}
		}
	}
	call := name + "(" + strings.Join(arguments, ", ") + ")"
	if f.Recv != nil {
		if len(f.Recv.List[0].Names) == 0 {
			return "", fmt.Errorf("%w: method %s has a receiver without a name", errStale, f.Name.Name)
		}
		call = f.Recv.List[0].Names[0].Name + "." + call
	}
	if f.Type.Results != nil {
		return "return " + call, nil
	}
	return call + "\n\t\treturn", nil
}
