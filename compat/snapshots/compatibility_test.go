package snapshots

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
)

// TestEtcdCompatibility: docs/etcd-compatibility.md has a row for each call and each flag of etcd, and none that etcd does not have.
func TestEtcdCompatibility(t *testing.T) {
	content, err := os.ReadFile("../../docs/etcd-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	calls, flags := map[string]bool{}, map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:same|better|different|no effect|missing) \\|").FindAllStringSubmatch(string(content), -1) {
		kind := calls
		name, isFlag := strings.CutPrefix(row[1], "--")
		if isFlag {
			kind = flags
		}
		if kind[name] {
			t.Errorf("%s has two rows", row[1])
		}
		kind[name] = true
	}
	compare := func(what string, documented, real map[string]bool) {
		for name := range real {
			if !documented[name] {
				t.Errorf("etcd's %s %s has no row", what, name)
			}
		}
		for name := range documented {
			if !real[name] && !strings.HasPrefix(name, "grpc.health.") && !strings.HasPrefix(name, "/") {
				t.Errorf("%s %s is none of etcd's", what, name)
			}
		}
		if len(real) < 30 {
			t.Errorf("etcd has %d of %s only", len(real), what)
		}
	}
	compare("call", calls, callsOfEtcd())
	compare("flag", flags, flagsOfEtcd(t))
}

func callsOfEtcd() map[string]bool {
	all := map[string]bool{}
	for _, service := range []grpc.ServiceDesc{
		etcdserverpb.KV_ServiceDesc, etcdserverpb.Watch_ServiceDesc, etcdserverpb.Lease_ServiceDesc, etcdserverpb.Cluster_ServiceDesc,
		etcdserverpb.Maintenance_ServiceDesc, etcdserverpb.Auth_ServiceDesc, v3lockpb.Lock_ServiceDesc, v3electionpb.Election_ServiceDesc,
	} {
		for _, m := range service.Methods {
			all[service.ServiceName+"/"+m.MethodName] = true
		}
		for _, s := range service.Streams {
			all[service.ServiceName+"/"+s.StreamName] = true
		}
	}
	return all
}

// flagsOfEtcd are those of package embed, which it gives, and those that the program adds, which are in its source only.
func flagsOfEtcd(t *testing.T) map[string]bool {
	all := map[string]bool{}
	set := flag.NewFlagSet("etcd", flag.ContinueOnError)
	embed.NewConfig().AddFlags(set)
	set.VisitAll(func(f *flag.Flag) { all[f.Name] = true })

	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "go.etcd.io/etcd/server/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "etcdmain", "config.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := func(e ast.Expr) string {
		literal, is := e.(*ast.BasicLit)
		if !is || literal.Kind != token.STRING {
			return ""
		}
		value, _ := strconv.Unquote(literal.Value) // the parser has seen to it
		return value
	}
	added := 0
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr: // fs.StringVar(&x, "name", ...), fs.Var(x, "name", ...)
			if f, is := n.Fun.(*ast.SelectorExpr); is && len(n.Args) > 2 {
				if on, is := f.X.(*ast.Ident); is && on.Name == "fs" && text(n.Args[1]) != "" {
					all[text(n.Args[1])] = true
					added++
				}
			}
		case *ast.ValueSpec: // ignored = []string{...}
			if len(n.Names) == 1 && n.Names[0].Name == "ignored" {
				for _, name := range n.Values[0].(*ast.CompositeLit).Elts {
					all[text(name)] = true
					added++
				}
			}
		}
		return true
	})
	if added < 15 {
		t.Errorf("%d flags are in the program's source: it is written in another way now", added)
	}
	return all
}
