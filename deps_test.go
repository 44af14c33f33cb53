package quorate

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// lattice says what each package of the project imports, of the project and of others. It is exact: an import
// without its word here fails the test, and so does a word here that no import needs. A package that is not listed
// fails the test: its place is a decision. Tests are exempt.
//
// "core" marks packages that decide: see coreImports and actsIn for what they may do.
const lattice = `
.                     :
kv               core :
packed           core :
auth             core : kv packed; github.com/tidwall/btree
members          core : kv packed
authn                 : kv auth; github.com/golang-jwt/jwt/v5 golang.org/x/crypto/bcrypt
consensus        core :
consensus/raft   core : consensus; go.etcd.io/raft/v3 google.golang.org/protobuf/proto
consensus/paxos  core : consensus
consensus/consensustest : consensus; github.com/cockroachdb/datadriven
consensus/explore     : consensus consensus/consensustest statespace
statespace            :
liveness         core : kv packed
leadership       core : kv consensus
sequencer        core : kv
issuer                : kv consensus sequencer
sequencer/world       : kv sequencer statespace
storage          core : consensus; github.com/tidwall/btree
storage/keys     core : kv storage
storage/mvcc     core : kv storage storage/keys; github.com/cespare/xxhash/v2
storage/storagetest   : storage consensus
storage/lsm           : storage; github.com/cockroachdb/pebble/v2
storage/wal           : storage consensus; github.com/cockroachdb/pebble/v2/vfs
timeline         core : kv
timeline/calendar     : kv timeline
shard            core : kv auth members timeline consensus storage storage/keys storage/mvcc shard/latch shard/lock txn/register; github.com/tidwall/btree
shard/latch      core : kv
shard/lock       core : kv shard/latch
shard/model      core : kv
proto/etcdwire   core : kv
proto/native     core : kv timeline; google.golang.org/protobuf/encoding/protowire
proto/h2         core : ; golang.org/x/net/http2
membership       core : kv consensus shard storage
budget                :
datadir               : kv
etcdsnap              : kv; go.etcd.io/bbolt google.golang.org/protobuf/encoding/protowire
backup                : kv timeline timeline/calendar storage storage/mvcc backup/target; filippo.io/age github.com/cespare/xxhash/v2 github.com/klauspost/compress/zstd golang.org/x/sync/errgroup
backup/cluster        : kv timeline storage/mvcc proto/native backup; go.etcd.io/etcd/api/v3 google.golang.org/grpc google.golang.org/protobuf/types/known/emptypb
backup/target         : ; github.com/minio/minio-go/v7
backup/target/memory  : backup/target
backup/target/targettest : backup/target backup/target/memory
driver                : kv auth members timeline consensus liveness leadership membership storage storage/keys storage/mvcc shard
transport             : kv; golang.org/x/sys/unix
connlimit        core :
connlimit/listener    : connlimit
tlsconf               :
tlsconf/listener      :
storage/patientfs     : ; github.com/cockroachdb/pebble/v2/vfs
transport/tcpproxy    : transport/freeport
transport/freeport    :
placement        core : kv
autocompact      core : kv
corruption       core : kv packed
audit            core : kv
audit/trail           : kv
partition        core : kv; github.com/cespare/xxhash/v2
gateway               : kv auth partition shard storage/mvcc proto/etcdwire gateway/gather gateway/link gateway/readpath gateway/route gateway/watch txn
txn              core : kv partition
txn/register     core : kv
txn/world             : kv partition statespace txn txn/register
gateway/gather   core : kv partition shard storage/mvcc
gateway/link     core : kv proto/etcdwire
gateway/readpath core : kv
gateway/route    core : kv partition
gateway/watch         : kv shard storage/mvcc
api/rpc               : budget proto/h2; golang.org/x/net/http2
api/etcd              : kv auth members authn budget gateway gateway/watch proto/etcdwire proto/h2 proto/native api/rpc storage/mvcc; google.golang.org/grpc google.golang.org/protobuf/proto go.etcd.io/etcd/api/v3
sim                   : kv auth members consensus timeline consensus/paxos consensus/raft storage storage/keys storage/lsm storage/wal storage/mvcc shard driver issuer membership partition sequencer txn gateway gateway/watch backup backup/target backup/target/memory restore sim/history sim/oracle sim/workload; github.com/cockroachdb/pebble/v2/vfs
sim/workload          : kv shard shard/model gateway/watch
sim/oracle            : kv shard gateway/watch sim/history sim/workload
rescue           core : kv members consensus consensus/paxos shard
restore               : kv auth consensus partition storage storage/keys storage/mvcc shard; github.com/cespare/xxhash/v2
server                : kv timeline timeline/calendar packed auth audit audit/trail authn autocompact members membership corruption datadir budget backup etcdsnap storage/mvcc consensus consensus/paxos consensus/raft storage storage/keys storage/lsm storage/wal shard driver transport connlimit connlimit/listener tlsconf tlsconf/listener storage/patientfs issuer partition placement rescue restore proto/native gateway gateway/route gateway/watch txn api/etcd; github.com/prometheus/client_golang/prometheus github.com/cockroachdb/pebble/v2/vfs
cmd/quorate           : kv timeline timeline/calendar partition proto/native backup backup/cluster backup/target server cmd/quorate/serveflags cmd/quorate/demo sim sim/campaign tlsconf; filippo.io/age golang.org/x/time/rate github.com/spf13/cobra github.com/spf13/pflag golang.org/x/term google.golang.org/grpc go.etcd.io/etcd/api/v3 go.etcd.io/etcd/client/v3 go.uber.org/zap google.golang.org/protobuf/types/known/emptypb
cmd/quorate/serveflags : autocompact partition server
cmd/quorate/demo      : transport/freeport tlsconf; google.golang.org/grpc go.etcd.io/etcd/client/v3 go.uber.org/zap
cmd/quorate/fakeetcd  : proto/native; google.golang.org/grpc google.golang.org/protobuf/types/known/emptypb go.etcd.io/etcd/api/v3
e2e                   :
e2e/cluster           : partition transport/freeport; go.etcd.io/etcd/client/v3 google.golang.org/grpc go.uber.org/zap
e2e/chaos             :
e2e/groups            :
e2e/sequenced         :
sim/history           : kv shard/model; github.com/anishathalye/porcupine
sim/campaign          : sim
docs/markdown         :
sim/mutate            : sim docs/markdown
sim/mutate/worker     : sim
`

