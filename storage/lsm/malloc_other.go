//go:build !linux || !cgo

package lsm

func mapLarge() {}
