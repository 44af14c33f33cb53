// Package etcdsnap is the format of etcd's snapshots: what `etcdctl snapshot save` gets and `etcdutl snapshot restore` takes, of etcd 3.7. A Writer makes
// one of a stream of versions, a Reader gives the same stream back.
//
// A snapshot is a file of bbolt, a B+tree in pages, with the SHA-256 of the file behind it. In it are etcd's buckets (server/storage/schema of etcd):
//
//	bucket     key                                    value
//	key        revision (8), '_', position (8)        mvccpb.KeyValue
//	key        the same, then 't'                     mvccpb.KeyValue with the key alone: a deletion
//	lease      lease (8)                              leasepb.Lease
//	meta       "scheduledCompactRev"                  revision (8), '_', 0 (8): where history is compacted, or is about to be
//	meta       "finishedCompactRev"                   the same: where it is
//	meta       "storageVersion"                       "3.7.0"
//	meta       "consistent_index", "term"             the last entry applied; a restore sets them anew
//	auth       "authEnabled"                          1: users have to log in
//
// and members, members_removed, cluster, alarm, authUsers and authRoles, which are empty in what is written here. Numbers are big-endian, so that the versions
// are in the order of the history. The greatest revision is that of the last version, or the compacted one if that is greater.
//
// The writer uses bbolt. The reader does not: it reads the pages itself, through an io.ReaderAt. bbolt maps the file into memory and trusts it, so a damaged
// one ends the process; and a snapshot that has no hash, or a wrong one, may be all that somebody has left.
package etcdsnap
