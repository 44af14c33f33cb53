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
as an environment variable (--data-dir: ETCD_DATA_DIR; the variables of
--read-safety and --consensus begin with QUORATE_). A flag beats its variable.
etcd's other flags are accepted with a notice; those that would promise security
that is not there are refused.
`)
	return text.String()
}

// Markdown is the flags section of docs/operations.md.
func Markdown() string {
	var text strings.Builder
	for _, group := range Groups() {
		fmt.Fprintf(&text, "### %s\n\n| flag | meaning | default | values |\n|---|---|---|---|\n", group)
		for _, f := range appliedIn(group) {
			fmt.Fprintf(&text, "| `--%s` | %s | %s | %s |\n", f.Name, f.Usage, code(f.Default), f.Limits)
		}
		text.WriteString("\n")
	}
	section := func(title, intro string, treatment Treatment) {
		fmt.Fprintf(&text, "### %s\n\n%s\n\n| flags | why |\n|---|---|\n", title, intro)
		for _, row := range byReason(treatment) {
			fmt.Fprintf(&text, "| `--%s` | %s |\n", strings.Join(row.names, "` `--"), row.because)
		}
		text.WriteString("\n")
	}
	section("Refused", "These flags of etcd's end the start with an error, unless their value asks for nothing (`--auto-tls=false`).", Refused)
	section("Accepted without effect", "These flags of etcd's are accepted, each with a notice of one line when its value differs from what happens anyway.", Ignored)
	return strings.TrimRight(text.String(), "\n") + "\n"
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

type reason struct {
	because string
	names   []string
}

// byReason collects flags that are treated so for the same reason, in the order
// of the table.
func byReason(treatment Treatment) []*reason {
	var rows []*reason
	found := map[string]*reason{}
	for _, f := range Table() {
		if f.Treatment != treatment {
			continue
		}
		row := found[f.Because]
		if row == nil {
			row = &reason{because: f.Because}
			found[f.Because] = row
			rows = append(rows, row)
		}
		row.names = append(row.names, f.Name)
	}
	return rows
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
