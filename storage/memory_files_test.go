package storage

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

func FuzzDecodeMemoryFile(f *testing.F) {
	f.Add([]byte{1, 1, 'k', 'v'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, items []byte) {
		content := append([]byte(memoryFileMagic), items...)
		content = binary.BigEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))
		changes, err := decodeMemoryFile(content)
		size := 0
		for _, c := range changes {
			size += len(c.key) + len(c.value)
		}
		if err == nil && size > len(items) {
			t.Fatalf("%d bytes decoded to %d", len(items), size)
		}
		_, _ = decodeMemoryFile(items)
	})
}
