package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Files is where the memory engine puts exported files.
type Files interface {
	Create(name string, content []byte) error
	Read(name string) ([]byte, error)
	Remove(name string) error
}

// MemoryFiles are files in memory. They are for one goroutine.
type MemoryFiles struct{ content map[string][]byte }

// NewMemoryFiles returns an empty set of files.
func NewMemoryFiles() *MemoryFiles { return &MemoryFiles{content: map[string][]byte{}} }

var errNoFile = errors.New("no such file")

// Create implements Files. An existing file is replaced.
func (f *MemoryFiles) Create(name string, content []byte) error {
	f.content[name] = bytes.Clone(content)
	return nil
}

// Read implements Files.
func (f *MemoryFiles) Read(name string) ([]byte, error) {
	content, found := f.content[name]
	if !found {
		return nil, fmt.Errorf("%s: %w", name, errNoFile)
	}
	return content, nil
}

// Remove implements Files.
func (f *MemoryFiles) Remove(name string) error {
	if _, found := f.content[name]; !found {
		return fmt.Errorf("%s: %w", name, errNoFile)
	}
	delete(f.content, name)
	return nil
}

// An exported file is: magic, then per item uvarint key length, uvarint value
// length, key, value; at the end CRC-32C of everything before, big endian.
const memoryFileMagic = "QUOMEM1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type memoryExport struct {
	ctx      context.Context
	files    Files
	dir      string
	limit    int
	progress func(int64)

	names   []string
	buffer  []byte
	written int64
}

func (w *memoryExport) writeAll(s *memorySnapshot, spans []Span) error {
	for _, span := range spans {
		if err := w.writeSpan(s, span); err != nil {
			return fmt.Errorf("storage: export to %s: %w", w.dir, err)
		}
	}
	return w.finish()
}

func (w *memoryExport) writeSpan(s *memorySnapshot, span Span) error {
	it := s.NewIterator(span.Lower, span.Upper)
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := w.add(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Error()
}

func (w *memoryExport) add(key, value []byte) error {
	if len(w.buffer) == 0 {
		w.buffer = append(w.buffer, memoryFileMagic...)
	}
	w.buffer = binary.AppendUvarint(w.buffer, uint64(len(key)))
	w.buffer = binary.AppendUvarint(w.buffer, uint64(len(value)))
	w.buffer = append(w.buffer, key...)
	w.buffer = append(w.buffer, value...)
	if len(w.buffer) >= w.limit {
		return w.finish()
	}
	return nil
}

func (w *memoryExport) finish() error {
	if len(w.buffer) == 0 {
		return nil
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	content := binary.BigEndian.AppendUint32(w.buffer, crc32.Checksum(w.buffer, castagnoli))
	name := fmt.Sprintf("%s/%06d.kv", w.dir, len(w.names)+1)
	if err := w.files.Create(name, content); err != nil {
		return err
	}
	w.names = append(w.names, name)
	w.written += int64(len(content))
	w.buffer = w.buffer[:0]
	if w.progress != nil {
		w.progress(w.written)
	}
	return nil
}

// removeAll leaves nothing behind that looks like an export. An error here would hide the first one.
func (w *memoryExport) removeAll() {
	for _, name := range w.names {
		_ = w.files.Remove(name)
	}
}

func readMemoryFile(files Files, name string, spans []Span) ([]change, error) {
	content, err := files.Read(name)
	if err != nil {
		return nil, fmt.Errorf("storage: ingest: %w", err)
	}
	changes, err := decodeMemoryFile(content)
	if err != nil {
		return nil, fmt.Errorf("storage: ingest: %s: %w; transfer it again", name, err)
	}
	for _, c := range changes {
		if !inSpans(c.key, spans) {
			return nil, fmt.Errorf("storage: ingest: %s holds key %x, which is outside of the spans to replace", name, c.key)
		}
	}
	return changes, nil
}

func inSpans(key []byte, spans []Span) bool {
	for _, s := range spans {
		if bytes.Compare(key, s.Lower) >= 0 && bytes.Compare(key, s.Upper) < 0 {
			return true
		}
	}
	return false
}

// decodeMemoryFile returns the items as changes that alias content.
func decodeMemoryFile(content []byte) ([]change, error) {
	if len(content) < len(memoryFileMagic)+crc32.Size || string(content[:len(memoryFileMagic)]) != memoryFileMagic {
		return nil, fmt.Errorf("%w: not an exported file", ErrCorrupt)
	}
	body := content[:len(content)-crc32.Size]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(content[len(body):]) {
		return nil, fmt.Errorf("%w: the checksum does not match", ErrCorrupt)
	}
	var changes []change
	for rest := body[len(memoryFileMagic):]; len(rest) > 0; {
		keyLen, n := binary.Uvarint(rest)
		valueLen, m := binary.Uvarint(rest[max(n, 0):])
		if n <= 0 || m <= 0 {
			return nil, fmt.Errorf("%w: a length is cut off", ErrCorrupt)
		}
		rest = rest[n+m:]
		if keyLen > uint64(len(rest)) || valueLen > uint64(len(rest))-keyLen {
			return nil, fmt.Errorf("%w: an item is cut off", ErrCorrupt)
		}
		changes = append(changes, change{changeSet, rest[:keyLen:keyLen], rest[keyLen : keyLen+valueLen : keyLen+valueLen]})
		rest = rest[keyLen+valueLen:]
	}
	return changes, nil
}
