package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/sim/campaign"
)

// Exit codes, documented in the root command's help.
const (
	exitOK          = 0
	exitFailed      = 1 // the request was refused, or something else went wrong
	exitUsage       = 2 // the command line makes no sense
	exitUnavailable = 3 // no node answered in time, or the cluster has no leader
	exitNotFound    = 4 // the one key, lease, user or role that was asked for does not exist
	exitRemoved     = 5 // serve: the node was removed from the cluster
)

// notFoundError ends a command with exitNotFound; it says what is missing.
type notFoundError struct{ message string }

func (e *notFoundError) Error() string { return e.message }

// app is one invocation: what it may touch, and the flags that all client
// commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environment    []string // KEY=value
	start          func(context.Context, server.Options) (node, error)
	asEtcd         bool
	simulator      campaign.Simulator

	endpoints     []string
	endpointsFrom string // the flag, or the variable, that they are from
	timeout       time.Duration
	output        string
	hex           bool
	security      clientSecurity
	user          userFlags
	identity      identity // who asks, once that is known

	interrupted <-chan struct{} // closed by Ctrl-C; nil: never

	running bool // the command line was understood; errors from here on are not about usage
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, arguments []string) int {
	if a.asEtcd {
		arguments = append([]string{"serve"}, arguments...)
	}
	root := a.rootCommand()
	root.SetArgs(arguments)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	return a.report(err, command)
}

func (a *app) report(err error, command *cobra.Command) int {
	var bad usageError
	var missing *notFoundError
	var verdict *verdictError
	switch {
	case errors.As(err, &verdict):
		fmt.Fprintf(a.stderr, "quorate: %v\n", err)
		return verdict.exitCode()
	case errors.As(err, &missing):
		fmt.Fprintf(a.stderr, "quorate: %v\n", err)
		return exitNotFound
	case server.Removed(err):
		fmt.Fprintf(a.stderr, "quorate: %v\n", err)
		return exitRemoved
	case !a.running || errors.As(err, &bad):
		path := command.CommandPath()
		if a.asEtcd {
			path = "etcd"
		}
		fmt.Fprintf(a.stderr, "quorate: %v\n%s --help shows the usage, with examples.\n", err, path)
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "quorate: %v\n", err)
	var unavailable *unavailableError
	if errors.As(err, &unavailable) {
		return exitUnavailable
	}
	return exitFailed
}

// usageError is about the command line although the command had begun.
type usageError struct{ error }

func usagef(format string, arguments ...any) error {
	return usageError{fmt.Errorf(format, arguments...)}
}

const rootHelp = `Quorate is a replicated, strictly serializable key-value store that speaks etcd's
API: etcd's clients and tools work on it unmodified.

Exit codes: 0 success; 1 the request was refused or failed; 2 wrong usage;
3 no node answered in time, or the cluster has no leader; 4 the key, lease, user
or role that was asked for does not exist; 5 the node was removed from the
cluster. The simulator has some of its own: see quorate sim --help.`

