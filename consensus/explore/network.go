package explore

import "github.com/quoratedb/quorate/consensus"

// network gives every message that was ever sent a number; equal messages have the same.
type network struct {
	numbers map[string]uint32
	letters []letter
}

// letter is a message, encoded as it travels, with the state if it announces a snapshot.
type letter struct {
	encoded  string
	header   consensus.Message // without what it points to
	snapshot *machine
}

func (n *network) number(m *consensus.Message, snapshot *machine) uint32 {
	encoded := string(consensus.AppendMessage(nil, m))
	key := encoded
	if snapshot != nil {
		key += "\x00" + snapshot.values
	}
	if number, ok := n.numbers[key]; ok {
		return number
	}
	number := uint32(len(n.letters))
	n.numbers[key] = number
	header := *m
	header.Entries, header.Snapshot = nil, nil
	n.letters = append(n.letters, letter{encoded, header, snapshot})
	return number
}

// open decodes a message afresh: a receiver may keep what it gets.
func (n *network) open(number uint32) (consensus.Message, *machine) {
	l := &n.letters[number]
	m, err := consensus.DecodeMessage([]byte(l.encoded))
	if err != nil {
		panic("explore: a message does not survive its encoding: " + err.Error())
	}
	return m, l.snapshot
}
