package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quoratedb/quorate/cmd/quorate/serveflags"
)

// explainUsage makes a command, and those below it, say in words what is wrong with a command line, and what would be right.
func explainUsage(command *cobra.Command) {
	command.SetFlagErrorFunc(explainFlag)
	if command.HasAvailableSubCommands() {
		command.Args = noSuchCommand
		command.SuggestionsMinimumDistance = 2 // changes of letters
		if !command.Runnable() {
			command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	} else if check := command.Args; check != nil {
		command.Args = func(cmd *cobra.Command, arguments []string) error { return explainArguments(cmd, check, arguments) }
	}
	for _, child := range command.Commands() {
		explainUsage(child)
	}
}

// explainArguments says which arguments a command takes when it got others.
func explainArguments(cmd *cobra.Command, check cobra.PositionalArgs, arguments []string) error {
	if check(cmd, arguments) == nil {
		return nil
	}
	shape := "it is: " + cmd.UseLine()
	switch {
	case !takesArguments(cmd):
		return fmt.Errorf("%s; it takes no argument, and it got %q", shape, arguments[0])
	case len(arguments) == 0:
		return fmt.Errorf("%s; it got no argument. For example:\n%s", shape, cmd.Example)
	case slices.ContainsFunc(prefixes(arguments), func(fewer []string) bool { return check(cmd, fewer) == nil }):
		return fmt.Errorf("%s; it got %d arguments. What has spaces in it needs quotes", shape, len(arguments))
	}
	return fmt.Errorf("%s; it got %s only", shape, plural(int64(len(arguments)), "argument"))
}

// prefixes are the beginnings of a list, without itself.
func prefixes(list []string) (all [][]string) {
	for i := range list {
		all = append(all, list[:i])
	}
	return all
}

// takesArguments goes by the line of usage: a command's name alone takes none.
func takesArguments(cmd *cobra.Command) bool { return strings.Contains(cmd.Use, " ") }

// noSuchCommand refuses arguments of a command that is a group of others, and lists these.
func noSuchCommand(cmd *cobra.Command, arguments []string) error {
	if len(arguments) == 0 {
		return nil
	}
	var names []string
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			names = append(names, child.Name())
		}
	}
	guess := ""
	if suggestions := cmd.SuggestionsFor(arguments[0]); len(suggestions) > 0 {
		guess = "; did you mean " + strings.Join(suggestions, " or ") + "?"
	}
	missing := fmt.Sprintf("there is no command %q", arguments[0])
	if cmd.HasParent() {
		missing = fmt.Sprintf("%s has no command %q", cmd.Name(), arguments[0])
	}
	return fmt.Errorf("%s%s\nThere are: %s", missing, guess, strings.Join(names, ", "))
}

// explainFlag turns what the flag library says into words for people.
func explainFlag(cmd *cobra.Command, err error) error {
	// The name of a command that does not exist explains why its flags do not either.
	if cmd.HasAvailableSubCommands() {
		if missing := noSuchCommand(cmd, cmd.Flags().Args()); missing != nil {
			return missing
		}
	}
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var incomplete *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s=%s: must be %s", invalid.GetFlag().Name, invalid.GetValue(), wantedValue(invalid.GetFlag()))
	case errors.As(err, &incomplete):
		return fmt.Errorf("--%s needs a value: %s", incomplete.GetFlag().Name, incomplete.GetFlag().Usage)
	}
	return err
}

// wantedValue says what a flag takes, by the type that the library has for it.
func wantedValue(flag *pflag.Flag) string {
	switch flag.Value.Type() {
	case "duration":
		return "a span of time with its unit, such as 5s, 300ms or 1m30s"
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number of at most 63 bits"
	case "uint64":
		return "a whole number of at most 64 bits, not negative"
	}
	return "a list with commas between its entries" // the last type that has invalid values
}

// etcdctlFlags are etcdctl's names of flags that have others here.
var etcdctlFlags = map[string]string{
	"w": "output", "write-out": "output", "command-timeout": "timeout", "print-value-only": "value-only",
	"consistency": "serializable", "prev-kv": "prev", "progress-notify": "progress",
	"password": "password-file", "new-user-password": "new-password-file", "auth-jwt-token": "token-file",
}

func unknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	name := unknown.GetSpecifiedName()
	given, short := "--"+name, unknown.GetSpecifiedShortnames()
	if short != "" {
		given = "-" + short
	}
	guess := etcdctlFlags[name]
	if cmd.Flags().Lookup(guess) == nil {
		guess = ""
	}
	if guess == "" && short == "" {
		guess = serveflags.Nearest(name, flagNames(cmd))
	}
	switch {
	case guess != "":
		return fmt.Errorf("unknown flag %s; did you mean --%s?", given, guess)
	case takesArguments(cmd):
		_, arguments, _ := strings.Cut(cmd.Use, " ")
		return fmt.Errorf("unknown flag %s. An argument that begins with a dash comes after two dashes: %s -- %s", given, cmd.CommandPath(), arguments)
	}
	return fmt.Errorf("unknown flag %s", given)
}

func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// completionExamples say how the scripts are used that the library's command prints.
var completionExamples = map[string]string{
	"completion": "  source <(quorate completion bash)     # names of commands and flags by the tab key, in this shell",
	"bash":       "  source <(quorate completion bash)",
	"fish":       "  quorate completion fish | source",
	"powershell": "  quorate completion powershell | Out-String | Invoke-Expression",
	"zsh":        "  source <(quorate completion zsh)",
}

func addCompletionCommand(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, command := range root.Commands() {
		if command.Name() != "completion" {
			continue
		}
		for _, one := range append(command.Commands(), command) {
			one.Example = completionExamples[one.Name()]
		}
	}
}

// helpCommand is the library's, but it refuses what does not exist.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show what a command does, and how it is used",
		Example: "  quorate help get\n  quorate help lease grant",
		ValidArgsFunction: func(_ *cobra.Command, arguments []string, _ string) ([]string, cobra.ShellCompDirective) {
			found, _, err := root.Find(arguments)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, child := range found.Commands() {
				if child.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(child.Name(), child.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, arguments []string) error {
			found, rest, err := root.Find(arguments)
			if err != nil {
				return err
			}
			if found.HasAvailableSubCommands() && len(rest) > 0 {
				return noSuchCommand(found, rest)
			}
			found.InitDefaultHelpFlag() // as --help does
			return found.Help()
		},
	}
}
