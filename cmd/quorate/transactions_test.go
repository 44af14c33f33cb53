package main

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
)

// transactionLists are what fakes may know of transactions.
func transactionLists() map[string]*native.TransactionList {
	var many []kv.ShardID
	for id := kv.ShardID(1); id <= 10; id++ {
		many = append(many, id)
	}
	return map[string]*native.TransactionList{
		"two": {Member: 0xa, Commit: "3pc", Transactions: []native.Transaction{
			{ID: kv.TransactionID{Anchor: 2, Term: 7, Number: 31}, AgeMilliseconds: 61_234, Participants: []kv.ShardID{2, 3}, Undecided: []kv.ShardID{3}, AnchorLeader: 0xb},
			{ID: kv.TransactionID{Anchor: 1, Term: 4, Number: 5}, AgeMilliseconds: 20, Participants: many, Undecided: many},
		}},
		"quiet": {Member: 0xa, Commit: "2pc"},
		"none":  nil,
	}
}

// TestTransactions plays testdata/transactions: node=KIND is what the node, which is n1 of n1 and n2, knows of transactions.
func TestTransactions(t *testing.T) {
	datadriven.Walk(t, "testdata/transactions", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			kind := ""
			d.ScanArgs(t, "node", &kind)
			fake := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xa, Protocol: "raft", Transactions: transactionLists()[kind]})
			fake.SetMembers([]*pb.Member{{ID: 0xa, Name: "n1", ClientURLs: []string{"http://" + fake.Address()}}, {ID: 0xb, Name: "n2"}})
			stdout, stderr, code := invoke(t, []string{"QUORATE_ENDPOINTS=" + fake.Address()}, "", strings.Split(d.Input, "\n")...)
			return shownAs(stdout, stderr, code, fake.Address())
		})
	})
}
