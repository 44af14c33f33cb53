package serveflags

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/server"
)

// Result is what a command line and an environment ask for.
type Result struct {
	Options server.Options // with defaults, validated; not when Help or Version
	Log     LogOptions
	Join    JoinOptions
	Notices []string // one line each, for people
	Help    bool     // -h or --help was given
	Version bool     // --version was given
	Check   bool     // --check was given
}

// Parse reads the arguments of `quorate serve` and the environment behind them
// (entries KEY=value). A flag beats its variable, which beats the default.
// asEtcd says that the program was started under the name etcd.
func Parse(arguments, environment []string, asEtcd bool) (Result, error) {
	table := Table()
	given, err := split(table, arguments)
	if errors.Is(err, errHelp) {
		return Result{Help: true}, nil
	}
	if err != nil {
		return Result{}, err
	}
	fromEnvironment, notices := readEnvironment(table, environment)
	s := &settings{log: LogOptions{Level: "info", Format: "text"}, compactionMode: "periodic", compactionRetention: "0"}
	for _, f := range table {
		value, source, found := pick(f, given, fromEnvironment)
		if !found {
			continue
		}
		notice, err := f.take(s, source, value)
		if err != nil {
			return Result{}, err
		}
		if notice != "" {
			notices = append(notices, notice)
		}
	}
	if s.version {
		return Result{Version: true}, nil
	}
	return s.finish(notices, asEtcd)
}

// pick chooses the flag over the environment, and names the source for messages.
func pick(f *Flag, given, fromEnvironment map[string]string) (value, source string, found bool) {
	if value, found = given[f.Name]; found {
		return value, "--" + f.Name, true
	}
	value, found = fromEnvironment[f.Name]
	return value, f.Env(), found
}

// take applies one value to the settings.
func (f *Flag) take(s *settings, source, value string) (notice string, err error) {
	if err := f.checkKind(value); err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	if on, err := strconv.ParseBool(value); f.Kind == Bool && err == nil {
		value = strconv.FormatBool(on) // 0 and f are no, too
	}
	switch {
	case f.Treatment == Applied:
		if err := f.set(s, value); err != nil {
			return "", fmt.Errorf("%s: %w", source, err)
		}
	case f.isHarmless(value):
	case f.Treatment == Refused:
		return "", fmt.Errorf("%s=%s is refused: %s", source, value, f.Because)
	default:
		return fmt.Sprintf("%s has no meaning here: %s", source, f.Because), nil
	}
	return "", nil
}

// finish fills in what follows from other flags, as etcd does it.
func (s *settings) finish(notices []string, asEtcd bool) (Result, error) {
	if err := s.finishUpkeep(); err != nil {
		return Result{}, err
	}
	node := &s.options.Node
	if s.listenClient && !s.advertiseClient {
		return Result{}, errors.New("--advertise-client-urls is required when --listen-client-urls is set (etcd demands it too): say under which URLs clients reach this node")
	}
	if asEtcd && node.DataDir == "" {
		name := node.Name
		if name == "" {
			name = server.DefaultName
		}
		node.DataDir = name + ".etcd"
	}
	switch {
	case s.join.Endpoints != "" && len(s.options.Cluster.Members) > 0:
		return Result{}, errors.New("--join and --initial-cluster are both given: with --join the node learns from the cluster who its members are; leave --initial-cluster out")
	case s.join.Endpoints == "" && s.join != (JoinOptions{}):
		return Result{}, errors.New("flags that begin with --join- are given, and --join is not: say where to ask, or leave them out")
	}
	options, err := s.options.WithDefaults().Recall()
	if err != nil {
		return Result{}, err
	}
	if err := options.Validate(); err != nil {
		return Result{}, err
	}
	return Result{Options: options, Log: s.log, Join: s.join, Check: s.check, Notices: append(notices, remarks(options)...)}, nil
}

