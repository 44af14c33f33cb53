package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// meter shows progress in one line of a terminal, and elsewhere a line now and then.
type meter struct {
	w        io.Writer
	terminal bool
	last     time.Time
	shown    bool
}

// meterInterval is how often progress is shown: on a terminal, and elsewhere.
const (
	meterInterval = 200 * time.Millisecond
	lineInterval  = 10 * time.Second
)

func (a *app) newMeter() *meter {
	file, is := a.stderr.(*os.File)
	m := &meter{w: a.stderr, last: time.Now()}
	if is {
		info, err := file.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return m
}

func (m *meter) show(text string) {
	now := time.Now()
	switch {
	case m.terminal && now.Sub(m.last) >= meterInterval:
		fmt.Fprintf(m.w, "\r%s\x1b[K", text)
		m.shown = true
	case !m.terminal && now.Sub(m.last) >= lineInterval:
		fmt.Fprintln(m.w, text)
	default:
		return
	}
	m.last = now
}

func (m *meter) end() {
	if m.shown {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}
