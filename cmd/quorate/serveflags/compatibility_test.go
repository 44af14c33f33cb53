package serveflags

import (
	"os"
	"regexp"
	"testing"
)

// TestCompatibilityOfFlags: what docs/etcd-compatibility.md says of a flag is what becomes of it here.
func TestCompatibilityOfFlags(t *testing.T) {
	content, err := os.ReadFile("../../../docs/etcd-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `--([^`]+)` \\| ([a-z ]+) \\| (.*)\\|$").FindAllStringSubmatch(string(content), -1) {
		said[row[1]] = row[2]
		if row[2] != "same" && len(row[3]) < 5 {
			t.Errorf("--%s is %s, and nothing is said of why", row[1], row[2])
		}
	}
	for _, f := range Table() {
		verdict := said[f.Name]
		fits := map[Treatment][]string{Applied: {"same", "better", "different"}, Ignored: {"no effect", "missing", "different"}, Refused: {"missing"}}[f.Treatment]
		ok := false
		for _, v := range fits {
			ok = ok || v == verdict
		}
		inHelpOnly := f.Name == "discovery" || f.Name == "discovery-proxy"
		if !f.Ours && !inHelpOnly && !ok {
			t.Errorf("--%s is said to be %q, and what becomes of it is one of %q", f.Name, verdict, fits)
		}
	}
}
