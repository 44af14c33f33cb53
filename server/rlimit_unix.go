//go:build unix

package server

import (
	"fmt"
	"syscall"
)

// raiseDescriptorLimit has the system allow as many open files as it does at most, and returns how many. Where it refuses, what there is has to do.
func raiseDescriptorLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("ask how many files the process may open: %w", err)
	}
	raised := limit
	raised.Cur = raised.Max
	if limit.Cur < limit.Max && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		limit = raised
	}
	return uint64(limit.Cur), nil
}
