package sim

// observeBound: whoever a lease for reads rests on holds still for its holder. Two leaders at one time would show that only if enough of those who
// do not were asked for their votes meanwhile.
//
// A second process of a node speaks in its name, and a change of membership lets one replica of a node take the place of another; then nothing is
// demanded.
func (w *world) observeBound() {
	if w.double != nil || w.doubleEnded != 0 {
		return
	}
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		for _, id := range n.replica.Backers() {
			other := w.nodes[id-1]
			if other.up && !other.hurt && n.sameMembers(other) && !other.replica.HoldsStill(n.id) {
				w.fail(Correctness, "the lease of node %d rests on node %d, which does not hold still for it:%s", n.id, other.id, w.describe())
			}
		}
	}
}

// sameMembers tells whether the two know of the same membership.
func (n *node) sameMembers(other *node) bool {
	own, others := n.core.Status().Config, other.core.Status().Config
	return !own.Joint() && own.Equal(others) && own.Equal(n.machine.Config()) && own.Equal(other.machine.Config())
}
