package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// TestInterruptedInput: one interrupt ends a command that waits for standard input, which a read does not notice.
func TestInterruptedInput(t *testing.T) {
	for _, arguments := range [][]string{{"put", "key"}, {"txn"}} {
		input, writer := io.Pipe()
		defer writer.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var out, err bytes.Buffer
		a := &app{stdin: input, stdout: &out, stderr: &err, environment: []string{"QUORATE_ENDPOINTS=" + closedPort(t)}}
		ended := make(chan int, 1)
		go func() { ended <- a.run(ctx, arguments) }()
		// It reads: half a value, and no end.
		if _, err := writer.Write([]byte("then put a b\n")); err != nil {
			t.Fatal(err)
		}
		cancel()
		select {
		case code := <-ended:
			if code != exitFailed || !strings.Contains(err.String(), arguments[0]+": interrupted; nothing was sent") || out.Len() > 0 {
				t.Errorf("%q: exit %d, %s%s", arguments, code, out.String(), err.String())
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q does not end", arguments)
		}
	}
}

// endless is a stream without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestEndlessInput: what no node takes is not collected.
func TestEndlessInput(t *testing.T) {
	var out, err bytes.Buffer
	a := &app{stdin: endless{}, stdout: &out, stderr: &err, environment: []string{"QUORATE_ENDPOINTS=" + closedPort(t)}}
	if code := a.run(t.Context(), []string{"put", "key"}); code != exitUsage || !strings.Contains(err.String(), "larger than any value can be") {
		t.Errorf("exit %d, %s", code, err.String())
	}
}
