package paxos

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// quorums are the sizes asked for; 0 stands for a majority.
type quorums struct{ first, second int }

func majority(voters int) int { return voters/2 + 1 }

// phase1 returns how many of so many voters must promise.
func (q quorums) phase1(voters int) int {
	if q.first != 0 {
		return q.first
	}
	return majority(voters)
}

// phase2 returns how many of so many voters must accept.
func (q quorums) phase2(voters int) int {
	if q.second != 0 {
		return q.second
	}
	return majority(voters)
}

// confirm returns the least number of voters of which every phase-1 quorum contains at least one: when so
// many have not promised a higher ballot, nobody has been elected with one; while so many are bound not to, nobody is.
func (q quorums) confirm(voters int) int { return voters - q.phase1(voters) + 1 }

// validate tells why the membership cannot be: it must be in order, and every two quorums of different
// phases must meet.
func (q quorums) validate(c consensus.Config) error {
	if c.Joint() {
		return fmt.Errorf("%w: Paxos knows no joint membership", consensus.ErrInvalidConfig)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	for _, id := range c.Members() {
		if id > maxReplica {
			return fmt.Errorf("%w: replica %d: Paxos takes ids up to %d", consensus.ErrInvalidConfig, id, maxReplica)
		}
	}
	n := len(c.Voters)
	first, second := q.phase1(n), q.phase2(n)
	if first > n || second > n {
		return fmt.Errorf("%w: quorums of %d and %d replicas, but there are only %d voters", consensus.ErrInvalidConfig, first, second, n)
	}
	if first+second <= n {
		return fmt.Errorf("%w: a phase-1 quorum of %d and a phase-2 quorum of %d of %d voters need not meet; their sum must be at least %d",
			consensus.ErrInvalidConfig, first, second, n, n+1)
	}
	return nil
}

// count returns how many of the voters has is true for.
func count(voters []consensus.ReplicaID, has func(consensus.ReplicaID) bool) (n int) {
	for _, id := range voters {
		if has(id) {
			n++
		}
	}
	return n
}
