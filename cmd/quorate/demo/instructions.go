package demo

import (
	"fmt"
	"os/exec"
	"strings"
)

// instructions are what a newcomer can try, ready to be pasted.
func instructions(program string, endpoints []string, manyShards bool) string {
	list := strings.Join(endpoints, ",")
	ours := fmt.Sprintf("%[1]s put greeting hello && %[1]s get greeting && %[1]s status", command(program, exec.LookPath))
	if manyShards {
		ours += " && " + command(program, exec.LookPath) + " shards"
	}
	if endpoints[0] != "127.0.0.1:2379" {
		ours = "export QUORATE_ENDPOINTS=" + list + "; " + ours
	}
	return fmt.Sprintf(`
endpoints: %s

in another terminal, try:
  %s
  etcdctl --endpoints=%s put greeting hello
  Go:  client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(%q, ",")})

Ctrl-C ends all three nodes.
`, strings.Join(endpoints, " "), ours, list, list)
}

// command is how the person calls this program again: go run removes its binary at the end, so
// that its path is of no use.
func command(program string, find func(string) (string, error)) string {
	if strings.Contains(program, "go-build") {
		return "go run ./cmd/quorate"
	}
	if found, err := find("quorate"); err == nil && found == program {
		return "quorate"
	}
	return program
}
