package demo

import (
	"os/exec"
	"runtime"
)

// spawner starts all children from one operating-system thread, which lives as
// long as the demonstration: on Linux children are told to die with "the parent",
// and that means the thread that started them.
type spawner struct {
	requests chan spawn
}

type spawn struct {
	process *exec.Cmd
	err     chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawn)}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for request := range s.requests {
			request.err <- request.process.Start()
		}
	}()
	return s
}

func (s *spawner) start(process *exec.Cmd) error {
	request := spawn{process, make(chan error, 1)}
	s.requests <- request
	return <-request.err
}

// close ends the thread, and with it children that are still alive.
func (s *spawner) close() { close(s.requests) }
