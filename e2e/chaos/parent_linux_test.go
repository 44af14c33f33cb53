package chaos

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the process when the test's is gone.
func dieWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
