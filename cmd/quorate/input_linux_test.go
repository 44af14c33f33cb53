package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

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

// TestPasswordAtATerminal is typed twice, and not shown.
func TestPasswordAtATerminal(t *testing.T) {
	endpoint := startReal(t)
	for _, c := range []struct {
		typed, want string
		code        int
	}{
		{"one\nother\n", "differ", exitUsage},
		{"\n", "empty", exitUsage},
		{"secret\nsecret\n", "The same again: ", exitOK},
	} {
		keyboard, terminal := openTerminal(t)
		var out, stderr strings.Builder
		a := &app{stdin: terminal, stdout: &out, stderr: &stderr, environment: []string{"QUORATE_ENDPOINTS=" + endpoint}}
		if _, err := keyboard.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		if code := a.run(t.Context(), words("user add alice")); code != c.code || !strings.Contains(stderr.String(), c.want) || strings.Contains(out.String()+stderr.String(), "secret") {
			t.Errorf("%q: exit %d, %s%s", c.typed, code, out.String(), stderr.String())
		}
	}
	// Ctrl-C leaves the terminal as it was, and nothing is sent.
	_, terminal := openTerminal(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var stderr strings.Builder
	a := &app{stdin: terminal, stdout: io.Discard, stderr: &stderr, environment: []string{"QUORATE_ENDPOINTS=" + endpoint}}
	if code := a.run(ctx, words("get a --user alice")); code != exitFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}
