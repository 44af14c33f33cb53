package readpath

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestQuestionsPerRead: with 256 clients that read all the time one question serves as many reads, whatever the number of shards, and names the shards of
// those reads only.
func TestQuestionsPerRead(t *testing.T) {
	const clients, each = 256, 20
	for _, shards := range []int{1, 16, 64} {
		p := New(Options{})
		questions, asked := 0, clients
		for i := range clients {
			p.Ask(&Read{Shards: []kv.ShardID{kv.ShardID(1 + i%shards)}})
		}
		for {
			work, any := p.Ready()
			if !any {
				break
			}
			questions++
			if len(work.Shards) > shards {
				t.Errorf("question %d names shards %v", questions, work.Shards)
			}
			for _, r := range p.Learned(work.Question, kv.Present{Revision: 7, Shards: make([]kv.ShardProgress, len(work.Shards))}) {
				if asked < clients*each {
					asked++
					p.Ask(r)
				}
			}
		}
		if asked != clients*each || questions > each {
			t.Errorf("%d shards: %d questions for %d reads", shards, questions, asked)
		}
	}
	p := New(Options{})
	for _, shard := range []kv.ShardID{9, 3, 9} {
		p.Ask(&Read{Shards: []kv.ShardID{shard}})
	}
	if work, _ := p.Ready(); len(work.Shards) != 2 {
		t.Errorf("reads of shards 3 and 9 ask about %v", work.Shards)
	}
	p.Ask(&Read{Shards: []kv.ShardID{1}})
	if _, second := p.Ready(); second {
		t.Error("two questions are on their way")
	}
}
