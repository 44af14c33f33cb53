package demo

import (
	"fmt"
	"strings"
)

// instructions are what a newcomer can try, ready to be pasted.
func instructions(endpoints []string) string {
	list := strings.Join(endpoints, ",")
	ours := "quorate put greeting hello && quorate get greeting && quorate status"
	if endpoints[0] != "127.0.0.1:2379" {
		ours = "export QUORATE_ENDPOINTS=" + list + "; " + ours
	}
	return fmt.Sprintf(`
endpoints: %s

try:
  %s
  etcdctl --endpoints=%s put greeting hello
  Go:  client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(%q, ",")})

(quorate is this binary: go install ./cmd/quorate, or go run ./cmd/quorate)
Ctrl-C ends all three nodes.
`, strings.Join(endpoints, " "), ours, list, list)
}
