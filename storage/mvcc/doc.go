// Package mvcc keeps every version of every key by revision: reads at any revision
// since the last compaction, history by revision interval, and compaction whose cost
// follows the change and not the data.
package mvcc
