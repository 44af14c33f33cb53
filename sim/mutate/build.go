package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// build compiles the worker with all mutations in it; each is dormant until it is chosen when the program starts. dir is for the
// changed files.
func (t *tree) build(ctx context.Context, all []Mutation, dir, output string) error {
	changed, err := t.schemata(all)
	if err != nil {
		return err
	}
	args, err := t.substitute(changed, dir)
	if err != nil {
		return err
	}
	// Nobody debugs a variant, so the linker need not write what a debugger wants.
	args = append([]string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", output}, args...)
	return goCommand(ctx, t.root, append(args, workerPackage)...)
}

// substitute writes changed and additional sources, given by path, and returns the arguments that make the go command use them.
func (t *tree) substitute(changed map[string]string, dir string) (args []string, err error) {
	replace := map[string]string{}
	modules := map[string]map[string]string{}
	for path, source := range changed {
		if module := t.moduleOf(path); module != "" {
			if modules[module] == nil {
				modules[module] = map[string]string{}
			}
			modules[module][path] = source
			continue
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			return nil, err
		}
		replace[path] = file
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		return nil, err
	}
	args = []string{"-overlay", name}
	if len(modules) == 0 {
		return args, nil
	}
	name = filepath.Join(dir, "go.mod")
	return append(args, "-modfile", name), t.substituteModules(modules, dir, name)
}

// substituteModules makes changed copies of modules, because the go command takes no overlay for files of its module cache.
func (t *tree) substituteModules(modules map[string]map[string]string, dir, modfile string) error {
	gomod, err := os.ReadFile(filepath.Join(t.root, "go.mod"))
	if err != nil {
		return err
	}
	for module, changed := range modules {
		replacement := filepath.Join(dir, "modules", filepath.FromSlash(module))
		if err := copySources(t.modules[module], replacement); err != nil {
			return fmt.Errorf("copy module %s: %w", module, err)
		}
		for path, source := range changed {
			inside, err := filepath.Rel(t.modules[module], path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(replacement, inside), []byte(source), 0o600); err != nil {
				return err
			}
		}
		gomod = fmt.Appendf(gomod, "\nreplace %s => %s\n", module, replacement)
	}
	gosum, err := os.ReadFile(filepath.Join(t.root, "go.sum"))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(modfile, gomod, 0o600), os.WriteFile(strings.TrimSuffix(modfile, ".mod")+".sum", gosum, 0o600))
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

func goCommand(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", args[0], err, bytes.TrimSpace(out.Bytes()))
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
