package campaign

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/quoratedb/quorate/sim"
)

// Errors about trace files. The texts around them say what to do.
var (
	ErrNoTrace      = errors.New("this is not a trace of the simulator")
	ErrOtherVersion = errors.New("the trace is of another version of this program")
	ErrDamaged      = errors.New("the trace is damaged")
)

// maxHeadLineBytes bounds a line of the head or the end; plans are far smaller.
const maxHeadLineBytes = 16 << 20

// ReadTrace reads a whole trace file and refuses one that is not whole, or not of this version.
func ReadTrace(file io.Reader, version string) (TraceHead, error) {
	r := &traceReader{lines: bufio.NewReader(file)}
	head, err := r.head(version)
	if err != nil {
		return TraceHead{}, err
	}
	head.body = r.offset
	return head, r.rest(&head)
}

type traceReader struct {
	lines  *bufio.Reader
	offset int64
}

// next is the next line with its newline; io.EOF: there is none.
func (r *traceReader) next() (string, error) {
	var line []byte
	for {
		piece, err := r.lines.ReadSlice('\n')
		line = append(line, piece...)
		r.offset += int64(len(piece))
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < maxHeadLineBytes:
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			return "", fmt.Errorf("%w: a line is longer than %d MiB", ErrDamaged, maxHeadLineBytes>>20)
		case errors.Is(err, io.EOF) && len(line) > 0:
			return "", fmt.Errorf("%w: its last line is cut off", ErrDamaged)
		}
		return string(line), err
	}
}

func (r *traceReader) head(version string) (head TraceHead, err error) {
	format, err := r.next()
	if !strings.HasPrefix(format, mark+traceFormat) {
		return head, fmt.Errorf("%w: its first line is not %q. Traces are written by quorate sim --seed N --trace FILE", ErrNoTrace, mark+traceFormat+formatNumber)
	}
	if err != nil {
		return head, err
	}
	if number := strings.TrimSpace(strings.TrimPrefix(format, mark+traceFormat)); number != formatNumber {
		return head, fmt.Errorf("%w: its format is %.40q, and this program reads format %s", ErrOtherVersion, number, formatNumber)
	}
	if head.Version, err = r.field("version"); err != nil {
		return head, err
	}
	if head.Version != version {
		return head, fmt.Errorf("%w: it was written by version %.80s, and this is version %s. The same seed may be another run now: "+
			"use the program of that version, or run the seed again", ErrOtherVersion, head.Version, version)
	}
	spec, err := r.field("run")
	if err != nil {
		return head, err
	}
	if err := json.Unmarshal([]byte(spec), &head.Spec); err != nil {
		return head, fmt.Errorf("%w: its run cannot be read: %w", ErrDamaged, err)
	}
	if head.planJSON, err = r.field("plan"); err != nil {
		return head, err
	}
	for line := ""; line != traceBegins; {
		if line, err = r.next(); err != nil || !strings.HasPrefix(line, mark) {
			return head, fmt.Errorf("%w: its head has no end", ErrDamaged)
		}
	}
	return head, nil
}

// rest reads the trace and the end.
func (r *traceReader) rest(head *TraceHead) error {
	sum := sha256.New()
	lines := int64(0)
	for {
		line, err := r.next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends after %d lines without an end: it was cut off, or the run is still going on", ErrDamaged, lines)
		}
		if err != nil {
			return err
		}
		if line == traceEnds {
			break
		}
		lines++
		sum.Write([]byte(line))
	}
	verdict, err1 := r.field("verdict")
	counted, err2 := r.field("lines")
	saved, err3 := r.field("sum")
	hash, err4 := r.field("hash")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	if counted != strconv.FormatInt(lines, 10) || saved != formatSum(sum) {
		return fmt.Errorf("%w: its lines are not those that were written (%d lines with checksum %s, and it had %.20s with %.20s)", ErrDamaged, lines, formatSum(sum), counted, saved)
	}
	if _, err := ParseHash(hash); err != nil && hash != unknownHash {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	head.Verdict, head.Lines, head.Hash = sim.Verdict(verdict), lines, hash
	return nil
}

