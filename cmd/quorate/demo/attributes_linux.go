package demo

import "syscall"

// childAttributes: a group of their own, so that Ctrl-C reaches only the
// demonstration, which ends them in order; and death with the parent, however
// that dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
