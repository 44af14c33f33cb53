package demo

import (
	"cmp"
	"fmt"
	"os/exec"
	"strings"
)

// instructions are what a newcomer can try, ready to be pasted.
func instructions(program string, endpoints []string, manyShards bool, of *identity) string {
	list := strings.Join(endpoints, ",")
	ours := fmt.Sprintf("%[1]s put greeting hello && %[1]s get greeting && %[1]s status", command(program, exec.LookPath))
	if manyShards {
		ours += " && " + command(program, exec.LookPath) + " shards"
	}
	secure, goTLS := "", ""
	if of != nil {
		secure = fmt.Sprintf(" --cacert=%s --cert=%s --key=%s", of.path(authorityFile), of.path(clientFile), of.path(clientKeyFile))
		goTLS = ", TLS: config}"
		ours = fmt.Sprintf("export QUORATE_CACERT=%s QUORATE_CERT=%s QUORATE_KEY=%s; ", of.path(authorityFile), of.path(clientFile), of.path(clientKeyFile)) + ours
	}
	if endpoints[0] != "127.0.0.1:2379" {
		ours = "export QUORATE_ENDPOINTS=" + list + "; " + ours
	}
	return fmt.Sprintf(`
endpoints: %s

in another terminal, try:
  %s
  etcdctl --endpoints=%s%s put greeting hello
  Go:  client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(%q, ",")%s)

Ctrl-C ends all three nodes.
`, strings.Join(endpoints, " "), ours, list, secure, list, cmp.Or(goTLS, "}"))
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
