package membership

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
)

func TestJudgeSender(t *testing.T) {
	for _, c := range []struct {
		sender  Sender
		version uint16
		good    bool
	}{
		{Sender{}, 0, false},
		{Sender{}, 2, false},
		{Sender{}, 3, false},
		{Sender{Instance: 7, Position: 5}, 3, false},
		{Sender{Disk: 9}, 0, false}, // it may be a node of version 2, or not; once it is connected to, that is known
		{Sender{Disk: 9}, 2, true},
		{Sender{Disk: 9}, 3, false},
		{Sender{Instance: 7, Disk: 9, Position: 5}, 0, true}, // witness judges the rest
		{Sender{Instance: 7, Disk: 9, Position: 5}, 2, true}, // it was downgraded, and this is late; or it was upgraded
		{Sender{Instance: 7, Disk: 9, Position: 5}, 3, true},
	} {
		if err := judgeSender(c.sender, c.version); (err == nil) != c.good {
			t.Errorf("%+v of version %d: %v", c.sender, c.version, err)
		}
	}
}

// A leader that has reason to say that entries are lost here says so again and again; one message is no proof, nor are two far apart.
func TestLossClaim(t *testing.T) {
	const patience = time.Second
	for _, c := range []struct {
		what   string
		every  time.Duration
		change bool // the leader or its term
		want   bool
	}{
		{"once", time.Hour, false, false},
		{"with each heartbeat", 100 * time.Millisecond, false, true},
		{"now and then", 600 * time.Millisecond, false, false},
		{"by others", 100 * time.Millisecond, true, false},
	} {
		var claim lossClaim
		if claim.pending(0, patience) {
			t.Error("pending before anybody said so")
		}
		confirmed := false
		for i := range consensus.Term(40) {
			term := consensus.Term(2)
			if c.change {
				term += i
			}
			now := time.Duration(i+1) * c.every
			confirmed = claim.repeated(1, term, now, patience) || confirmed
			if !claim.pending(now, patience) || claim.pending(now+patience, patience) {
				t.Errorf("%s: it is pending for another time", c.what)
			}
		}
		if confirmed != c.want {
			t.Errorf("%s: confirmed: %v", c.what, confirmed)
		}
	}
}

func TestMayBeNewer(t *testing.T) {
	g := &Group{first: []Home{{1, 1}, {2, 2}, {3, 3}}}
	for _, c := range []struct {
		id   consensus.ReplicaID
		disk uint64
		life uint64
		want bool
	}{
		{3, 9, 0, false}, {4, 9, 0, true}, {4, 5, 3, false}, {4, 5, 2, false}, {4, 5, 4, true}, {shard.MaxReplicaID, 9, 0, true}, {shard.MaxReplicaID + 1, 9, 0, false},
	} {
		if got := g.mayBeNewer(c.id, shard.Placement{Node: 1, Replica: 1, Site: shard.Site{Disk: 5, Life: 3}}, shard.Site{Disk: c.disk, Life: c.life}); got != c.want {
			t.Errorf("replica %d on disk %d, life %d: %v", c.id, c.disk, c.life, got)
		}
	}
}
