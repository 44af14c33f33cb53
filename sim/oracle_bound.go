package sim

// observeBound: whoever a lease for reads rests on holds still for its holder. Two leaders at one time would show that only if enough of those who
// do not were asked for their votes meanwhile.
//
// A second process of a node speaks in its name, and a change of membership lets one replica of a node take the place of another; then nothing is
// demanded.
func (g *group) observeBound() {
	w := g.w
	if w.double != nil || w.doubleEnded != 0 {
		return
	}
	for p := range g.parts() {
		if !p.up() {
			continue
		}
		for _, id := range p.replica.Backers() {
			holder := w.named(id, uint(p.node.index))
			if holder == nil {
				continue // it was removed
			}
			other := g.of(holder)
			if other != nil && other.up() && !other.node.hurt && p.sameMembers(other) && !other.replica.HoldsStill(p.node.id) {
				g.fail(Correctness, "the lease of node %d rests on node %d, which does not hold still for it:%s", p.node.id, id, w.describe())
			}
		}
	}
}

// sameMembers tells whether the two know of the same membership.
func (p *part) sameMembers(other *part) bool {
	own, others := p.core.Status().Config, other.core.Status().Config
	return !own.Joint() && own.Equal(others) && own.Equal(p.machine.Config()) && own.Equal(other.machine.Config())
}
