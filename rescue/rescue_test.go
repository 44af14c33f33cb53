package rescue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
)

// TestDecide plays testdata: each case says what there is of a node.
//
//	node self=3 of=1 [removed] [paxos] [quorums]
//	list version=0 members=(1,2,3L) [removed=(7)]          L: a learner
//	remembered version=4 members=(3)                       what the node has heard of
//	shard id=1 replica=3 applied=10 term=4 voters=(1,2,3) [learners=(..)] [roster=2] [highest=7] [limit=9] [transactions=(1.9.2,1.9.1@6)]
//
// Transactions are anchor.term.number, and the revision of those that were committed; ! says that one was only heard of.
func TestDecide(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			p, err := Decide(parseNode(t, d.Input))
			if err != nil {
				return err.Error() + "\n"
			}
			return planText(&p)
		})
	})
}

func parseNode(t *testing.T, input string) (n Node) {
	var list *members.List
	for _, line := range strings.Split(input, "\n") {
		words := strings.Fields(line)
		value := map[string]string{}
		for _, w := range words[1:] {
			name, v, _ := strings.Cut(w, "=")
			value[name] = strings.Trim(v, "()")
		}
		_, removed := value["removed"]
		switch words[0] {
		case "node":
			_, paxos := value["paxos"]
			_, quorums := value["quorums"]
			n.Self, n.Of, n.Removed, n.Paxos, n.Quorums = kv.NodeID(number(t, value["self"])), number(t, value["of"]), removed, paxos, quorums
		case "list":
			list = parseList(t, value)
		case "remembered":
			n.Remembered = parseList(t, value)
		case "shard":
			s := Shard{ID: kv.ShardID(number(t, value["id"])), Replica: consensus.ReplicaID(number(t, value["replica"])), Applied: consensus.Index(number(t, value["applied"])),
				Term: consensus.Term(number(t, value["term"])), Roster: uint64(number(t, value["roster"])), Highest: kv.Revision(number(t, value["highest"])),
				Limit: kv.Revision(number(t, value["limit"])), Config: consensus.Config{Voters: replicas(t, value["voters"]), Learners: replicas(t, value["learners"])}}
			for _, word := range strings.FieldsFunc(value["transactions"], func(r rune) bool { return r == ',' }) {
				word, onlyHeard := strings.CutSuffix(word, "!")
				name, revision, _ := strings.Cut(word, "@")
				part := strings.Split(name, ".")
				known := kv.UnfinishedTransaction{ID: kv.TransactionID{Anchor: kv.ShardID(number(t, part[0])), Term: uint64(number(t, part[1])), Number: uint64(number(t, part[2]))}}
				if revision != "" {
					known.Decision = kv.Decision{Verdict: kv.Commit, Revision: kv.Revision(number(t, revision))}
				}
				s.Heard = append(s.Heard, known.ID)
				if !onlyHeard {
					s.Transactions = append(s.Transactions, known)
				}
			}
			if s.ID == kv.SystemShard {
				s.List = list
			}
			n.Shards = append(n.Shards, s)
		}
	}
	return n
}

func parseList(t *testing.T, value map[string]string) *members.List {
	l := &members.List{Version: uint64(number(t, value["version"]))}
	for _, m := range strings.Split(value["members"], ",") {
		id, learner := strings.CutSuffix(m, "L")
		l.Members = append(l.Members, members.Member{ID: kv.NodeID(number(t, id)), Learner: learner})
	}
	for _, id := range replicas(t, value["removed"]) {
		l.Removed = append(l.Removed, kv.NodeID(id))
	}
	return l
}

func number(t *testing.T, text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func replicas(t *testing.T, text string) (ids []consensus.ReplicaID) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		ids = append(ids, consensus.ReplicaID(number(t, word)))
	}
	return ids
}

func planText(p *Plan) string {
	var b strings.Builder
	if p.Nothing {
		b.WriteString("nothing is to be done\n")
	}
	fmt.Fprintf(&b, "list version %d:", p.List.Version)
	for _, m := range p.List.Members {
		fmt.Fprintf(&b, " %d", uint64(m.ID))
		if m.Learner {
			b.WriteString("L")
		}
	}
	b.WriteString("; never again:")
	for _, id := range p.List.Removed {
		fmt.Fprintf(&b, " %d", uint64(id))
	}
	b.WriteString("; lost:")
	for _, m := range p.Lost {
		fmt.Fprintf(&b, " %d", uint64(m.ID))
	}
	b.WriteString("\n")
	for i, s := range p.Shards {
		fmt.Fprintf(&b, "shard %d begins behind entry %d of term %d as %s, by roster %d of %d", i+1, s.Start.Index, s.Start.Term, s.Start.Config.String(), s.Roster.Version, len(s.Roster.Seats))
		if s.Limit > 0 {
			fmt.Fprintf(&b, ", limit %d", s.Limit)
		}
		for _, c := range s.Committed {
			fmt.Fprintf(&b, ", commits %d.%d.%d at %d", uint64(c.ID.Anchor), c.ID.Term, c.ID.Number, c.Revision)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// What is decided holds for every list: the node alone has a vote, all others are never again, and nobody has heard of the version.
func TestOnly(t *testing.T) {
	for _, l := range []*members.List{
		{Members: []members.Member{{ID: 1}, {ID: 2}, {ID: 3}}},
		{Version: 7, Members: []members.Member{{ID: 2}, {ID: 5, Learner: true}}, Removed: []kv.NodeID{1, 9}},
	} {
		for _, self := range l.Members {
			before := l.Append(nil)
			only := l.Only(self.ID, 11)
			if string(l.Append(nil)) != string(before) {
				t.Error("the list was changed")
			}
			if len(only.Members) != 1 || only.Members[0].ID != self.ID || only.Members[0].Learner || only.Version != 12 {
				t.Errorf("%+v", only)
			}
			for _, m := range l.Members {
				if m.ID != self.ID && !only.WasRemoved(m.ID) {
					t.Errorf("%d may come back", m.ID)
				}
			}
			if !slices.IsSorted(only.Removed) || len(only.Removed)+1 != len(l.Removed)+len(l.Members) {
				t.Errorf("%v", only.Removed)
			}
			if again, err := members.Decode(only.Append(nil)); err != nil || len(again.Members) != 1 {
				t.Errorf("it does not read back: %v", err)
			}
		}
	}
}
