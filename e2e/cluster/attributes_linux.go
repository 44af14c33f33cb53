package cluster

import "syscall"

// attributes: a process group of its own, and death with the test program, however that dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
