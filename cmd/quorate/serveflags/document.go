package serveflags

import (
	"fmt"
	"strings"
)

// Help is the list of applied flags for the terminal.
func Help() string {
	var text strings.Builder
	for _, group := range Groups() {
		fmt.Fprintf(&text, "\n%s:\n", group)
		for _, f := range appliedIn(group) {
			value := ""
			if f.Default != "" {
				value = " (default " + f.Default + ")"
			}
			fmt.Fprintf(&text, "  --%s%s\n        %s\n", f.Name, value, f.Usage)
			if f.Limits != "" {
				fmt.Fprintf(&text, "        Values: %s.\n", f.Limits)
			}
		}
	}
	text.WriteString(`
Every flag can be written --flag=value, --flag value, or with one dash, and given
as an environment variable (--data-dir: ETCD_DATA_DIR; the variables of flags
that are not etcd's, as --consensus, begin with QUORATE_). A flag beats its variable.
etcd's other flags are accepted with a notice; those that would promise security
that is not there are refused.
`)
	return text.String()
}

func appliedIn(group string) []*Flag {
	var flags []*Flag
	for _, f := range Table() {
		if f.Treatment == Applied && f.Group == group {
			flags = append(flags, f)
		}
	}
	return flags
}
