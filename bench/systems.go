package main

import (
	"fmt"
	"slices"
	"strings"
)

// The systems that can be compared. Reports list them in the order of systemNames.
const (
	systemEtcd  = "etcd"
	systemRaft  = "quorate" // the default protocol
	systemPaxos = "quorate-paxos"
	systemOther = "quorate-other" // another build, see --other
	systemNull  = "null"
)

func systemNames() []string {
	return []string{systemEtcd, systemRaft, systemPaxos, systemOther, systemNull}
}

func isQuorate(system string) bool { return strings.HasPrefix(system, "quorate") }

// protocolFlags choose the consensus protocol.
func protocolFlags(system string) []string {
	if system == systemPaxos {
		return []string{"--consensus=paxos"}
	}
	return []string{"--consensus=raft"}
}

func checkSystems(systems []string) error {
	for i, name := range systems {
		if !slices.Contains(systemNames(), name) {
			return fmt.Errorf("unknown system %q; known are %v", name, systemNames())
		}
		if slices.Contains(systems[:i], name) {
			return fmt.Errorf("system %q is named twice", name)
		}
	}
	return nil
}
