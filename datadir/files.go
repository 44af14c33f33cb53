package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeIdentity makes the identity durable before it becomes visible: a crash
// leaves either no identity file or a whole one.
func writeIdentity(directory string, identity Identity) error {
	content, err := encodeIdentity(identity)
	if err != nil {
		return fmt.Errorf("encode %s: %w", identityFile, err)
	}
	temporary := filepath.Join(directory, identityNewFile)
	if err := writeSynced(temporary, content); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	if err := os.Rename(temporary, filepath.Join(directory, identityFile)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	return SyncDirectory(directory)
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// SyncDirectory makes the entries of a directory durable.
func SyncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s to sync it: %w", path, err)
	}
	if err := errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// readBounded reads a file; one that is longer than the limit is damaged.
func readBounded(path string, limit int64, damaged error) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", damaged, limit)
	}
	return content, nil
}
