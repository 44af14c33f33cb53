package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/cmd/quorate/serveflags"
	"github.com/quoratedb/quorate/server"
)

// closeTimeout is how long an orderly end may take before the process ends
// anyway; everything acknowledged is durable before that.
const closeTimeout = 5 * time.Second

func (a *app) serveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "serve [--FLAG=VALUE...]",
		Short: "Run one node of a cluster, with etcd's flags",
		Long: `Runs one node until it gets SIGINT or SIGTERM. The flags are etcd's; under a program
name or link "etcd" this is the only command. The log goes to standard error; it says
"ready to serve client requests" once the node does.`,
		Example: `  # a cluster of one
  quorate serve --data-dir /var/lib/quorate

  # the first of three nodes
  quorate serve --name n1 --data-dir /var/lib/quorate \
    --listen-client-urls http://10.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379 \
    --listen-peer-urls http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \
    --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380

  # one more, which adds itself
  quorate serve --name n4 --data-dir /var/lib/quorate --join 10.0.0.1:2379,10.0.0.2:2379 \
    --listen-client-urls http://10.0.0.4:2379 --advertise-client-urls http://10.0.0.4:2379 \
    --listen-peer-urls http://10.0.0.4:2380 --initial-advertise-peer-urls http://10.0.0.4:2380`,
		// Flags have etcd's syntax, which is not cobra's.
		DisableFlagParsing: true,
		ValidArgsFunction:  completeServeFlags,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.serve(cmd, arguments)
		},
	}
	// `quorate help serve` is to say what `quorate serve --help` says; the library knows none of the flags.
	command.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = printServeHelp(cmd, a.stdout) })
	return command
}

func completeServeFlags(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, f := range serveflags.Table() {
		if f.Treatment == serveflags.Applied {
			names = append(names, cobra.CompletionWithDesc("--"+f.Name+"=", f.Usage))
		}
	}
	return names, cobra.ShellCompDirectiveNoSpace
}

func (a *app) serve(cmd *cobra.Command, arguments []string) error {
	parsed, err := serveflags.Parse(arguments, a.environment, a.asEtcd)
	switch {
	case err != nil:
		return err // before running is set: wrong usage
	case parsed.Help:
		return printServeHelp(cmd, a.stdout)
	case parsed.Version:
		return printVersion(a.stdout)
	}
	a.running = true
	if parsed.Check {
		return a.check(parsed)
	}
	logger := newLogger(a.stderr, parsed.Log)
	for _, notice := range parsed.Notices {
		logger.Warn(notice)
	}
	options := parsed.Options
	options.Logger = logger
	start := a.start
	if parsed.Join.Endpoints != "" {
		j := newJoining(a, parsed.Join, logger)
		start = j.start
	}
	return runNode(cmd.Context(), logger, options, start)
}

// check says what of the flags is odd, or wrong.
func (a *app) check(parsed serveflags.Result) error {
	warnings, err := server.Check(parsed.Options)
	for _, line := range append(parsed.Notices, warnings...) {
		fmt.Fprintf(a.stdout, "warning: %s\n", line)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, "the flags, and the files that they name, are in order; nothing was started")
	return err
}

func printServeHelp(cmd *cobra.Command, w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s\n\nUsage:\n  quorate serve [--FLAG=VALUE...]\n\nExamples:\n%s\n%s", cmd.Long, cmd.Example, serveflags.Help())
	return err
}

func newLogger(w io.Writer, options serveflags.LogOptions) *slog.Logger {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
		// slog has nothing above error; such lines do not exist here.
		"panic": slog.LevelError + 4, "fatal": slog.LevelError + 4,
	}
	handlerOptions := &slog.HandlerOptions{Level: levels[options.Level]}
	if options.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, handlerOptions))
	}
	return slog.New(slog.NewTextHandler(w, handlerOptions))
}

// repairPause is how long after a repair the next one comes at the earliest: damage that comes back so soon is the disk's
// or the machine's fault, and somebody has to look.
const repairPause = time.Hour

// runNode is a node's life. When it ends because its data is damaged, it is started again at once, which sets the data aside.
func runNode(ctx context.Context, logger *slog.Logger, options server.Options, start func(context.Context, server.Options) (node, error)) error {
	for repaired := (time.Time{}); ; repaired = time.Now() {
		failure, err := runNodeOnce(ctx, logger, options, start)
		if failure == nil || ctx.Err() != nil || !server.Repairs(options, failure) || time.Since(repaired) < repairPause {
			return err
		}
		logger.Error("the node starts again without its damaged data", "error", err)
	}
}

// runNodeOnce starts the node, says when it is ready, runs until the context ends or the node fails, and ends in order. A
// node that failed while it ran gives the failure, too.
func runNodeOnce(ctx context.Context, logger *slog.Logger, options server.Options, start func(context.Context, server.Options) (node, error)) (failure, err error) {
	logger.Info("starting", "version", server.Version, "node", options.Node.Name, "initial_cluster", server.FormatMembers(options.Cluster.Members), "data_dir", options.Node.DataDir)
	running, err := startNodeOrGiveUp(ctx, options, start)
	if err != nil {
		if ctx.Err() != nil {
			logger.Info("interrupted while starting", "error", err)
			return nil, nil
		}
		return nil, fmt.Errorf("start node %s: %w", options.Node.Name, err)
	}
	failure = waitForEnd(ctx, logger, options, running)
	// The context has ended, or not: closing gets a time of its own.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err = closeNode(closing, running)
	switch {
	case failure != nil:
		return failure, errors.Join(fmt.Errorf("node %s stopped by itself: %w", options.Node.Name, failure), err)
	case err != nil:
		return nil, fmt.Errorf("end node %s: %w", options.Node.Name, err)
	}
	logger.Info("ended")
	return nil, nil
}

func waitForEnd(ctx context.Context, logger *slog.Logger, options server.Options, running node) (failure error) {
	ready := running.Ready()
	for {
		select {
		case <-ready:
			ready = nil // once is enough
			logger.Info("ready to serve client requests", "node", options.Node.Name, "client_urls", fmt.Sprint(options.Node.ListenClientURLs))
		case err := <-running.Err():
			if err == nil {
				err = errors.New("it gave no reason")
			}
			return err
		case <-ctx.Done():
			logger.Info("asked to end")
			return nil
		}
	}
}

// startNodeOrGiveUp makes sure that a start that hangs, on a disk for example,
// does not outlive the wish to end.
func startNodeOrGiveUp(ctx context.Context, options server.Options, start func(context.Context, server.Options) (node, error)) (node, error) {
	type result struct {
		running node
		err     error
	}
	started := make(chan result, 1)
	go func() {
		running, err := start(ctx, options)
		started <- result{running, err}
	}()
	select {
	case r := <-started:
		return r.running, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-started:
		return r.running, r.err
	case <-time.After(closeTimeout):
		return nil, fmt.Errorf("the start did not end within %v", closeTimeout)
	}
}

// closeNode gives up on a Close that does not heed its context.
func closeNode(ctx context.Context, running node) error {
	closed := make(chan error, 1)
	go func() { closed <- running.Close(ctx) }()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-closed:
		return err
	case <-time.After(time.Second):
		return errors.New("it did not end in time; the process ends anyway, and everything acknowledged is on disk")
	}
}
