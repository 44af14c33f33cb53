package consensustest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
)

// forge hands a replica a message that nobody sent, and says what becomes of it. Numbers may be written as powers: 2^40.
func (s *scenario) forge(d *datadriven.TestData) (string, error) {
	values := map[string]uint64{}
	for _, arg := range d.CmdArgs {
		if arg.Key == "reject" {
			continue
		}
		n, err := parseNumber(arg.Vals)
		if err != nil {
			return "", fmt.Errorf("%s: %w", arg.Key, err)
		}
		values[arg.Key] = n
	}
	n := s.cluster.nodes[consensus.ReplicaID(values["to"])]
	if n == nil {
		return "", fmt.Errorf("there is no replica %d", values["to"])
	}
	m := consensus.Message{
		From: consensus.ReplicaID(values["from"]), To: n.id, Kind: consensus.MessageKind(values["kind"]), Class: consensus.Class(values["class"]),
		Reject: d.HasArg("reject"), Term: consensus.Term(values["term"]), LogTerm: consensus.Term(values["log-term"]),
		Index: consensus.Index(values["index"]), Commit: consensus.Index(values["commit"]), Hint: consensus.Index(values["hint"]), Context: values["context"],
	}
	if at := values["snapshot"]; at != 0 {
		m.Snapshot = &consensus.SnapshotMeta{Index: consensus.Index(at), Term: m.Term, Config: n.core.Status().Config}
	}
	if at := values["entry"]; at != 0 {
		m.Entries = []consensus.Entry{{Index: consensus.Index(at), Term: m.Term, Data: []byte("forged")}}
	}
	err := n.core.Step(m)
	s.cluster.settle(n)
	switch {
	case errors.Is(err, consensus.ErrAbsurd):
		return "refused: absurd\n", nil
	case errors.Is(err, consensus.ErrLostEntries):
		return "refused: entries are said to be lost\n", nil
	case err != nil:
		return "refused\n", nil
	}
	return "taken\n", nil
}

func parseNumber(values []string) (uint64, error) {
	if len(values) != 1 {
		return 0, errors.New("it needs one value")
	}
	if power, ok := strings.CutPrefix(values[0], "2^"); ok {
		n, err := strconv.ParseUint(power, 10, 6)
		return 1 << n, err
	}
	return strconv.ParseUint(values[0], 10, 64)
}
