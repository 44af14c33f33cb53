package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
)

// TestPutAtATerminal says where the value comes from, and takes what is typed.
func TestPutAtATerminal(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	fake := startFake(t, fakeetcd.Options{MemberID: 1, LeaderID: 1})
	if _, err := keyboard.WriteString("typed\n\x04"); err != nil { // Ctrl-D
		t.Fatal(err)
	}
	var out, err bytes.Buffer
	environment := []string{"QUORATE_ENDPOINTS=" + fake.Address()}
	a := &app{stdin: terminal, stdout: &out, stderr: &err, environment: environment}
	if code := a.run(t.Context(), []string{"put", "key"}); code != exitOK || !strings.Contains(err.String(), "until Ctrl-D") {
		t.Errorf("exit %d, %s", code, err.String())
	}
	if stdout, _, _ := invoke(t, environment, "", "get", "key", "--value-only"); stdout != "typed\n\n" {
		t.Errorf("the value is %q", stdout)
	}
}

// openTerminal makes a pseudo-terminal: what is written to the keyboard is typed.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}
