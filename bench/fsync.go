package main

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// measureFsync is the median of writing 4 KiB into a file whose blocks exist and making it durable, alone on the disk:
// the floor for an acknowledged write. In milliseconds.
func measureFsync(path string) (float64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 4096)
	const blocks = 1024
	for range blocks {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var took []time.Duration
	for i := range 500 {
		began := time.Now()
		if _, err := f.WriteAt(block, int64(i%blocks)*4096); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2].Seconds() * 1000, nil
}
