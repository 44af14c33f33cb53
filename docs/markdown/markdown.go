// Package markdown writes the lists of the documents that are made from the code, in lines that can be read and compared.
package markdown

import (
	"regexp"
	"strings"
)

// width is where lines are broken. Texts in backquotes are kept whole up to keepWhole.
const (
	width     = 150
	keepWhole = 120
)

// looksSpecial are words that mean something else at the beginning of a line.
var looksSpecial = regexp.MustCompile(`^([#>|].*|[*+=-]|[-*+]{1,3}|\d+[.)])$`)

// Item is an item of a list: what it is about, in bold, and what there is to say.
func Item(about, text string) string { return Wrap("**"+about+"**: "+text, "* ", "  ") }

// Wrap breaks a text into lines: the first after one prefix, all others after another.
func Wrap(text, first, others string) string {
	var b strings.Builder
	b.WriteString(first)
	length, empty := len(first), true
	for _, word := range words(text) {
		switch {
		case empty:
		case length+1+len(word) > width:
			b.WriteString("\n" + others)
			length = len(others)
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length, empty = length+len(word), false
	}
	b.WriteByte('\n')
	return b.String()
}

// words are the parts of a text between which a line may end.
func words(text string) []string {
	var all []string
	open := "" // a text in backquotes that has not ended
	for _, word := range strings.Fields(text) {
		if open != "" {
			word = open + " " + word
		}
		if open = ""; strings.Count(word, "`")%2 == 1 && len(word) < keepWhole {
			open = word
			continue
		}
		if len(all) > 0 && looksSpecial.MatchString(word) {
			all[len(all)-1] += " " + word
			continue
		}
		all = append(all, word)
	}
	if open != "" {
		all = append(all, open)
	}
	return all
}
