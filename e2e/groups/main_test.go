package groups

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"
)

// configVariable holds the nodeConfig of a process that is to be a node.
const configVariable = "QUORATE_GROUPS_NODE"

func TestMain(m *testing.M) {
	if config := os.Getenv(configVariable); config != "" {
		os.Exit(runNode(config))
	}
	os.Exit(m.Run())
}

// runNode is the life of a node's process: until it is killed, or its standard input ends with the process that started it.
func runNode(text string) int {
	var config nodeConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	n, err := openNode(config)
	if err == nil {
		err = n.serve(config.Service)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start:", err)
		return 1
	}
	go func() {
		fmt.Fprintln(os.Stderr, "stopped by itself:", <-n.failed)
		os.Exit(3)
	}()
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever holds the other end, in whatever way
	return 0
}
