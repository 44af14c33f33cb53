//go:build linux && cgo

package lsm

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static void map_large(void) { mallopt(M_MMAP_THRESHOLD, 1 << 20); }
#else
static void map_large(void) {}
#endif
*/
import "C"

// mapLarge has memory from 1 MiB on given back to the operating system when it is freed. Pebble takes its memtables from C's malloc. Once one of 16 MiB was
// freed, glibc by itself takes the next ones from heaps of its own, one for each thread, and keeps them there: 120 MiB of a member with a million keys.
func mapLarge() { C.map_large() }
