package paxos

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// A ballot is round<<16 | replica, so that no two replicas ever make the same one.
const (
	replicaBits = 16
	maxReplica  = consensus.ReplicaID(1)<<replicaBits - 1
	// maxNumber bounds the ballots and indexes that Step takes, so that no sum of two overflows.
	maxNumber = 1 << 62
)

func ballotOf(round uint64, replica consensus.ReplicaID) consensus.Term {
	return consensus.Term(round<<replicaBits | uint64(replica))
}

func roundOf(ballot consensus.Term) uint64 { return uint64(ballot) >> replicaBits }

// BallotAbove is a ballot of the replica that is above another one.
func BallotAbove(ballot consensus.Term, replica consensus.ReplicaID) consensus.Term {
	return ballotOf(roundOf(ballot)+1, replica)
}

// Recorded is the entry that a log of this protocol has in a record, and the ballot that it was accepted under.
func Recorded(record consensus.Entry) (e consensus.Entry, ballot consensus.Term, err error) {
	return fromRecord(record)
}

func proposerOf(ballot consensus.Term) consensus.ReplicaID {
	return consensus.ReplicaID(ballot) & maxReplica
}

// underLaterBallot marks, in the log and on the wire, an entry that was accepted under a ballot
// other than its term: its data begins with that ballot as a uvarint. Entry.Term is always the
// leadership that made the entry, because the state machine judges it by that; only entries
// that a later leader proposed again pay for the difference.
const underLaterBallot consensus.EntryKind = 1 << 7

// toRecord returns the form of an entry that was accepted under the ballot.
func toRecord(e consensus.Entry, ballot consensus.Term) consensus.Entry {
	if ballot == e.Term {
		return e
	}
	data := make([]byte, 0, binary.MaxVarintLen64+len(e.Data))
	data = binary.AppendUvarint(data, uint64(ballot))
	e.Kind |= underLaterBallot
	e.Data = append(data, e.Data...)
	return e
}

// fromRecord undoes toRecord.
func fromRecord(e consensus.Entry) (consensus.Entry, consensus.Term, error) {
	if e.Kind&underLaterBallot == 0 {
		return e, e.Term, nil
	}
	ballot, n := binary.Uvarint(e.Data)
	if n <= 0 || consensus.Term(ballot) <= e.Term || ballot >= maxNumber {
		return e, 0, fmt.Errorf("entry %d of term %d has no ballot", e.Index, e.Term)
	}
	e.Kind &^= underLaterBallot
	if e.Data = e.Data[n:]; len(e.Data) == 0 {
		e.Data = nil
	}
	return e, consensus.Term(ballot), nil
}
