package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// errInterruptedInput ends a command whose input did not come to its end.
var errInterruptedInput = errors.New("interrupted; nothing was sent")

// untilInterrupted reads, and gives up when the context ends: a read of a terminal or a pipe cannot be cancelled, and
// the program catches the first interrupt, so that it would take a second one to end it. The reader is left behind,
// for the process ends next.
func untilInterrupted[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var nothing T
		return nothing, errInterruptedInput
	}
}

// maxInputBytes is the largest request that any node takes (--max-request-bytes), twice because of --hex.
const maxInputBytes = 2 * 32 << 20

// inputValue is the value of a put that was given without one. Nothing is no value: whoever wants an empty one says so.
func (a *app) inputValue(ctx context.Context) (string, error) {
	if isTerminal(a.stdin) {
		fmt.Fprintln(a.stderr, "No VALUE was given: it is read from here, line breaks included, until Ctrl-D on a line of its own. Ctrl-C ends without a write.")
	}
	content, err := untilInterrupted(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(a.stdin, maxInputBytes+1)) })
	switch {
	case errors.Is(err, errInterruptedInput):
		return "", fmt.Errorf("put: %w", err)
	case err != nil:
		return "", fmt.Errorf("read the value from standard input: %w", err)
	case len(content) == 0:
		return "", usagef("no VALUE was given, and standard input was empty; an empty value is written with: put KEY ''")
	case len(content) > maxInputBytes:
		return "", usagef("standard input is larger than any value can be")
	}
	if a.hex {
		return a.fromArgument(strings.TrimSpace(string(content))) // a line's end is not hexadecimal
	}
	return string(content), nil
}

func isTerminal(r io.Reader) bool {
	file, isFile := r.(*os.File)
	if !isFile {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	nothing, err := os.Stat(os.DevNull) // a character device, too
	return err != nil || !os.SameFile(info, nothing)
}
