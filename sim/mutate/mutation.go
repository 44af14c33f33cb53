package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/sim"
)

// Mutation is one deliberately broken variant.
type Mutation struct {
	Name  string // layer/what, unique
	Layer string
	// Breaks says in one sentence what is wrong in the variant.
	Breaks string
	// File is in this repository, or in a module that it requires: then it begins with the path of the module.
	File string
	// Old must occur exactly once in the file. New takes its place.
	Old, New string
	// Protocol that the seeds are run with; "" leaves it to each seed.
	Protocol sim.Protocol
	// Shards that the seeds are run with; 0 leaves it to each seed.
	Shards int
	// Partition makes the shards those of one store, by range or by hash; "": each is one of its own, though the seed alone might say something else.
	Partition string
	// Verdicts that count as having found it.
	Verdicts []sim.Verdict
	// Seeds within which it must be found.
	Seeds int
	// At is the seed that must show it, if none of the first ones does; 0: it must be found within Seeds.
	At uint64
	// Unseen, if set, says why the simulator has not found it yet: then it is tried only when it is named.
	Unseen string
}

func (m *Mutation) settings() settings { return settings{m.Protocol, m.Shards, m.Partition} }

// seeds says which seeds show the mutation.
func (m *Mutation) seeds() string {
	if m.At != 0 {
		return fmt.Sprintf("seed %d", m.At)
	}
	return fmt.Sprintf("%d seeds", m.Seeds)
}

// The verdicts that mutations may end with. Panics and stopped nodes are legitimate ways to be found: assertions stay on in production.
var noticed = []sim.Verdict{sim.Crash, sim.Correctness, sim.Liveness, hang}

// hang is the verdict of a seed that did not end in real time.
const hang sim.Verdict = "hang"

// mutations returns all of them, by layer.
func mutations() []Mutation {
	var all []Mutation
	for _, layer := range []struct {
		name string
		list []Mutation
	}{
		{"consensus/paxos", paxosMutations},
		{"consensus/raft", raftMutations},
		{"driver", driverMutations},
		{"driver/repair", repairMutations},
		{"several shards", groupMutations},
		{"one store of many shards", manyMutations},
		{"compaction over shards", compactionMutations},
		{"transactions over several shards", commitMutations},
		{"driver/scrub", scrubMutations},
		{"liveness", livenessMutations},
		{"storage/mvcc", mvccMutations},
		{"storage/wal, storage/lsm", diskMutations},
		{"shard", shardMutations},
		{"gateway", gatewayMutations},
		{"gateway/watch", watchMutations},
		{"members", memberMutations},
		{"users", userMutations},
		{"backups", backupMutations},
	} {
		for _, m := range layer.list {
			m.Layer = layer.name
			all = append(all, m)
		}
	}
	return all
}

// selectMutations returns those with the names, in the order of the list; without names all that are to be found.
func selectMutations(names []string) ([]Mutation, error) {
	all := mutations()
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(m Mutation) bool { return m.Unseen != "" }), nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(m Mutation) bool { return m.Name == name }) {
			return nil, fmt.Errorf("there is no mutation %q; go run ./sim/mutate --list shows them", name)
		}
	}
	return slices.DeleteFunc(all, func(m Mutation) bool { return !slices.Contains(names, m.Name) }), nil
}

var errStale = errors.New("the mutation no longer applies")

// apply returns the source with the mutation.
func (m *Mutation) apply(source string) (string, error) {
	if m.Old == m.New {
		return "", fmt.Errorf("%s: %w: its old and its new text are the same", m.Name, errStale)
	}
	if n := strings.Count(source, m.Old); n != 1 {
		return "", fmt.Errorf("%s: %w: its old text occurs %d times in %s and must occur once; adapt Old and New in sim/mutate/list_*.go to what the code does now:\n%s",
			m.Name, errStale, n, m.File, m.Old)
	}
	return strings.Replace(source, m.Old, m.New, 1), nil
}

// tree knows where the sources are.
type tree struct {
	root    string            // of the repository
	modules map[string]string // directories of required modules that mutations change
}

// newTree finds the repository from the working directory, and the modules.
func newTree() (*tree, error) {
	gomod, err := goOutput("", "env", "GOMOD")
	if err != nil {
		return nil, err
	}
	if gomod == "" || gomod == os.DevNull {
		return nil, errors.New("run it inside the repository")
	}
	t := &tree{root: filepath.Dir(gomod), modules: map[string]string{raftModule: ""}}
	for path := range t.modules {
		if t.modules[path], err = goOutput(t.root, "list", "-m", "-f", "{{.Dir}}", path); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// read returns where the file of the mutation is, its source as it is, and as the mutation makes it.
func (t *tree) read(m *Mutation) (path, source, mutated string, err error) {
	path = filepath.Join(t.root, m.File)
	for module, dir := range t.modules {
		if inside, ok := strings.CutPrefix(m.File, module+"/"); ok {
			path = filepath.Join(dir, inside)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", "", "", fmt.Errorf("%s: %w: %w", m.Name, errStale, err)
	}
	mutated, err = m.apply(string(content))
	return path, string(content), mutated, err
}

// moduleOf returns the required module that has the path; "" for files of the repository.
func (t *tree) moduleOf(path string) string {
	for module, dir := range t.modules {
		if strings.HasPrefix(path, dir+string(filepath.Separator)) {
			return module
		}
	}
	return ""
}
