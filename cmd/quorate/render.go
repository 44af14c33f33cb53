package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// cellRunes is how much of a value a table with several rows shows.
const cellRunes = 80

// table writes aligned columns. A cell wider than cellRunes moves what is right of it in its own line only.
func table(w io.Writer, header []string, rows [][]string) error {
	all := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for _, row := range all {
		for i, text := range row {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(text), cellRunes))
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, text := range row {
			fmt.Fprintf(&line, "%-*s", widths[i]+2, text) // a strings.Builder takes everything
			if utf8.RuneCountInString(text) > widths[i]+1 {
				line.WriteString("  ")
			}
		}
		// Lines end where their text ends.
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " \n")); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON writes one JSON document per line.
func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// text makes bytes readable on a terminal: as they are when they are printable,
// quoted as in Go when not, hexadecimal when asked.
func text(b []byte, asHex bool) string {
	if asHex {
		return hex.EncodeToString(b)
	}
	if !utf8.Valid(b) || strings.ContainsFunc(string(b), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(string(b))
	}
	return string(b)
}

// cell is text cut to the width of a table.
func cell(b []byte, asHex bool) (shown string, wasCut bool) {
	shown = text(b, asHex)
	if utf8.RuneCountInString(shown) <= cellRunes {
		return shown, false
	}
	return string([]rune(shown)[:cellRunes-1]) + "…", true
}

// fromArgument is the inverse for arguments.
func (a *app) fromArgument(argument string) (string, error) {
	if !a.hex {
		return argument, nil
	}
	decoded, err := hex.DecodeString(argument)
	if err != nil {
		return "", usagef("%q is not hexadecimal, which --hex demands: two digits a byte", argument)
	}
	return string(decoded), nil
}

func (a *app) fromArguments(arguments []string) ([]string, error) {
	decoded := make([]string, len(arguments))
	for i, argument := range arguments {
		var err error
		if decoded[i], err = a.fromArgument(argument); err != nil {
			return nil, err
		}
	}
	return decoded, nil
}

// keyValueJSON is one key in JSON output. Bytes that are not UTF-8, which JSON
// cannot carry, come as key_hex and value_hex instead of key and value.
type keyValueJSON struct {
	Key            *string `json:"key,omitempty"`
	KeyHex         *string `json:"key_hex,omitempty"`
	Value          *string `json:"value,omitempty"`
	ValueHex       *string `json:"value_hex,omitempty"`
	CreateRevision int64   `json:"create_revision,omitempty"`
	ModRevision    int64   `json:"mod_revision,omitempty"`
	Version        int64   `json:"version,omitempty"`
	Lease          string  `json:"lease,omitempty"` // hexadecimal, as lease commands take it
}

func toJSON(keyValue *mvccpb.KeyValue, asHex bool) *keyValueJSON {
	if keyValue == nil {
		return nil
	}
	result := &keyValueJSON{
		CreateRevision: keyValue.CreateRevision,
		ModRevision:    keyValue.ModRevision,
		Version:        keyValue.Version,
		Lease:          leaseText(keyValue.Lease),
	}
	result.Key, result.KeyHex = jsonBytes(keyValue.Key, asHex)
	if keyValue.Version > 0 { // a deleted key has no value
		result.Value, result.ValueHex = jsonBytes(keyValue.Value, asHex)
	}
	return result
}

func jsonBytes(b []byte, asHex bool) (asText, asHexText *string) {
	if asHex || !utf8.Valid(b) {
		encoded := hex.EncodeToString(b)
		return nil, &encoded
	}
	plain := string(b)
	return &plain, nil
}

func toJSONList(keyValues []*mvccpb.KeyValue, asHex bool) []*keyValueJSON {
	list := make([]*keyValueJSON, len(keyValues)) // [] rather than null when empty
	for i, keyValue := range keyValues {
		list[i] = toJSON(keyValue, asHex)
	}
	return list
}

// leaseText writes a lease ID as all of etcd's tools do; empty for no lease.
func leaseText(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatInt(id, 16)
}

// byteSize writes a size for people: 512 B, 1.5 MiB.
func byteSize(size int64) string {
	const units = "KMGTPE"
	if size < 1024 {
		return fmt.Sprintf("%d B", size)
	}
	value, unit := float64(size)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// plural writes "1 key", "2 keys".
func plural(count int64, word string) string {
	if count == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", count, word)
}
