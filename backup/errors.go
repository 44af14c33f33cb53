package backup

import (
	"errors"
	"fmt"
)

// What is wrong with a target or a backup. Errors of this package wrap one of them, or what the target said.
var (
	// ErrDamaged: bytes are not as they were written, or missing.
	ErrDamaged = errors.New("damaged")
	// ErrNewerFormat: a newer version of Quorate has written it.
	ErrNewerFormat = errors.New("written in a newer format")
	// ErrForeign: the target has backups of another cluster, or something else.
	ErrForeign = errors.New("foreign target")
	// ErrNotFound: there is no such backup.
	ErrNotFound = errors.New("no such backup")
	// ErrNotCovered: no chain of backups has the revision or the time.
	ErrNotCovered = errors.New("not covered")
	// ErrMissingLink: a backup needs another one that is not there.
	ErrMissingLink = errors.New("missing link")
	// ErrAbandoned: a backup that was being written has been removed meanwhile, or some of its files were.
	ErrAbandoned = errors.New("removed meanwhile")
	// ErrKey: a backup is encrypted, and no identity opens it, or none was given.
	ErrKey = errors.New("no identity opens it")
)

func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
