package markdown

import (
	"strings"
	"testing"
)

func TestItem(t *testing.T) {
	long := strings.Repeat("word ", 27)
	for _, c := range []struct{ name, text, want string }{
		{"short", "one line", "* **about**: one line\n"},
		{"broken at the width", long + "twenty-eight", "* **about**: " + strings.TrimSpace(long) + "\n  twenty-eight\n"},
		{"code stays whole", long + "`a b`", "* **about**: " + strings.TrimSpace(long) + "\n  `a b`\n"},
		{"no item begins by accident", long + "- b", "* **about**: " + strings.TrimSpace(long) + " -\n  b\n"},
		{"code that does not end", "a `b", "* **about**: a `b\n"},
	} {
		if got := Item("about", c.text); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.name, got, c.want)
		}
	}
}
