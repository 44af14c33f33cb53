// Package memory has a target in memory, for tests and the simulator: it starts no goroutine, reads no clock and draws nothing at random. What goes
// wrong is told by the test.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/quoratedb/quorate/backup/target"
)

// Method is a method of target.Target.
type Method string

// The methods that a test can interfere with.
const (
	Put    Method = "put"
	PutNew Method = "put new"
	ReadAt Method = "read"
	Size   Method = "size"
	List   Method = "list"
	Delete Method = "delete"
)

// Call is one call of a method. Of List, Name is the prefix.
type Call struct {
	Method Method
	Name   string
}

// Fault is what goes wrong with a call. The zero Fault is none.
type Fault struct {
	// Err is what the caller gets instead of the result; target.ErrUnavailable, or what wraps it, for what may succeed when it is tried again.
	Err error
	// Lost says that the call takes effect although the caller gets Err: it is the answer that is lost. A write of this kind may be lost, too: see Crash.
	Lost bool
	// Part, if it is not 0, is how many bytes ReadAt fills in, or how many objects List gives, before the caller gets Err.
	Part int
}

// ErrClosed: the target was closed.
var ErrClosed = errors.New("the target in memory is closed")

// Target is a target in memory. Its methods try once: see target.Patiently.
type Target struct {
	// Intercept, if it is set, is asked before each call what goes wrong with it. It may wait, and use the target.
	Intercept func(ctx context.Context, call Call) Fault

	mutex   sync.Mutex
	objects map[string][]byte
	unsure  map[string]before // writes that did not return without an error, by name: what was there before the first of them
	closed  bool
}

// before is what a name had.
type before struct {
	data  []byte
	there bool
}

// New makes an empty target.
func New() *Target { return &Target{objects: make(map[string][]byte), unsure: make(map[string]before)} }

// Crash undoes the writes and deletions that did not return without an error (Fault.Lost), except those that survives, asked for each name in order, says
// yes to. With nil all are undone.
func (t *Target) Crash(survives func(name string) bool) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, name := range slices.Sorted(maps.Keys(t.unsure)) {
		old := t.unsure[name]
		switch {
		case survives != nil && survives(name):
		case old.there:
			t.objects[name] = old.data
		default:
			delete(t.objects, name)
		}
	}
	clear(t.unsure)
}

// Damage replaces the bytes of an object by what edit makes of a copy of them. It reports whether there is such an object.
func (t *Target) Damage(name string, edit func(data []byte) []byte) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	data, ok := t.objects[name]
	if ok {
		t.objects[name] = edit(slices.Clone(data))
	}
	return ok
}

// String implements target.Target.
func (t *Target) String() string { return "memory:" }

// Close implements target.Target. Calls that come later fail.
func (t *Target) Close() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.closed = true
	return nil
}

// Put implements target.Target.
func (t *Target) Put(ctx context.Context, name string, data []byte) error {
	return t.change(ctx, Call{Put, name}, len(data), func() error {
		t.objects[name] = slices.Clone(data)
		return nil
	})
}

// PutNew implements target.Target.
func (t *Target) PutNew(ctx context.Context, name string, data []byte) error {
	return t.change(ctx, Call{PutNew, name}, len(data), func() error {
		if _, there := t.objects[name]; there {
			return target.ErrExists
		}
		t.objects[name] = slices.Clone(data)
		return nil
	})
}

// Delete implements target.Target.
func (t *Target) Delete(ctx context.Context, name string) error {
	return t.change(ctx, Call{Delete, name}, 0, func() error {
		delete(t.objects, name)
		return nil
	})
}

// change does what changes an object, or what the fault makes of it.
func (t *Target) change(ctx context.Context, call Call, size int, effect func() error) error {
	if size > target.MaxObjectBytes {
		return call.failed(fmt.Errorf("%w: %d bytes of at most %d", target.ErrTooLarge, size, target.MaxObjectBytes))
	}
	fault, err := t.begin(ctx, call)
	if err != nil {
		return call.failed(err)
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	switch {
	case t.closed:
		return call.failed(ErrClosed)
	case fault.Err != nil && !fault.Lost:
		return call.failed(fault.Err)
	}
	old, there := t.objects[call.Name]
	if err := effect(); err != nil || fault.Err == nil {
		if err == nil {
			delete(t.unsure, call.Name)
		}
		return call.failed(err)
	}
	if _, known := t.unsure[call.Name]; !known {
		t.unsure[call.Name] = before{old, there}
	}
	return call.failed(fault.Err)
}

// begin checks a call and asks what goes wrong with it.
func (t *Target) begin(ctx context.Context, call Call) (Fault, error) {
	check := target.CheckName
	if call.Method == List {
		check = target.CheckPrefix
	}
	if err := check(call.Name); err != nil {
		return Fault{}, err
	}
	var fault Fault
	if t.Intercept != nil {
		fault = t.Intercept(ctx, call)
	}
	return fault, context.Cause(ctx)
}

// find begins a call and gives the object of its name.
func (t *Target) find(ctx context.Context, call Call) ([]byte, Fault, error) {
	fault, err := t.begin(ctx, call)
	if err != nil {
		return nil, fault, err
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	data, there := t.objects[call.Name]
	switch {
	case t.closed:
		return nil, fault, ErrClosed
	case fault.Err != nil && fault.Part == 0:
		return nil, fault, fault.Err
	case !there:
		return nil, fault, target.ErrNotFound
	}
	return data, fault, nil
}

// ReadAt implements target.Target.
func (t *Target) ReadAt(ctx context.Context, name string, p []byte, offset int64) (int, error) {
	call := Call{ReadAt, name}
	if len(p) > target.MaxObjectBytes {
		return 0, call.failed(fmt.Errorf("%w: a read of %d bytes of at most %d", target.ErrTooLarge, len(p), target.MaxObjectBytes))
	}
	if offset < 0 {
		return 0, call.failed(fmt.Errorf("the offset %d is negative", offset))
	}
	data, fault, err := t.find(ctx, call)
	if err != nil {
		return 0, call.failed(err)
	}
	if fault.Err != nil {
		p = p[:min(len(p), fault.Part)]
	}
	n, _ := bytes.NewReader(data).ReadAt(p, offset)
	if err := call.failed(fault.Err); err != nil {
		return n, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Size implements target.Target.
func (t *Target) Size(ctx context.Context, name string) (int64, error) {
	call := Call{Size, name}
	data, _, err := t.find(ctx, call)
	return int64(len(data)), call.failed(err)
}

// List implements target.Target.
func (t *Target) List(ctx context.Context, prefix string, fn func(name string, size int64) error) error {
	call := Call{List, prefix}
	fault, err := t.begin(ctx, call)
	if err != nil {
		return call.failed(err)
	}
	names, sizes, err := t.list(prefix)
	if err != nil {
		return call.failed(err)
	}
	for i, name := range names {
		if fault.Err != nil && i >= fault.Part {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return call.failed(err)
		}
		if err := fn(name, sizes[i]); err != nil {
			return err
		}
	}
	return call.failed(fault.Err)
}

func (t *Target) list(prefix string) (names []string, sizes []int64, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.closed {
		return nil, nil, ErrClosed
	}
	for _, name := range slices.Sorted(maps.Keys(t.objects)) {
		if strings.HasPrefix(name, prefix) {
			names, sizes = append(names, name), append(sizes, int64(len(t.objects[name])))
		}
	}
	return names, sizes, nil
}

func (c Call) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("backup target in memory: %s %q: %w", c.Method, c.Name, err)
}
