// Package serveflags reads the command line and the environment of
// `quorate serve` in etcd's way: etcd's flag names, Go's flag syntax (one dash
// or two, --flag=value or --flag value), and ETCD_* variables behind them.
//
// Every flag of etcd 3.7.3 is in the table: it is applied, or accepted with a
// notice because nothing here corresponds to it, or refused because accepting it
// would promise something that is not there. The package is pure: arguments and
// environment in, options and notices out.
package serveflags

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/quoratedb/quorate/server"
)

// Treatment says what happens with a flag.
type Treatment uint8

// The three treatments.
const (
	Applied Treatment = iota
	Ignored           // accepted with a notice
	Refused           // unless its value asks for nothing
)

// Kind is the type of a flag's value.
type Kind uint8

// Kinds.
const (
	Text Kind = iota
	Bool
	Unsigned
	Integer
	Duration
	deadFlag // takes anything or nothing, as in etcd
)

// Flag is one row of the table.
type Flag struct {
	Name    string // without dashes
	Kind    Kind
	Default string // as one would write it; empty: none
	Group   string // heading in help and documentation
	Usage   string // what an applied flag means
	Limits  string // what values an applied flag takes; may be empty
	Ours    bool   // not a flag of etcd's

	Treatment Treatment
	// Because is the second half of the notice or refusal.
	Because string
	// harmless values of a refused flag ask for nothing and pass silently;
	// those of an ignored one are what happens anyway.
	harmless []string

	set func(*settings, string) error // of an applied flag
}

// Env names the environment variable behind the flag.
func (f *Flag) Env() string {
	prefix := "ETCD_"
	if f.Ours {
		prefix = "QUORATE_"
	}
	return prefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// settings is what the applied flags fill.
type settings struct {
	options server.Options
	log     LogOptions
	version bool
	check   bool
	join    JoinOptions
	// Of --auto-compaction-mode and --auto-compaction-retention.
	compactionMode, compactionRetention string
	// etcd demands the one when the other is given.
	listenClient, advertiseClient bool
}

// JoinOptions say where a node asks to be a member of a cluster, and as whom.
type JoinOptions struct {
	Endpoints string // of nodes, as clients reach them, with commas between; empty: it does not ask
	Learner   bool   // it stays without a vote
	// Of the client that asks, as those of other commands.
	CAFile, CertFile, KeyFile     string
	SkipVerify                    bool
	User, PasswordFile, TokenFile string
}

// LogOptions says what the process logs.
type LogOptions struct {
	Level  string // debug, info, warn, error, panic, fatal
	Format string // text or json
}

// checkKind refuses values that etcd would not have taken either.
func (f *Flag) checkKind(value string) error {
	var err error
	switch f.Kind {
	case Bool:
		_, err = strconv.ParseBool(value)
	case Unsigned:
		_, err = strconv.ParseUint(value, 0, strconv.IntSize)
	case Integer:
		_, err = strconv.ParseInt(value, 0, 64)
	case Duration:
		_, err = time.ParseDuration(value)
	}
	if err != nil {
		return fmt.Errorf("%q is not %s", value, kindNames[f.Kind])
	}
	return nil
}

var kindNames = [...]string{
	Text:     "a text",
	Bool:     "true or false",
	Unsigned: "a whole number from 0 on",
	Integer:  "a whole number",
	Duration: "a duration such as 500ms, 10s or 2h",
	deadFlag: "a value",
}

func (f *Flag) isHarmless(value string) bool {
	if f.Kind == Bool {
		parsed, err := strconv.ParseBool(value)
		value = strconv.FormatBool(parsed && err == nil)
	}
	for _, harmless := range f.harmless {
		if value == harmless {
			return true
		}
	}
	return false
}

// Setters of applied flags. checkKind has already accepted the value.

func setText(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, value string) error {
		if value == "" {
			return fmt.Errorf("it is empty")
		}
		*field(s) = value
		return nil
	}
}

func setURLs(field func(*settings) *[]server.URL) func(*settings, string) error {
	return func(s *settings, value string) error {
		urls, err := server.ParseURLs(value)
		if err != nil {
			return err
		}
		*field(s) = urls
		return nil
	}
}

// setNumber reads a whole number in [low, high]. The bounds also keep an
// explicit 0 from turning into the default.
func setNumber(low, high int64, field func(*settings, int64)) func(*settings, string) error {
	return func(s *settings, value string) error {
		number, err := strconv.ParseInt(value, 0, 64)
		if err != nil || number < low || number > high {
			return fmt.Errorf("%s is out of range: %d to %d", value, low, high)
		}
		field(s, number)
		return nil
	}
}

func setDuration(low time.Duration, field func(*settings, time.Duration)) func(*settings, string) error {
	return func(s *settings, value string) error {
		duration, err := time.ParseDuration(value)
		if err != nil || duration < low {
			return fmt.Errorf("%s is too short: at least %v", value, low)
		}
		field(s, duration)
		return nil
	}
}

// setDurationOrNever takes 0, too, for "never".
func setDurationOrNever(low time.Duration, field func(*settings, time.Duration)) func(*settings, string) error {
	return func(s *settings, value string) error {
		if duration, err := time.ParseDuration(value); err == nil && duration == 0 {
			field(s, orNever(duration))
			return nil
		}
		return setDuration(low, field)(s, value)
	}
}

// orNever turns 0, which etcd takes for "never", into what Options take for it.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// setOneOf takes one of a few words.
func setOneOf(words []string, field func(*settings, string)) func(*settings, string) error {
	return func(s *settings, value string) error {
		for _, word := range words {
			if value == word {
				field(s, value)
				return nil
			}
		}
		return fmt.Errorf("%q is none of %s", value, strings.Join(words, ", "))
	}
}
