package quorate

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// usedByTestsOnly are symbols that stay although only their own package's tests use them, or nobody. The list is exact: a
// symbol that has found a user, or is gone, fails the test.
var usedByTestsOnly = map[string]string{}

// TestSymbolsHaveUsers fails for whatever a package declares that nobody uses but its own tests: functions, methods,
// types, fields, constants, variables, exported or not. Uses by the tests of other packages count; so do methods that
// make a type fit an interface somebody calls.
func TestSymbolsHaveUsers(t *testing.T) {
	program := loadProgram(t)
	unused := program.unused()
	for _, name := range unused {
		if _, ok := usedByTestsOnly[name]; !ok {
			t.Errorf("%s is used nowhere, or only by the tests of its own package: remove it, or give its reason in usedByTestsOnly", name)
		}
	}
	for name := range usedByTestsOnly {
		if !slices.Contains(unused, name) {
			t.Errorf("%s is used or gone: remove it from usedByTestsOnly", name)
		}
	}
}

// program is the whole module, type-checked.
type program struct {
	files    *token.FileSet
	packages map[string]*sourcePackage
	foreign  types.Importer
	named    []*types.Named
	asked    []*types.Interface // without a name
	used     map[token.Pos]bool // by where the symbol is declared
}

// sourcePackage is a package of the module.
type sourcePackage struct {
	parsedPackage
	TestGoFiles, XTestGoFiles, TestImports, XTestImports []string

	files []*ast.File // without tests
	types *types.Package
}

// loadProgram type-checks the module, once for all tests.
func loadProgram(t *testing.T) *program {
	loaded.once.Do(func() { loaded.program = checkModule(t) })
	if loaded.program == nil {
		t.Fatal("the module could not be loaded")
	}
	return loaded.program
}

var loaded struct {
	once    sync.Once
	program *program
}

