package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	raftModule    = "go.etcd.io/raft/v3"
	workerPackage = "./sim/mutate/worker"
)

// build compiles the package of the repository, or of a module, with the mutation (nil: as it is). A program is written to output
// unless that is "". dir is for the changed files.
func (t *tree) build(ctx context.Context, m *Mutation, dir, target, output string) error {
	args := []string{"build", "-buildvcs=false", "-ldflags=-s -w"} // nobody debugs a variant: link quickly
	if output != "" {
		args = append(args, "-o", output)
	}
	if m != nil {
		more, err := t.substitute(m, dir)
		if err != nil {
			return err
		}
		args = append(args, more...)
	}
	return goCommand(ctx, t.root, append(args, target)...)
}

// substitute writes the changed file, and returns the arguments that make the go command use it.
func (t *tree) substitute(m *Mutation, dir string) ([]string, error) {
	path, mutated, err := t.read(m)
	if err != nil {
		return nil, err
	}
	if module, rest := t.module(m.File); module != "" {
		return t.substituteModule(module, rest, mutated, dir)
	}
	file := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(file, []byte(mutated), 0o600); err != nil {
		return nil, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: file}})
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "overlay.json")
	return []string{"-overlay", name}, os.WriteFile(name, overlay, 0o600)
}

// substituteModule makes a changed copy of a module, because the go command takes no overlay for files of its module cache.
func (t *tree) substituteModule(module, rest, mutated, dir string) ([]string, error) {
	replacement := filepath.Join(dir, "module")
	if err := copySources(t.modules[module], replacement); err != nil {
		return nil, fmt.Errorf("copy module %s: %w", module, err)
	}
	if err := os.WriteFile(filepath.Join(replacement, rest), []byte(mutated), 0o600); err != nil {
		return nil, err
	}
	gomod, err := os.ReadFile(filepath.Join(t.root, "go.mod"))
	if err != nil {
		return nil, err
	}
	gosum, err := os.ReadFile(filepath.Join(t.root, "go.sum"))
	if err != nil {
		return nil, err
	}
	gomod = fmt.Appendf(gomod, "\nreplace %s => %s\n", module, replacement)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), gomod, 0o600); err != nil {
		return nil, err
	}
	return []string{"-modfile", filepath.Join(dir, "go.mod")}, os.WriteFile(filepath.Join(dir, "go.sum"), gosum, 0o600)
}

// copySources copies what a build needs of a module.
func copySources(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		if base := filepath.Base(name); base != "go.mod" && (!strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go")) {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o600)
	})
}

// packageOf is the package that the mutation changes, as the go command wants it.
func (t *tree) packageOf(m *Mutation) string {
	dir := filepath.ToSlash(filepath.Dir(m.File))
	if module, _ := t.module(m.File); module != "" {
		return dir
	}
	return "./" + dir
}

func goCommand(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

func goOutput(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
