package target_test

import (
	"path/filepath"
	"testing"

	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/backup/target/targettest"
)

func open(t *testing.T, address string) target.Target {
	t.Helper()
	at, err := target.Open(t.Context(), address, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestMemory(t *testing.T) {
	targettest.Contract(t, func(*testing.T) target.Target { return memory.New() })
}

func TestPatientMemory(t *testing.T) {
	targettest.Contract(t, func(*testing.T) target.Target { return target.Patiently(memory.New(), target.Options{}) })
}

func TestDirectory(t *testing.T) {
	targettest.Contract(t, func(t *testing.T) target.Target {
		return open(t, "file://"+filepath.Join(t.TempDir(), "made", "by the first"))
	})
}