// field reads the line "# name value".
func (r *traceReader) field(name string) (string, error) {
	line, err := r.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	value, ok := strings.CutPrefix(line, mark+name+" ")
	if !ok {
		return "", fmt.Errorf("%w: its line %q is missing", ErrDamaged, name)
	}
	return strings.TrimSuffix(value, "\n"), nil
}

// Replayed is what a second run of a trace file's run showed beside the first.
type Replayed struct {
	Saved  TraceHead
	Report Report
	Hash   string // of this run
	Same   bool
	// DifferentLine is the number, from 1, of the first line of the trace that is different; 0: none. "": the trace has no such line.
	DifferentLine       int64
	SavedLine, ThisLine string
}

// Replay runs a trace file's run again and compares the traces line by line.
func Replay(ctx context.Context, file io.ReadSeeker, version string, simulator Simulator, runner Runner) (*Replayed, error) {
	head, err := ReadTrace(file, version)
	if err != nil {
		return nil, err
	}
	whole := simulator.Plan(head.Spec.whole())
	if err := head.Spec.CheckAgainst(whole); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOtherVersion, err)
	}
	if asJSON(simulator.Plan(head.Spec)) != head.planJSON {
		return nil, fmt.Errorf("%w: it says version %s, but this program draws another plan from seed %d, so the simulator was changed in between. "+
			"Build the program as it was, or write a new trace: %s --trace FILE", ErrOtherVersion, head.Version, head.Spec.Seed, head.Spec.Command())
	}
	if _, err := file.Seek(head.body, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	compare := &comparer{saved: &traceReader{lines: bufio.NewReader(file)}}
	report, err := runner.Run(ctx, head.Spec, compare)
	if err != nil {
		return nil, err
	}
	return compare.result(head, report)
}

// comparer takes a trace and compares it with a saved one.
type comparer struct {
	saved *traceReader
	part  []byte // of a line whose end has not come yet
	lines int64

	different       int64 // number of the first line that is; 0: none yet
	savedLine, line string
}

func (c *comparer) Write(piece []byte) (int, error) {
	if c.different != 0 {
		return len(piece), nil
	}
	c.part = append(c.part, piece...)
	for c.different == 0 {
		line, rest, ok := strings.Cut(string(c.part), "\n")
		if !ok {
			break
		}
		c.part = []byte(rest)
		if err := c.compare(line); err != nil {
			return 0, err
		}
	}
	return len(piece), nil
}

func (c *comparer) compare(line string) error {
	saved, err := c.saved.next()
	if err != nil {
		return fmt.Errorf("read the saved trace: %w", err)
	}
	c.lines++
	if saved != line+"\n" {
		c.different, c.savedLine, c.line = c.lines, savedText(saved), line
	}
	return nil
}

// savedText is a line as people should see it; "" for the end of the trace.
func savedText(line string) string {
	if line == traceEnds {
		return ""
	}
	return strings.TrimSuffix(line, "\n")
}

func (c *comparer) result(head TraceHead, report Report) (*Replayed, error) {
	if len(c.part) > 0 && c.different == 0 {
		if err := c.compare(string(c.part)); err != nil {
			return nil, err
		}
	}
	if c.different == 0 && c.lines < head.Lines {
		saved, err := c.saved.next()
		if err != nil {
			return nil, fmt.Errorf("read the saved trace: %w", err)
		}
		c.different, c.savedLine = c.lines+1, savedText(saved)
	}
	hash := unknownHash
	if report.Result.Verdict != "" {
		hash = FormatHash(report.Result.Hash)
	}
	return &Replayed{
		Saved: head, Report: report, Hash: hash,
		Same:          c.different == 0 && hash == head.Hash && report.Verdict == head.Verdict,
		DifferentLine: c.different, SavedLine: c.savedLine, ThisLine: c.line,
	}, nil
}
