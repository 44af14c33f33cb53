package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/quoratedb/quorate/driver"
)

// files are a node's staged snapshots, in memory: driver.Files and storage.Files in one. A crash loses them; a real node
// removes them when it starts.
type files struct {
	content map[string][]byte
	last    int // number of the last directory
}

func newFiles() *files { return &files{content: map[string][]byte{}} }

// stagedFiles is what package driver sees of them.
type stagedFiles struct{ *files }

func (f *files) TempDir(parent, prefix string) (string, error) {
	f.last++
	return fmt.Sprintf("%s/%s%d", parent, prefix, f.last), nil
}

func (f stagedFiles) Create(name string) (driver.SyncWriter, error) {
	return &fileWriter{files: f.files, name: name}, nil
}

func (f stagedFiles) Open(name string) (io.ReadCloser, int64, error) {
	content, err := f.Read(name)
	return io.NopCloser(bytes.NewReader(content)), int64(len(content)), err
}

func (f *files) RemoveAll(dir string) error {
	for name := range f.content { // the order does not matter
		if strings.HasPrefix(name, dir+"/") {
			delete(f.content, name)
		}
	}
	return nil
}

// fileWriter is a file that is being written; it is there when it is closed.
type fileWriter struct {
	bytes.Buffer
	files *files
	name  string
}

func (w *fileWriter) Sync() error { return nil }

func (w *fileWriter) Close() error {
	w.files.content[w.name] = bytes.Clone(w.Bytes())
	return nil
}

// engineFiles is what the engine in memory sees of them.
type engineFiles struct{ *files }

func (f engineFiles) Create(name string, content []byte) error {
	f.content[name] = bytes.Clone(content)
	return nil
}

func (f *files) Read(name string) ([]byte, error) {
	content, found := f.content[name]
	if !found {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return content, nil
}

func (f *files) Remove(name string) error {
	if _, found := f.content[name]; !found {
		return fmt.Errorf("%s: %w", name, errNoFile)
	}
	delete(f.content, name)
	return nil
}

var errNoFile = errors.New("no such file")
