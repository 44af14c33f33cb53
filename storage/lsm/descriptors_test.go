package lsm

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/quoratedb/quorate/storage"
)

// TestDescriptorsAreNotTheDisk: whoever reads that a file could not be opened learns whether the disk is at fault.
func TestDescriptorsAreNotTheDisk(t *testing.T) {
	for errno, blamed := range map[syscall.Errno]string{syscall.EMFILE: "ulimit -n", syscall.ENFILE: "ulimit -n", syscall.EIO: "check the disk", syscall.ENOSPC: "free space"} {
		err := describe("dir", &os.PathError{Op: "open", Path: "dir/000001.sst", Err: errno})
		if !errors.Is(err, storage.ErrUnusable) || !strings.Contains(err.Error(), blamed) || blamed == "ulimit -n" && strings.Contains(err.Error(), "disk") {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
