//go:build !unix

package freeport

import "os"

// lock does nothing: Go's standard library has no lock here that ends with the process. Ports are drawn at random, so
// that two programs hardly collide.
func lock(*os.File) error { return nil }
