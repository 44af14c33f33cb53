//go:build unix

package campaign

import (
	"syscall"
	"time"
)

// processorTime is what this process has used of processors.
func processorTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0 // the system knows no processes of its own: no run hangs
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
