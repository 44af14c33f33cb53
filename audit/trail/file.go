package trail

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

func open(o Options) (io.WriteCloser, error) {
	switch o.To {
	case "-":
		return nopCloser{os.Stdout}, nil
	case "syslog":
		return openSyslog()
	}
	return openFile(o.To, o.MaxFileBytes, o.MaxFiles)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// file is a log in files: path is written, path.1 was before it, and so on. What is older than the last is deleted.
type file struct {
	path     string
	maxBytes int64
	maxFiles int

	current *os.File // nil: the next write opens it
	size    int64
}

func openFile(path string, maxBytes int64, maxFiles int) (*file, error) {
	f := &file{path: path, maxBytes: maxBytes, maxFiles: maxFiles}
	return f, f.open()
}

func (f *file) open() error {
	current, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := current.Stat()
	if err != nil {
		return errors.Join(err, current.Close())
	}
	f.current, f.size = current, info.Size()
	return nil
}

// Write implements io.Writer. A line is in one file.
func (f *file) Write(line []byte) (int, error) {
	if f.current != nil && f.size > 0 && f.size+int64(len(line)) > f.maxBytes {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	if f.current == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	n, err := f.current.Write(line)
	f.size += int64(n)
	return n, err
}

// rotate renames the files, as many as it takes to have the first name free: the others stay, so that what fails half way goes on with the next write.
func (f *file) rotate() error {
	free := 1
	for free < f.maxFiles-1 {
		if _, err := os.Lstat(f.name(free)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		free++
	}
	for i := min(free, f.maxFiles-1); i >= 1; i-- {
		if err := os.Rename(f.name(i-1), f.name(i)); err != nil {
			return fmt.Errorf("rotate the audit log: %w", err)
		}
	}
	if f.maxFiles == 1 {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate the audit log: %w", err)
		}
	}
	err := f.current.Close()
	f.current = nil
	return err
}

func (f *file) name(i int) string {
	if i == 0 {
		return f.path
	}
	return fmt.Sprintf("%s.%d", f.path, i)
}

// Close implements io.Closer. What was written is on the disk then.
func (f *file) Close() error {
	if f.current == nil {
		return nil
	}
	err := f.current.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // it is a pipe or a device
	}
	return errors.Join(err, f.current.Close())
}
