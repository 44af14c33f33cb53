// Package backup has the format of backups, and what is done with them that needs no cluster: writing one from a stream of versions, reading a chain of
// them as such a stream, looking whether they are whole, and removing what is not needed any more. docs/backup-format.md describes the objects.
//
// A backup is of one revision over all shards. A full one has what the store has there: the history since the store was compacted, and what was live before
// that. An incremental one has the versions since another backup, its parent. A backup and its parents, down to a full one, are a chain; whatever revision
// its history covers can be restored.
//
// Who writes gives each shard's versions in the order of the shard's history. Data files are of one shard each, so shards are written side by side. Who
// reads gets one stream in the order of the whole history, and may divide that into shards as it likes.
//
// A manifest says what a backup consists of. It is written last, so a backup without one does not exist; what has been written of it is used by whoever
// resumes it.
package backup