// coreImports are the packages of the standard library that cores import. None of them acts, and none differs from
// run to run as far as actsIn lets cores use it.
var coreImports = []string{
	"bytes", "cmp", "container/list", "encoding/base64", "encoding/binary", "errors", "fmt", "hash/crc32", "maps", "math", "math/bits",
	"math/rand/v2", "slices", "sort", "strconv", "strings", "time", "unicode/utf8", "unsafe",
}

// clockless and seeded are what cores may name of packages that also hold a clock and global randomness.
var (
	clockless = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}
	seeded    = []string{"Rand", "New", "NewPCG"}
)

// exceptions: what single cores import beyond coreImports.
var exceptions = map[string][]string{
	// Engine.Export and Ingest take a context. The in-memory twins count with atomics and guard their readers, because
	// real engines and logs are looked at from several goroutines and the twins stand in for them.
	"storage": {"context", "sync", "sync/atomic"},
}

const module = "github.com/quoratedb/quorate"

// rule is a line of the lattice.
type rule struct {
	core    bool
	own     []string
	foreign []string
}

// parsedPackage is what go list tells about a package.
type parsedPackage struct {
	Dir     string
	GoFiles []string
	Imports []string

	ImportPath string
}

func (p parsedPackage) name() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

func parseLattice(text string) (map[string]rule, error) {
	rules := make(map[string]rule)
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		left, right, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("no colon in %q", line)
		}
		name := strings.Fields(left)
		if _, twice := rules[name[0]]; twice {
			return nil, fmt.Errorf("package %s has two lines", name[0])
		}
		own, foreign, _ := strings.Cut(right, ";")
		rules[name[0]] = rule{core: slices.Contains(name[1:], "core"), own: strings.Fields(own), foreign: strings.Fields(foreign)}
	}
	return rules, nil
}

