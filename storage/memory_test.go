package storage_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

func memoryWorld(m *storage.Memory, files storage.Files) storagetest.EngineWorld {
	return storagetest.EngineWorld{
		Engine: m,
		Dir:    "/export",
		Crash: func(t *testing.T, random *rand.Rand) storagetest.EngineWorld {
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
			return memoryWorld(m.Crash(random), files)
		},
		Other: func(*testing.T) storagetest.EngineWorld {
			return memoryWorld(storage.NewMemory(storage.MemoryOptions{Files: files, ExportFileBytes: 500}), files)
		},
	}
}

func TestMemoryEngine(t *testing.T) {
	storagetest.RunEngine(t, func(*testing.T) storagetest.EngineWorld {
		files := storage.NewMemoryFiles()
		return memoryWorld(storage.NewMemory(storage.MemoryOptions{Files: files, ExportFileBytes: 500}), files)
	})
}

func memoryLogWorld(l *storage.MemoryLog) storagetest.LogWorld {
	return storagetest.LogWorld{Log: l, Crash: func(t *testing.T, random *rand.Rand) storagetest.LogWorld {
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
		return memoryLogWorld(l.Crash(random))
	}}
}

func TestMemoryLog(t *testing.T) {
	storagetest.RunLog(t, func(*testing.T) storagetest.LogWorld { return memoryLogWorld(storage.NewMemoryLog()) })
}

func put(t *testing.T, m *storage.Memory, key, value string) {
	t.Helper()
	b := m.NewBatch()
	b.Set([]byte(key), []byte(value))
	if err := m.Apply(b); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryManualFlush(t *testing.T) {
	m := storage.NewMemory(storage.MemoryOptions{ManualFlush: true})
	var order []int
	for i := range 3 {
		put(t, m, "key", string(rune('a'+i)))
		m.Flush(func(err error) {
			if err != nil {
				t.Errorf("flush %d: %v", i, err)
			}
			order = append(order, i)
		})
	}
	if m.PendingFlushes() != 3 || len(order) != 0 {
		t.Fatalf("%d pending, %v done before CompleteFlush", m.PendingFlushes(), order)
	}
	m.CompleteFlush()
	m.CompleteFlush()
	if len(order) != 2 || order[0] != 0 || order[1] != 1 {
		t.Fatalf("flushes completed: %v", order)
	}
	m = m.Crash(nil)
	if value, _, _ := m.Get([]byte("key"), nil); string(value) != "b" {
		t.Fatalf("after the crash: %q, want what the second flush covered", value)
	}
	if m.CompleteFlush() {
		t.Fatal("a flush survived the crash")
	}
}

func TestMemoryIngestRefusesCorruptFile(t *testing.T) {
	files := storage.NewMemoryFiles()
	m := storage.NewMemory(storage.MemoryOptions{Files: files})
	put(t, m, "key", "value")
	spans := []storage.Span{{Lower: []byte("a"), Upper: []byte("z")}}
	s := m.NewSnapshot()
	names, err := m.Export(t.Context(), s, spans, "/dir", nil)
	if err != nil || len(names) != 1 {
		t.Fatalf("export: %q, %v", names, err)
	}
	content, _ := files.Read(names[0])
	for i := range content {
		damaged := append([]byte(nil), content...)
		damaged[i] ^= 0x10
		_ = files.Create(names[0], damaged)
		if err := m.Ingest(t.Context(), names, spans); !errors.Is(err, storage.ErrCorrupt) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

// TestMemoryReadersBesideWriter is for the race detector: reads need no lock.
func TestMemoryReadersBesideWriter(t *testing.T) {
	m := storage.NewMemory(storage.MemoryOptions{})
	put(t, m, "key", "0")
	done := make(chan error)
	go func() {
		var err error
		for range 500 {
			s := m.NewSnapshot()
			first, _, _ := s.Get([]byte("key"), nil)
			it := s.NewIterator(nil, nil)
			if !it.First() || string(it.Value()) != string(first) {
				err = errors.New("a snapshot changed")
			}
			_ = it.Close()
			_ = s.Close()
		}
		done <- err
	}()
	for i := range 500 {
		put(t, m, "key", string(rune('a'+i%26)))
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
