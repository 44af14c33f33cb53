package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// EnvironmentProgram names the variable that replaces the program under test.
const EnvironmentProgram = "QUORATE_E2E_BINARY"

// EnvironmentConsensus names the variable that says which protocol clusters run whose test asks for none.
const EnvironmentConsensus = "QUORATE_E2E_CONSENSUS"

// built is what Main removes.
var built atomic.Pointer[executable]

// program is built at first use and shared by all clusters of a test program.
var program = sync.OnceValues(buildProgram)

type executable struct {
	path      string
	arguments []string // before the flags
	etcd      bool
	directory string // to remove at the end; empty: nothing was built
}

// Program is the path of the program under test.
func Program() (string, error) {
	p, err := program()
	return p.path, err
}

// IsEtcd tells whether the program under test is etcd itself.
func IsEtcd() bool {
	p, err := program()
	return err == nil && p.etcd
}

// Main runs the tests and removes what was built for them; the result is for os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	if p := built.Load(); p != nil && p.directory != "" {
		// A directory that stays behind is no reason to fail.
		_ = os.RemoveAll(p.directory)
	}
	return code
}

func buildProgram() (executable, error) {
	if path := os.Getenv(EnvironmentProgram); path != "" {
		return foreignProgram(path)
	}
	directory, err := os.MkdirTemp("", "quorate-e2e-bin-")
	if err != nil {
		return executable{}, fmt.Errorf("make a directory for the program: %w", err)
	}
	p := executable{path: filepath.Join(directory, "quorate"), arguments: []string{"serve"}, directory: directory}
	built.Store(&p)
	// The go command knows the module from the package's directory, in which tests run.
	build := exec.Command("go", "build", "-buildvcs=false", "-o", p.path, "github.com/quoratedb/quorate/cmd/quorate")
	if output, err := build.CombinedOutput(); err != nil {
		return executable{}, fmt.Errorf("build cmd/quorate: %w\n%s", err, output)
	}
	return p, nil
}

func foreignProgram(path string) (executable, error) {
	output, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil {
		return executable{}, fmt.Errorf("%s=%s does not run: %w\n%s", EnvironmentProgram, path, err, output)
	}
	// Quorate names the version of etcd with which it is compatible, too.
	p := executable{path: path, etcd: strings.HasPrefix(string(output), "etcd Version") && !strings.Contains(string(output), "Quorate Version")}
	if !p.etcd && filepath.Base(path) != "etcd" {
		p.arguments = []string{"serve"}
	}
	return p, nil
}
