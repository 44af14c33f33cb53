// Package mvcc keeps every version of every key by revision: reads at any revision
// since the last compaction, history by revision interval, and compaction whose cost
// follows the change and not the data.
//
// A value is written at once in a row by revision. Where the newest version of a key is
// stays in memory until a flush writes it in key order, small values with it. DESIGN.md tells how reads, counts,
// crashes and compaction fit together.
//
// The package is a core: one writer, no goroutine, no lock. The caller of a Store holds a
// readers-writer lock as each method says; a View needs none.
package mvcc
