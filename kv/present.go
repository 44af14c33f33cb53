package kv

// Present is how far a store of several shards had come at one moment.
type Present struct {
	// Revision is the last one that was issued to anybody.
	Revision Revision
	// Compacted is up to where history was compacted by then; reads below it are refused.
	Compacted Revision
	// Shards says how far the shards that were asked for had come, in the order of the question.
	Shards []ShardProgress
}

// Bounds are what revisions must keep to when they are issued, for what was decided without them to hold. 0: whatever it is.
type Bounds struct {
	// Most is the highest that the first of them may be.
	Most Revision
	// Compacted is up to where history may be compacted at most: something was read above it.
	Compacted Revision
}

// Hold tells whether revisions from first on may be issued while history is compacted up to compacted.
func (b Bounds) Hold(first, compacted Revision) bool {
	return (b.Most == 0 || first <= b.Most) && (b.Compacted == 0 || compacted <= b.Compacted)
}

// ShardProgress is the last revision that was issued to a shard.
type ShardProgress struct {
	Last Revision
	// Clean: everything that was issued to the shard at or below Last takes effect, or never will, and nothing else was. A replica of the shard that has come to Last has all
	// that the shard will ever have at or below Present.Revision. Otherwise only its leader can tell.
	Clean bool
}
