package target

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNotFound: there is no object of that name.
	ErrNotFound = errors.New("there is no such object")
	// ErrExists: there is an object of that name already.
	ErrExists = errors.New("there is an object of that name already")
	// ErrName: the name is none that an object may have.
	ErrName = errors.New("this is no name of an object")
	// ErrTooLarge: the object, or what is to be read of it, has more than MaxObjectBytes.
	ErrTooLarge = errors.New("the object is too large")
	// ErrURL: the URL names no target that this program knows.
	ErrURL = errors.New("this names no place for backups")
	// ErrUnavailable: the target did not answer, or not completely, or said that it cannot just now. Whether a write took effect is not known.
	ErrUnavailable = errors.New("the target is not available")
)

// failed says which operation on which object failed, and where.
func failed(operation, name, place string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("backup target: %s %q at %s: %w", operation, name, place, err)
}

// checkWrite tells what is wrong with a write before it is tried.
func checkWrite(ctx context.Context, name string, data []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(data) > MaxObjectBytes {
		return fmt.Errorf("%w: %d bytes of at most %d", ErrTooLarge, len(data), MaxObjectBytes)
	}
	return context.Cause(ctx)
}

// checkRead tells what is wrong with a read before it is tried.
func checkRead(ctx context.Context, name string, p []byte, offset int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(p) > MaxObjectBytes {
		return fmt.Errorf("%w: a read of %d bytes of at most %d", ErrTooLarge, len(p), MaxObjectBytes)
	}
	if offset < 0 {
		return fmt.Errorf("the offset %d is negative", offset)
	}
	return context.Cause(ctx)
}
