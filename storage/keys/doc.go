// Package keys says what every key of a node's state engine is. Nobody else puts one together or takes one apart.
//
// A key begins with the number of a lineage, four bytes, and the kind of the row, one byte; numbers are big-endian, so that rows of one
// kind lie in their natural order. A lineage is what one shard began to write, and has the shard's number. The node's own rows
// are lineage 0, which no shard has.
//
//	lineage  kind  then                          row
//	0        'i'   group (8)                     which replica of the group is on this disk
//
//	shard    's'                                 state of the shard at its last flush
//	shard    'c'                                 revision that history was compacted at
//	shard    'p'                                 how far deleting compacted rows has come
//	shard    'e'                                 the last entry that there were rows of when the state was last shipped
//	shard    'l'   lease (8)                     a lease; in other shards than the system shard, that it is registered there
//	shard    'n'   node (8)                      a node of the cluster; in the system shard
//	shard    't'   anchor (8), term (8), number (8)  what is known of a transaction over several shards
//	shard    'd'   revision (8)                  when the store had the revision; in the system shard
//	shard    'u'   class (1), name               what there is to know about users and roles; in the system shard
//	shard    'f'   anchor (8)                    which of that anchor's transactions are finished
//
//	lineage  'k'   key                           where the newest version of the key is, and its metadata
//	lineage  'v'   key                           the value of that version, if it is small
//	lineage  'r'   revision (8), position (4)    a version: what changed at the revision, in the order of the changes
//	lineage  'r'   the same, then 'v'            the value of that version, if it was small, and is not the newest of its key any more
//	lineage  'a'   lease (8), key                a key that the lease holds
//
// What a shard writes all has its own number, so the rows of a shard that was never split are one interval: it is exported, replaced and dropped as
// that. The rows of the last block carry a lineage, and not the shard, for the sake of shards that are split: the child goes on where
// its parent's rows are (Rows), and none moves.
package keys
