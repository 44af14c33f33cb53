// Package autocompact decides when history is compacted by itself, and at which revision: as etcd 3.7 does.
//
// It is a core. Whoever wakes it tells the time, the newest revision that is known, and whether this node may compact now; it says at which
// revision, and is told what came of that.
//
// Every node keeps a core, and every core takes samples of the revision, whether its node may compact or not. So a node that comes to lead the system shard
// knows what the revision was a retention ago, and goes on at once: nothing has to be replicated for that. What a node knows of the revision may be old, if
// it was cut off, and is never above what the revision was; so what is compacted is never younger than the retention. A process that has just started has no
// samples, and waits for a whole retention, as in etcd. Two nodes that both take themselves for the leader do no harm: compacting at the lower revision
// of the two is refused.
package autocompact
