//go:build !unix

package trail

import (
	"errors"
	"io"
)

func openSyslog() (io.WriteCloser, error) {
	return nil, errors.New("this system has no syslog; give a file, or - for standard output")
}