func (a *app) rootCommand() *cobra.Command {
	version := false
	root := &cobra.Command{
		Use:   "quorate",
		Short: "A replicated key-value store with etcd's API",
		Long:  rootHelp,
		Example: `  quorate demo                 three nodes on this machine, to try things out
  quorate put greeting hello   write a key
  quorate get greeting         read it
  quorate status               what every node is doing`,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return printVersion(a.stdout)
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVar(&version, "version", false, "show the version of this program")
	root.AddGroup(&cobra.Group{ID: "server", Title: "Nodes:"}, &cobra.Group{ID: "client", Title: "Requests:"})
	for _, command := range []*cobra.Command{a.serveCommand(), a.restoreCommand(), a.rescueCommand(), a.demoCommand()} {
		command.GroupID = "server"
		root.AddCommand(command)
	}
	for _, command := range []*cobra.Command{
		a.getCommand(), a.historyCommand(), a.putCommand(), a.delCommand(), a.txnCommand(), a.watchCommand(),
		a.leaseCommand(), a.compactCommand(), a.statusCommand(), a.shardsCommand(), a.transactionsCommand(), a.alarmCommand(), a.fenceCommand(), a.moveLeaderCommand(),
		a.userCommand(), a.roleCommand(), a.authCommand(),
	} {
		command.GroupID = "client"
		a.addClientFlags(command, requestTimeout)
		root.AddCommand(command)
	}
	defrag := a.defragCommand()
	defrag.GroupID = "client"
	a.addClientFlags(defrag, defragTimeout)
	members := a.memberCommand()
	members.GroupID = "client"
	a.addClientFlags(members, memberTimeout)
	backups := a.backupCommand()
	backups.GroupID = "client"
	root.AddCommand(defrag, members, backups, a.simCommand(), a.versionCommand())
	root.SetHelpCommand(helpCommand(root))
	root.InitDefaultHelpCmd()
	addCompletionCommand(root)
	explainUsage(root)
	return root
}

const defaultEndpoint = "127.0.0.1:2379"

// requestTimeout is how long a request may take, unless --timeout says otherwise.
const requestTimeout = 5 * time.Second

// addClientFlags gives a command, and those below it, the flags of all clients.
func (a *app) addClientFlags(command *cobra.Command, timeout time.Duration) {
	endpoints, _ := a.defaultEndpoints()
	flags := command.PersistentFlags()
	flags.StringSliceVar(&a.endpoints, "endpoints", endpoints, "nodes to ask, host:port,host:port; https:// or unix:// may stand before each (environment: QUORATE_ENDPOINTS or ETCDCTL_ENDPOINTS)")
	flags.Duration("timeout", timeout, "how long to wait for an answer")
	a.addSecurityFlags(command)
	a.addUserFlags(command)
	a.addOutputFlag(command)
	flags.BoolVar(&a.hex, "hex", false, "keys and values are hexadecimal, as arguments and in the output")
}

// defaultEndpoints are those of the environment, and the variable that gives them.
func (a *app) defaultEndpoints() (endpoints []string, variable string) {
	for _, variable := range []string{"QUORATE_ENDPOINTS", "ETCDCTL_ENDPOINTS"} {
		if value := a.getenv(variable); value != "" {
			return strings.Split(value, ","), variable
		}
	}
	return []string{defaultEndpoint}, ""
}

func (a *app) addOutputFlag(command *cobra.Command) {
	command.PersistentFlags().StringVar(&a.output, "output", "table", "form of the output: table or json")
	noError(command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)))
}

func (a *app) checkOutput() error {
	if a.output != "table" && a.output != "json" {
		return fmt.Errorf("--output=%s: must be table or json", a.output)
	}
	return nil
}

// noError panics on errors that only a mistake in this program can cause.
func noError(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) getenv(name string) string {
	for _, entry := range a.environment {
		if key, value, _ := strings.Cut(entry, "="); key == name {
			return value
		}
	}
	return ""
}

// command marks the point from which on errors are not about usage, and checks
// the flags that all client commands share.
func (a *app) command(body func(ctx context.Context, arguments []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, arguments []string) (err error) {
		if a.timeout, err = cmd.Flags().GetDuration("timeout"); err != nil {
			return err
		}
		a.endpointsFrom = "--endpoints"
		if _, variable := a.defaultEndpoints(); variable != "" && !cmd.Flags().Changed("endpoints") {
			a.endpointsFrom = variable
		}
		if err := a.checkOutput(); err != nil {
			return err
		}
		if a.timeout <= 0 {
			return fmt.Errorf("--timeout=%v: must be above 0", a.timeout)
		}
		a.running, a.interrupted = true, cmd.Context().Done()
		if err := a.logIn(cmd.Context()); err != nil {
			return err
		}
		return body(cmd.Context(), arguments)
	}
}

func (a *app) json() bool { return a.output == "json" }