// isBelow reports whether a path is the prefix or a folder below it.
func isBelow(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// requiredModules are the modules that go.mod names.
func requiredModules(t *testing.T) []string {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) >= 2 && strings.HasPrefix(words[1], "v") {
			modules = append(modules, words[0])
		}
	}
	return modules
}

func listPackages(t *testing.T) []parsedPackage {
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	var all []parsedPackage
	for {
		var p parsedPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsFollowTheLattice(t *testing.T) {
	rules, err := parseLattice(lattice)
	if err != nil {
		t.Fatal(err)
	}
	modules := requiredModules(t)
	for name, r := range rules {
		for _, word := range r.foreign {
			if !slices.ContainsFunc(modules, func(module string) bool { return isBelow(word, module) }) {
				t.Errorf("package %s: %s is wider than a module that go.mod requires", name, word)
			}
		}
	}
	packages := listPackages(t)
	for _, fault := range latticeFaults(rules, exceptions, coreImports, packages) {
		t.Error(fault)
	}
	for _, p := range packages {
		if !rules[p.name()].core {
			continue
		}
		for _, name := range p.GoFiles {
			source := token.NewFileSet()
			file, err := parser.ParseFile(source, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range actsIn(file) {
				t.Errorf("%s: cores have no goroutine, channel, clock or global randomness: %s", source.Position(fault.at), fault.what)
			}
		}
	}
}

// latticeFaults tells where packages and rules differ, in both directions.
func latticeFaults(rules map[string]rule, exceptions map[string][]string, coreImports []string, packages []parsedPackage) []string {
	var faults []string
	exists := make(map[string]bool)
	importedByCores := make(map[string]bool)
	for _, p := range packages {
		name := p.name()
		exists[name] = true
		r, ok := rules[name]
		if !ok {
			faults = append(faults, fmt.Sprintf("package %s has no line in the lattice of deps_test.go", name))
			continue
		}
		used := make(map[string]bool)
		for _, imported := range p.Imports {
			word, reason := r.permission(imported, rules, exceptions[name], coreImports)
			if reason != "" {
				faults = append(faults, fmt.Sprintf("package %s must not import %s: %s", name, imported, reason))
			}
			used[word] = true
			if r.core {
				importedByCores[imported] = true
			}
		}
		for _, word := range slices.Concat(r.own, r.foreign, exceptions[name]) {
			if !used[word] {
				faults = append(faults, fmt.Sprintf("package %s does not import %s: remove the permission from deps_test.go", name, word))
			}
		}
	}
	for _, name := range coreImports {
		if !importedByCores[name] {
			faults = append(faults, fmt.Sprintf("no core imports %s: remove it from coreImports", name))
		}
	}
	for name := range rules {
		if !exists[name] {
			faults = append(faults, fmt.Sprintf("there is no package %s: remove its line from the lattice", name))
		}
	}
	for name := range exceptions {
		if !rules[name].core {
			faults = append(faults, fmt.Sprintf("%s is no core: remove its exceptions", name))
		}
	}
	slices.Sort(faults)
	return faults
}

// permission is the word of the line that allows an import, or the reason why there is none. Of two prefixes the
// longer one counts, so that the shorter is stale if it allows nothing else.
func (r rule) permission(imported string, rules map[string]rule, exceptions, coreImports []string) (word, refused string) {
	switch {
	case isBelow(imported, module):
		own := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
		if !slices.Contains(r.own, own) {
			return "", "the lattice does not say so"
		}
		if r.core && !rules[own].core {
			return own, "it is not a core"
		}
		return own, ""
	case strings.Contains(strings.Split(imported, "/")[0], "."):
		for _, prefix := range r.foreign {
			if isBelow(imported, prefix) && len(prefix) > len(word) {
				word = prefix
			}
		}
		if word == "" {
			return "", "no such module in its line of the lattice"
		}
		return word, ""
	case !r.core || slices.Contains(coreImports, imported):
		return "", ""
	case slices.Contains(exceptions, imported):
		return imported, ""
	}
	return "", "cores import only what coreImports lists"
}

// action is a place in a file where something acts.
type action struct {
	at   token.Pos
	what string
}

// actsIn finds what a core must not do and imports do not show: goroutines, channels, the clock of package time, the
// global source of package rand.
func actsIn(file *ast.File) []action {
	names := make(map[string][]string) // local name of time and rand -> what may be named of it
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		local, allowed := "", []string(nil)
		switch path {
		case "time":
			local, allowed = "time", clockless
		case "math/rand/v2":
			local, allowed = "rand", seeded
		default:
			continue
		}
		if spec.Name != nil {
			local = spec.Name.Name
		}
		names[local] = allowed
	}
	var found []action
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.GoStmt:
			found = append(found, action{n.Pos(), "go statement"})
		case *ast.ChanType:
			found = append(found, action{n.Pos(), "channel"})
		case *ast.SelectStmt:
			found = append(found, action{n.Pos(), "select"})
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				if allowed, ok := names[x.Name]; ok && !slices.Contains(allowed, n.Sel.Name) {
					found = append(found, action{n.Pos(), x.Name + "." + n.Sel.Name})
				}
			}
		}
		return true
	})
	return found
}

