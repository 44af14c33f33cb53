package quorate

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// lattice says what each package of the project may import, of the project and of others. A package that is not
// listed here fails the test: its place is a decision. Tests are exempt.
//
// "core" marks packages that decide: they may import nothing that does I/O, keeps time or starts
// goroutines, whatever else the line says.
const lattice = `
.                     :
kv               core :
consensus        core :
consensus/raft   core : consensus; go.etcd.io/raft google.golang.org/protobuf/proto
consensus/paxos  core : consensus
consensus/consensustest : consensus; github.com/cockroachdb/datadriven
consensus/explore     : consensus consensus/consensustest
liveness         core : kv
leadership       core : kv consensus
storage          core : consensus; github.com/tidwall/btree
storage/mvcc     core : kv storage; github.com/cespare/xxhash
storage/storagetest   : storage consensus
storage/lsm           : storage; github.com/cockroachdb/pebble
storage/wal           : storage consensus; github.com/cockroachdb/pebble/v2/vfs
shard            core : kv consensus storage storage/mvcc; github.com/tidwall/btree
shard/model      core : kv; github.com/tidwall/btree
proto/etcdwire   core : kv
proto/h2         core : ; golang.org/x/net/http2
budget                :
replica               : kv consensus liveness leadership storage storage/mvcc shard
transport             : kv; golang.org/x/sys
connlimit        core :
connlimit/listener    : connlimit
storage/patientfs     : ; github.com/cockroachdb/pebble/v2/vfs
transport/tcpproxy    : transport/freeport
transport/freeport    :
gateway               : kv shard storage/mvcc proto/etcdwire gateway/watch
gateway/watch         : kv shard storage/mvcc
api/rpc               : budget proto/h2; golang.org/x/net/http2
api/etcd              : kv budget gateway gateway/watch proto/etcdwire proto/h2 api/rpc storage/mvcc; google.golang.org go.etcd.io/etcd/api
sim                   : kv consensus consensus/paxos consensus/raft storage storage/lsm storage/wal storage/mvcc shard shard/model replica gateway gateway/watch sim/history; github.com/cockroachdb/pebble/v2/vfs
server                : kv budget consensus consensus/paxos consensus/raft storage storage/lsm storage/wal storage/mvcc shard replica transport connlimit connlimit/listener storage/patientfs gateway gateway/watch api/etcd proto/etcdwire; google.golang.org/grpc github.com/prometheus golang.org/x/sys github.com/cockroachdb/pebble/v2/vfs
cmd/quorate           : server cmd/quorate/serveflags cmd/quorate/demo sim sim/campaign; github.com/spf13 google.golang.org/grpc go.etcd.io/etcd golang.org/x go.uber.org/zap
cmd/quorate/serveflags : server
cmd/quorate/demo      : server transport/freeport; google.golang.org/grpc go.etcd.io/etcd golang.org/x go.uber.org/zap
cmd/quorate/fakeetcd  : ; google.golang.org go.etcd.io/etcd
e2e                   :
e2e/cluster           : transport/freeport; go.etcd.io/etcd google.golang.org/grpc go.uber.org/zap
e2e/chaos             :
sim/history           : kv shard/model; github.com/anishathalye/porcupine
sim/campaign          : sim
sim/mutate            : sim
sim/mutate/worker     : sim
`

// forbiddenInCores are packages of the standard library that act, or that differ from run to run.
var forbiddenInCores = []string{"os", "net", "syscall", "log", "log/slog", "sync", "sync/atomic", "context", "crypto/rand", "os/exec", "os/signal", "io/fs", "time/tzdata"}

// exceptions: cores whose interfaces name something without using it.
var exceptions = map[string][]string{
	// Engine.Export and Ingest take a context. The in-memory twins count with atomics and guard their readers, because
	// real engines and logs are looked at from several goroutines and the twins stand in for them.
	"storage": {"context", "sync", "sync/atomic"},
}

const module = "github.com/quoratedb/quorate"

type rule struct {
	core    bool
	own     []string
	foreign []string
}

func parseLattice(t *testing.T) map[string]rule {
	rules := make(map[string]rule)
	for line := range strings.Lines(lattice) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		left, right, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("no colon in %q", line)
		}
		name := strings.Fields(left)
		own, foreign, _ := strings.Cut(right, ";")
		rules[name[0]] = rule{core: slices.Contains(name[1:], "core"), own: strings.Fields(own), foreign: strings.Fields(foreign)}
	}
	return rules
}

func TestImportsFollowTheLattice(t *testing.T) {
	rules := parseLattice(t)
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if name == "" {
			name = "."
		}
		r, ok := rules[name]
		if !ok {
			t.Errorf("package %s has no line in the lattice of deps_test.go", name)
			continue
		}
		for _, imported := range p.Imports {
			if reason := r.refuses(name, imported, rules); reason != "" {
				t.Errorf("package %s must not import %s: %s", name, imported, reason)
			}
		}
	}
}

// refuses tells why the import is not allowed; "" if it is.
func (r rule) refuses(name, imported string, rules map[string]rule) string {
	switch {
	case imported == module || strings.HasPrefix(imported, module+"/"):
		own := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
		if !slices.Contains(r.own, own) {
			return "the lattice does not say so"
		}
		if r.core && !rules[own].core {
			return "it is not a core"
		}
	case strings.Contains(strings.Split(imported, "/")[0], "."):
		if !slices.ContainsFunc(r.foreign, func(prefix string) bool {
			return imported == prefix || strings.HasPrefix(imported, prefix+"/")
		}) {
			return "no such module in its line of the lattice"
		}
	case r.core && slices.Contains(forbiddenInCores, imported) && !slices.Contains(exceptions[name], imported):
		return "cores do no I/O and have no goroutines or clocks"
	}
	return ""
}
