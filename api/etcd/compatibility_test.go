package etcd

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCompatibilityOfCalls: docs/etcd-compatibility.md says of those calls that they are missing that are not served.
func TestCompatibilityOfCalls(t *testing.T) {
	content, err := os.ReadFile("../../docs/etcd-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	served := []string{"/etcdserverpb.Auth", "/etcdserverpb.Cluster"} // where there are users, and members can be changed
	rows := 0
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:etcdserverpb|v3lockpb|v3electionpb)[^`]+)` \\| ([a-z ]+) \\|").FindAllStringSubmatch(string(content), -1) {
		method := "/" + row[1]
		service, _ := splitMethod(method)
		missing := absent[method] != "" || absent[service] != "" && !slices.Contains(served, service)
		if missing != (row[2] == "missing") {
			t.Errorf("%s is said to be %q, and is missing: %v", method, row[2], missing)
		}
		rows++
	}
	for method := range absent {
		if !strings.Contains(string(content), "`"+method[1:]) {
			t.Errorf("%s is not there, and has no row", method)
		}
	}
	if rows < 40 {
		t.Errorf("%d rows", rows)
	}
}