func checkModule(t *testing.T) *program {
	p := &program{files: token.NewFileSet(), packages: make(map[string]*sourcePackage), used: make(map[token.Pos]bool)}
	foreign := make(map[string]bool)
	for _, listed := range goList[*sourcePackage](t, "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...") {
		p.packages[listed.ImportPath] = listed
		for _, path := range slices.Concat(listed.Imports, listed.TestImports, listed.XTestImports) {
			foreign[path] = true
		}
	}
	arguments := []string{"-export", "-json=ImportPath,Export"}
	for path := range foreign {
		if p.packages[path] == nil && path != "unsafe" {
			arguments = append(arguments, path)
		}
	}
	exports := make(map[string]string)
	for _, listed := range goList[struct{ ImportPath, Export string }](t, arguments...) {
		exports[listed.ImportPath] = listed.Export
	}
	p.foreign = importer.ForCompiler(p.files, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	for path := range p.packages {
		if _, err := p.Import(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range p.packages {
		p.checkTests(s)
	}
	return p
}

// goList decodes what go list prints.
func goList[T any](t *testing.T, arguments ...string) []T {
	command := exec.Command("go", append([]string{"list"}, arguments...)...)
	command.Stderr = os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0") // go/types cannot load what is written in C
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	var all []T
	for {
		var one T
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// Import gives packages of the module from their source, and all others from what the compiler exported.
func (p *program) Import(path string) (*types.Package, error) {
	s := p.packages[path]
	if s == nil {
		return p.foreign.Import(path)
	}
	if s.types != nil {
		return s.types, nil
	}
	var err error
	if s.files, err = p.parse(s.Dir, s.GoFiles); err != nil {
		return nil, err
	}
	info := newInfo()
	if s.types, err = (&types.Config{Importer: p}).Check(path, p.files, s.files, info); err != nil {
		return nil, err
	}
	p.note(info, s.files, nil)
	for _, object := range info.Defs {
		if typeName, ok := object.(*types.TypeName); ok && !typeName.IsAlias() {
			if named, ok := typeName.Type().(*types.Named); ok {
				p.named = append(p.named, named)
			}
		}
	}
	return s.types, nil
}

func newInfo() *types.Info {
	return &types.Info{
		Uses: make(map[*ast.Ident]types.Object), Defs: make(map[*ast.Ident]types.Object), Types: make(map[ast.Expr]types.TypeAndValue),
	}
}

func (p *program) parse(dir string, names []string) ([]*ast.File, error) {
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(p.files, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// checkTests notes what the tests of a package use of other packages. Types of the package with and without its tests
// differ, which the checker complains of here and there; what is used it finds nevertheless.
func (p *program) checkTests(s *sourcePackage) {
	config := &types.Config{Importer: p, Error: func(error) {}}
	inside, err := p.parse(s.Dir, s.TestGoFiles)
	if err == nil && len(inside) > 0 {
		info := newInfo()
		_, _ = config.Check(s.ImportPath, p.files, slices.Concat(s.files, inside), info)
		p.note(info, inside, s)
	}
	outside, err := p.parse(s.Dir, s.XTestGoFiles)
	if err == nil && len(outside) > 0 {
		info := newInfo()
		_, _ = config.Check(s.ImportPath+"_test", p.files, outside, info)
		p.note(info, outside, s)
	}
}

// note keeps what these files use; not what a declaration uses of itself, and not what a package's tests use of it.
func (p *program) note(info *types.Info, files []*ast.File, testsOf *sourcePackage) {
	use := func(object types.Object) {
		if object != nil && object.Pkg() != nil && (testsOf == nil || object.Pkg().Path() != testsOf.ImportPath) {
			p.used[object.Pos()] = true
		}
	}
	for _, file := range files {
		for _, declaration := range file.Decls {
			ast.Inspect(declaration, func(node ast.Node) bool {
				switch n := node.(type) {
				case *ast.Ident:
					if object := origin(info.Uses[n]); object != nil && !declares(declaration, n, object) {
						use(object)
					}
				case *ast.CompositeLit:
					for _, field := range positionalFields(info.TypeOf(n), n) {
						use(field.Origin())
					}
				case *ast.TypeSpec:
					if _, named := n.Type.(*ast.InterfaceType); named {
						return false
					}
				case *ast.InterfaceType: // one without a name: somebody asks for its methods
					if under, ok := info.TypeOf(n).(*types.Interface); ok && under.NumMethods() > 0 {
						p.asked = append(p.asked, under)
						for method := range under.Methods() {
							use(method)
						}
					}
				}
				return true
			})
		}
	}
}

// positionalFields are the fields that a literal fills without naming them.
func positionalFields(of types.Type, literal *ast.CompositeLit) []*types.Var {
	if of == nil || len(literal.Elts) == 0 {
		return nil
	}
	if pointer, ok := of.Underlying().(*types.Pointer); ok {
		of = pointer.Elem()
	}
	under, ok := of.Underlying().(*types.Struct)
	if _, keyed := literal.Elts[0].(*ast.KeyValueExpr); !ok || keyed {
		return nil
	}
	return slices.Collect(under.Fields())
}

// origin is the symbol as it was declared, without type arguments.
func origin(object types.Object) types.Object {
	switch o := object.(type) {
	case *types.Func:
		return o.Origin()
	case *types.Var:
		return o.Origin()
	}
	return object
}

// declares reports whether the name stands in the declaration of what it names: in a function that calls itself, in
// a type that holds itself, in the receiver of a method.
func declares(declaration ast.Decl, ident *ast.Ident, object types.Object) bool {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		return d.Name.Pos() == object.Pos() || d.Recv != nil && d.Recv.Pos() <= ident.Pos() && ident.Pos() < d.Recv.End()
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok && s.Name.Pos() == object.Pos() && s.Pos() <= ident.Pos() && ident.Pos() < s.End() {
				return true
			}
		}
	}
	return false
}

// unused lists the symbols of the module that nobody uses, as package.Name or package.Type.Name.
func (p *program) unused() []string {
	p.noteFits()
	var found []string
	for path, s := range p.packages {
		prefix := strings.TrimPrefix(path, module+"/") + "."
		scope := s.types.Scope()
		for _, name := range scope.Names() {
			object := scope.Lookup(name)
			if !p.used[object.Pos()] && name != "main" && name != "_" {
				found = append(found, prefix+name)
			}
			if typeName, ok := object.(*types.TypeName); ok && !typeName.IsAlias() {
				for _, member := range p.unusedMembers(typeName.Type().(*types.Named)) {
					found = append(found, prefix+name+"."+member)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// unusedMembers lists methods and fields.
func (p *program) unusedMembers(named *types.Named) []string {
	var members []types.Object
	switch under := named.Underlying().(type) {
	case *types.Struct:
		for i := range under.NumFields() {
			if field := under.Field(i); !field.Embedded() && field.Name() != "_" && under.Tag(i) == "" {
				members = append(members, field)
			}
		}
	case *types.Interface:
		for method := range under.ExplicitMethods() {
			members = append(members, method)
		}
	}
	for method := range named.Methods() {
		// Package errors asks for these by interfaces without a name.
		if !slices.Contains([]string{"Unwrap", "Is", "As"}, method.Name()) {
			members = append(members, method)
		}
	}
	var found []string
	for _, member := range members {
		if !p.used[member.Pos()] {
			found = append(found, member.Name())
		}
	}
	return found
}

// noteFits notes the methods that a type has for the sake of an interface: one of others, or one of ours whose method
// is used. A method of an embedded type counts as well.
func (p *program) noteFits() {
	interfaces := p.interfaces()
	for again := true; again; {
		again = false
		for _, named := range p.named {
			pointer := types.NewPointer(named)
			for _, wanted := range interfaces {
				if !types.Implements(pointer, wanted) {
					continue
				}
				for m := range wanted.Methods() {
					ours := m.Pkg() != nil && p.packages[m.Pkg().Path()] != nil
					has, _, _ := types.LookupFieldOrMethod(pointer, true, m.Pkg(), m.Name())
					if at := origin(has).Pos(); (!ours || p.used[m.Pos()]) && !p.used[at] {
						p.used[at], again = true, true
					}
				}
			}
		}
	}
}

// interfaces are those of the module, and those of what it imports.
func (p *program) interfaces() []*types.Interface {
	seen := make(map[*types.Package]bool)
	all := []*types.Interface{types.Universe.Lookup("error").Type().Underlying().(*types.Interface)}
	add := func(in *types.Package) {
		if seen[in] {
			return
		}
		seen[in] = true
		for _, name := range in.Scope().Names() {
			if typeName, ok := in.Scope().Lookup(name).(*types.TypeName); ok {
				if under, ok := typeName.Type().Underlying().(*types.Interface); ok && under.NumMethods() > 0 {
					all = append(all, under)
				}
			}
		}
	}
	for _, s := range p.packages {
		add(s.types)
		for _, imported := range s.types.Imports() {
			add(imported)
		}
	}
	return append(all, p.asked...)
}
