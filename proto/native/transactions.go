package native

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

// ListTransactions is the path of the call.
const ListTransactions = "/quorate.v1.Transactions/List"

// TransactionList is the answer to ListTransactions: what is prepared and not decided in the shards that one node leads.
type TransactionList struct {
	Cluster kv.ClusterID
	Member  kv.NodeID
	// Commit is the commit protocol: 2pc or 3pc; empty: there is one shard.
	Commit       string
	Transactions []Transaction
}

// Transaction is one over several shards.
type Transaction struct {
	ID kv.TransactionID
	// AgeMilliseconds is for how long the node knows of it.
	AgeMilliseconds uint64
	Participants    []kv.ShardID
	// Undecided are those of the participants that the node leads and that have not heard what was decided: their keys wait.
	Undecided []kv.ShardID
	// AnchorLeader leads the shard that coordinates; 0: nobody, as far as the node knows.
	AnchorLeader kv.NodeID
}

// The fields of the messages.
const (
	transactionsCluster protowire.Number = 1
	transactionsMember  protowire.Number = 2
	transactionsCommit  protowire.Number = 3
	transactionsEach    protowire.Number = 4

	transactionAnchor       protowire.Number = 1
	transactionTerm         protowire.Number = 2
	transactionNumber       protowire.Number = 3
	transactionAge          protowire.Number = 4
	transactionParticipants protowire.Number = 5 // one field for each
	transactionUndecided    protowire.Number = 6
	transactionAnchorLeader protowire.Number = 7
)

// Append encodes the list.
func (l *TransactionList) Append(dst []byte) []byte {
	dst = appendNumber(dst, transactionsCluster, uint64(l.Cluster))
	dst = appendNumber(dst, transactionsMember, uint64(l.Member))
	dst = appendBytes(dst, transactionsCommit, []byte(l.Commit))
	for i := range l.Transactions {
		dst = protowire.AppendTag(dst, transactionsEach, protowire.BytesType)
		dst = protowire.AppendBytes(dst, l.Transactions[i].append(nil))
	}
	return dst
}

func (t *Transaction) append(dst []byte) []byte {
	dst = appendNumber(dst, transactionAnchor, uint64(t.ID.Anchor))
	dst = appendNumber(dst, transactionTerm, t.ID.Term)
	dst = appendNumber(dst, transactionNumber, t.ID.Number)
	dst = appendNumber(dst, transactionAge, t.AgeMilliseconds)
	dst = appendShards(dst, transactionParticipants, t.Participants)
	dst = appendShards(dst, transactionUndecided, t.Undecided)
	return appendNumber(dst, transactionAnchorLeader, uint64(t.AnchorLeader))
}

func appendShards(dst []byte, field protowire.Number, ids []kv.ShardID) []byte {
	for _, id := range ids {
		dst = appendNumber(dst, field, uint64(id)) // none is 0
	}
	return dst
}

// DecodeTransactionList reads what Append wrote. Fields that it does not know, of later versions, are passed over.
func DecodeTransactionList(in []byte) (l TransactionList, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case transactionsCluster:
			l.Cluster = kv.ClusterID(f.varint)
		case transactionsMember:
			l.Member = kv.NodeID(f.varint)
		case transactionsCommit:
			l.Commit = string(f.bytes)
		case transactionsEach:
			t, err := decodeTransaction(f.bytes)
			if err != nil {
				return err
			}
			l.Transactions = append(l.Transactions, t)
		}
		return nil
	})
	return l, err
}

func decodeTransaction(in []byte) (t Transaction, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case transactionAnchor:
			t.ID.Anchor = kv.ShardID(f.varint)
		case transactionTerm:
			t.ID.Term = f.varint
		case transactionNumber:
			t.ID.Number = f.varint
		case transactionAge:
			t.AgeMilliseconds = f.varint
		case transactionParticipants:
			t.Participants = append(t.Participants, kv.ShardID(f.varint))
		case transactionUndecided:
			t.Undecided = append(t.Undecided, kv.ShardID(f.varint))
		case transactionAnchorLeader:
			t.AnchorLeader = kv.NodeID(f.varint)
		}
		return nil
	})
	return t, err
}
