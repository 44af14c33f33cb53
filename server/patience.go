package server

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/quoratedb/quorate/datadir"
)

// A node must be able to start at once after its process was killed, and the kernel takes a while, some hundredths of a second if it used
// much memory, until such a process has given up its locks and ports. So what is in use is asked for again for about two seconds. They are
// counted in attempts, so that a machine that stands still meanwhile does not use them up.
const (
	patienceAttempts = 100
	patiencePause    = 20 * time.Millisecond
)

// patiently repeats an attempt while what it wants is in use.
func patiently[T any](attempt func() (T, error)) (got T, err error) {
	for range patienceAttempts {
		got, err = attempt()
		if !errors.Is(err, datadir.ErrInUse) && !errors.Is(err, syscall.EADDRINUSE) {
			return got, err
		}
		time.Sleep(patiencePause)
	}
	return got, err
}

func listen(url URL) (net.Listener, error) {
	return patiently(func() (net.Listener, error) {
		if url.Path != "" {
			removeStale(url.Path)
		}
		return net.Listen(url.network(), url.HostPort())
	})
}

// removeStale removes the socket of a process that was killed: one that nobody listens on. The data directory, which is locked by then, has one process.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	if probe, err := net.Dial("unix", path); err == nil {
		_ = probe.Close() // somebody listens: net.Listen will say that the address is in use
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // if that fails, net.Listen says why
	}
}
