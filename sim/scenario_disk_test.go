package sim

import (
	"errors"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// changeDisks does to the disks of a node what disks and their owners do. The node does not run afterwards, but for an image.
func (s *scenario) changeDisks(command string, n *node, args []string) {
	d := n.disks.(*memoryDisks)
	if command == "image" {
		s.images[n] = &memoryDisks{node: n, log: d.log.Image(), engine: d.engine.Image(engineFiles{d.staged}), staged: d.staged}
		return
	}
	s.w.takeDown(n)
	switch command {
	case "wipe", "lose":
		n.newDisks()
		n.knowsLoss, n.hurt = command == "lose", true
	case "put-back":
		n.disks = s.images[n]
	case "lose-log":
		d.log = storage.NewMemoryLog()
	case "cut-log":
		s.cutLog(d.log, consensus.Index(s.number(args[0])))
	default:
		s.t.Fatalf("unknown command %s", command)
	}
}

// cutLog takes the last entries, as if they had never been synced.
func (s *scenario) cutLog(l *storage.MemoryLog, count consensus.Index) {
	log := l.Group(1)
	last, hard := log.Last()-count, log.HardState()
	hard.Commit = min(hard.Commit, last)
	part := storage.GroupAppend{Group: 1, TruncateFrom: last + 1, HardState: &hard}
	if err := errors.Join(l.Write([]storage.GroupAppend{part}, nil), l.Sync()); err != nil {
		s.t.Fatal(err)
	}
}
