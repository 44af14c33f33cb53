package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	only     []string
	list     bool
	check    bool
	markdown bool
	output   string
	jobs     int
	first    uint64
	seeds    int
	limit    time.Duration
}

func main() {
	o, err := parseFlags(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = o.run(ctx)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (*options, error) {
	o := &options{}
	var only string
	fs := flag.NewFlagSet("mutate", flag.ContinueOnError)
	fs.StringVar(&only, "only", "", "comma-separated names; empty: all")
	fs.BoolVar(&o.list, "list", false, "list the mutations and do nothing")
	fs.BoolVar(&o.check, "check", false, "only verify that every mutation applies and compiles")
	fs.BoolVar(&o.markdown, "markdown", false, "write "+markdownPath)
	fs.StringVar(&o.output, "output", "text", "text or json")
	fs.IntVar(&o.jobs, "jobs", 1, "variants that are run at a time")
	fs.Uint64Var(&o.first, "first", 1, "first seed")
	fs.IntVar(&o.seeds, "seeds", 0, "seeds for each mutation; 0: as many as its entry says")
	fs.DurationVar(&o.limit, "limit", time.Minute, "real time after which a seed counts as hanging")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			o.only = append(o.only, name)
		}
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.output != "text" && o.output != "json":
		return nil, fmt.Errorf("-output is text or json, not %q", o.output)
	case o.jobs < 1 || o.seeds < 0 || o.first < 1 || o.limit <= 0:
		return nil, errors.New("-jobs, -first and -limit must be positive, -seeds must not be negative")
	case o.markdown && (len(o.only) > 0 || o.seeds > 0 || o.first != 1):
		return nil, errors.New("-markdown writes the whole table; leave out -only, -first and -seeds")
	}
	return o, nil
}

func (o *options) run(ctx context.Context) error {
	selected, err := selectMutations(o.only)
	if err != nil {
		return err
	}
	if len(o.only) == 0 && (o.list || o.check) {
		selected = mutations()
	}
	if o.list {
		for i := range selected {
			m := &selected[i]
			fmt.Printf("%s | %s | %s | %s", m.Name, m.Layer, m.Breaks, m.seeds())
			if m.Unseen != "" {
				fmt.Printf(" | not found yet: %s", m.Unseen)
			}
			fmt.Println()
		}
		return nil
	}
	t, err := newTree()
	if err != nil {
		return err
	}
	if o.check {
		return o.checkAll(ctx, t, selected)
	}
	rows, err := o.runAll(ctx, t, selected)
	if err != nil {
		return err
	}
	if o.output == "json" {
		if err := printJSON(os.Stdout, rows); err != nil {
			return err
		}
	}
	if o.markdown {
		if err := writeMarkdown(t.root, rows); err != nil {
			return err
		}
	}
	return verdict(rows)
}

func (o *options) show(r *Row) {
	if o.output == "text" {
		printRow(os.Stdout, r)
	}
}

// runAll tries every mutation, several at a time, and shows each row as soon as it is known. The rows are in the order of the list,
// and end with those of the code as it is.
func (o *options) runAll(ctx context.Context, t *tree, selected []Mutation) ([]Row, error) {
	dir, err := os.MkdirTemp("", "quorate-mutate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	all, reasons := t.applicable()
	run := &trial{program: filepath.Join(dir, "worker"), options: o, known: map[seedRange]outcome{}}
	if err := t.build(ctx, all, dir, run.program); err != nil {
		return nil, err
	}
	rows, errs := make([]Row, len(selected)), make([]error, len(selected))
	o.each(len(selected), func(i int, show func(func())) {
		m := &selected[i]
		if reason := reasons[m.Name]; reason != nil {
			rows[i] = Row{Name: m.Name, Layer: m.Layer, Breaks: m.Breaks, Status: stale, Problem: reason.Error()}
		} else if ctx.Err() == nil {
			rows[i], errs[i] = run.try(ctx, m)
		}
		if ctx.Err() != nil || errs[i] != nil {
			return
		}
		show(func() { o.show(&rows[i]) })
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	controls, err := run.controls(ctx, rows)
	for i := range controls {
		o.show(&controls[i])
	}
	return append(rows, controls...), err
}

// applicable returns the mutations that still fit the sources, and why the others do not, by name.
func (t *tree) applicable() (all []Mutation, reasons map[string]error) {
	reasons = map[string]error{}
	for _, m := range mutations() {
		if _, err := t.schemata([]Mutation{m}); err != nil {
			reasons[m.Name] = err
		} else {
			all = append(all, m)
		}
	}
	return all, reasons
}

// each calls do for 0 to n-1, in o.jobs goroutines. What is given to show runs one at a time.
func (o *options) each(n int, do func(i int, show func(func()))) {
	var mu sync.Mutex
	next := 0
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1
	}
	show := func(print func()) {
		mu.Lock()
		defer mu.Unlock()
		print()
	}
	var jobs sync.WaitGroup
	for range min(o.jobs, n) {
		jobs.Go(func() {
			for i := take(); i < n; i = take() {
				do(i, show)
			}
		})
	}
	jobs.Wait()
}

// checkAll compiles all mutations at once, or, if that fails, one by one, to tell which does not.
func (o *options) checkAll(ctx context.Context, t *tree, selected []Mutation) error {
	all, reasons := t.applicable()
	all = slices.DeleteFunc(all, func(m Mutation) bool {
		return !slices.ContainsFunc(selected, func(s Mutation) bool { return s.Name == m.Name })
	})
	if t.compile(ctx, all) != nil {
		o.each(len(all), func(i int, show func(func())) {
			err := t.compile(ctx, all[i:i+1])
			show(func() {
				if err != nil {
					reasons[all[i].Name] = err
				}
			})
		})
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	broken := 0
	for i := range selected {
		if err := reasons[selected[i].Name]; err != nil {
			broken++
			fmt.Println(err)
		}
	}
	fmt.Printf("%d of %d mutations apply and compile\n", len(selected)-broken, len(selected))
	if broken > 0 {
		return fmt.Errorf("%d mutations do not apply or compile; adapt their Old and New in sim/mutate/list_*.go", broken)
	}
	return nil
}

func (t *tree) compile(ctx context.Context, list []Mutation) error {
	dir, err := os.MkdirTemp("", "quorate-mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return t.build(ctx, list, dir, filepath.Join(dir, "worker"))
}

// verdict is the error that the rows amount to.
func verdict(rows []Row) error {
	var survivors, stales, controls []string
	for i := range rows {
		switch r := &rows[i]; {
		case r.good():
		case r.Status == stale:
			stales = append(stales, r.Name)
		case r.Status == failed:
			controls = append(controls, fmt.Sprintf("seed %d", r.Seed))
		default:
			survivors = append(survivors, r.Name)
		}
	}
	var errs []error
	if len(survivors) > 0 {
		errs = append(errs, fmt.Errorf("the simulator did not find %s: it lacks a fault, a workload or a check", strings.Join(survivors, ", ")))
	}
	if len(stales) > 0 {
		errs = append(errs, fmt.Errorf("%s no longer apply: adapt their Old and New in sim/mutate/list_*.go", strings.Join(stales, ", ")))
	}
	if len(controls) > 0 {
		errs = append(errs, fmt.Errorf("the code as it is fails too, at %s: fix that first", strings.Join(controls, ", ")))
	}
	return errors.Join(errs...)
}