// remarks are about options that work and are probably not meant.
func remarks(options server.Options) []string {
	var lines []string
	for _, u := range slices.Concat(options.Node.AdvertiseClientURLs, options.Node.AdvertisePeerURLs) {
		if u.Host == "0.0.0.0" || u.Host == "::" {
			lines = append(lines, fmt.Sprintf("%s is advertised, and nobody on another machine can connect to that address; advertise an address of this machine", u))
		}
	}
	if count := len(options.Cluster.Members); count%2 == 0 {
		lines = append(lines, fmt.Sprintf("a cluster of %d nodes survives no more failures than one of %d", count, count-1))
	}
	return lines
}

var errHelp = errors.New("help requested")

// split turns arguments into values by flag name, with the rules of Go's flag
// package; of a flag given twice the last value counts.
func split(table []*Flag, arguments []string) (map[string]string, error) {
	byName := map[string]*Flag{}
	for _, f := range table {
		byName[f.Name] = f
	}
	given := map[string]string{}
	for len(arguments) > 0 {
		argument := arguments[0]
		arguments = arguments[1:]
		name, value, hasValue, err := cut(argument)
		if err != nil {
			return nil, err
		}
		f := byName[name]
		switch {
		case name == "h" || name == "help":
			return nil, errHelp
		case f == nil:
			return nil, unknownFlag(table, name)
		case hasValue:
		case f.Kind == Bool || f.Kind == deadFlag:
			value = "true"
		case len(arguments) == 0:
			return nil, fmt.Errorf("--%s needs a value: --%s=...", name, name)
		default:
			value, arguments = arguments[0], arguments[1:]
		}
		given[name] = value
	}
	return given, nil
}

// cut takes one argument apart: -name, --name, -name=value or --name=value.
func cut(argument string) (name, value string, hasValue bool, err error) {
	body, found := strings.CutPrefix(argument, "-")
	if !found {
		return "", "", false, fmt.Errorf("%q is not a flag; serve takes flags only (a true/false flag takes its value after an equals sign: --flag=false)", argument)
	}
	body = strings.TrimPrefix(body, "-")
	name, value, hasValue = strings.Cut(body, "=")
	if name == "" || strings.HasPrefix(name, "-") {
		return "", "", false, fmt.Errorf("%q is not a flag; flags look like --name=value", argument)
	}
	return name, value, hasValue, nil
}

// readEnvironment finds the variables of known flags. As in etcd an empty
// variable counts as unset, and a variable with etcd's prefix that belongs to no
// flag is remarked upon.
func readEnvironment(table []*Flag, environment []string) (values map[string]string, notices []string) {
	byVariable := map[string]*Flag{}
	for _, f := range table {
		byVariable[f.Env()] = f
	}
	values = map[string]string{}
	var unknown []string
	for _, entry := range environment {
		variable, value, _ := strings.Cut(entry, "=")
		f := byVariable[variable]
		switch {
		case f != nil && f.Name == "version":
			// Set for other purposes in many container images; etcd disregards it too.
		case f != nil && value != "":
			values[f.Name] = value
		case f == nil && strings.HasPrefix(variable, "ETCD_"):
			unknown = append(unknown, variable)
		}
	}
	slices.Sort(unknown)
	for _, variable := range unknown {
		notices = append(notices, fmt.Sprintf("environment variable %s belongs to no flag and is ignored", variable))
	}
	return values, notices
}

func unknownFlag(table []*Flag, name string) error {
	if nearest := suggest(table, name); nearest != "" {
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, nearest)
	}
	return fmt.Errorf("unknown flag --%s; `quorate serve --help` lists all flags", name)
}

// suggest finds the flag whose name is nearest to an unknown one. etcd dropped
// the prefix experimental- from many names in 3.6.
func suggest(table []*Flag, name string) string {
	var names []string
	for _, f := range table {
		if f.Kind != deadFlag {
			names = append(names, f.Name)
		}
	}
	return Nearest(strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "experimental-"), names)
}

// Nearest is the name that somebody may have meant by another one; empty if none is similar.
func Nearest(meant string, names []string) string {
	nearest, distance := "", len(meant)/3+1
	for _, name := range names {
		if d := editDistance(meant, name); d < distance {
			nearest, distance = name, d
		}
	}
	return nearest
}

// editDistance counts the single-byte insertions, deletions and substitutions
// that lead from a to b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
