package h2

import "errors"

var (
	errClosed = errors.New("h2: the connection is closed")
	errPieces = errors.New("h2: the pieces of a message are not what was announced")
)