// TestLatticeNotices puts one fault of each kind into a small project.
func TestLatticeNotices(t *testing.T) {
	rules, err := parseLattice(`
a core : b; example.com/x/y
b core :
c      : a; example.com/x
d core : c
gone   :
`)
	if err != nil {
		t.Fatal(err)
	}
	excepted := map[string][]string{"a": {"sync"}, "c": {"os"}}
	got := latticeFaults(rules, excepted, []string{"fmt", "sort"}, []parsedPackage{
		{ImportPath: module + "/a", Imports: []string{"fmt", "os", "example.com/x/z"}},
		{ImportPath: module + "/b", Imports: []string{module + "/a"}},
		{ImportPath: module + "/c", Imports: []string{"os", module + "/a", "example.com/x/z"}},
		{ImportPath: module + "/d", Imports: []string{module + "/c"}},
		{ImportPath: module + "/new"},
	})
	want := []string{
		"c is no core: remove its exceptions",
		"no core imports sort: remove it from coreImports",
		"package a does not import b: remove the permission from deps_test.go",
		"package a does not import example.com/x/y: remove the permission from deps_test.go",
		"package a does not import sync: remove the permission from deps_test.go",
		"package a must not import example.com/x/z: no such module in its line of the lattice",
		"package a must not import os: cores import only what coreImports lists",
		"package b must not import " + module + "/a: the lattice does not say so",
		"package c does not import os: remove the permission from deps_test.go",
		"package d must not import " + module + "/c: it is not a core",
		"package new has no line in the lattice of deps_test.go",
		"there is no package gone: remove its line from the lattice",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestActionsInCoresAreFound(t *testing.T) {
	const source = `package p
import ("time"; random "math/rand/v2")
func f(r *random.Rand, d time.Duration) chan int {
	_ = time.Now()
	_ = random.IntN(3)
	go f(r, time.Second)
	select {}
}`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range actsIn(file) {
		got = append(got, a.what)
	}
	if want := []string{"channel", "time.Now", "random.IntN", "go statement", "select"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
