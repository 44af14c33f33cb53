package membership

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// row says which replica is on this disk: its ID, the disk, and then node and disk of those that were new together with it, all
// of them varints.
func (g *Group) row(id consensus.ReplicaID) []byte {
	row := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(id)), g.node.options.Disk)
	for _, h := range g.first {
		if disk, ok := g.identity.founders[h.Node]; ok && id == g.firstOn(g.node.options.Self) {
			row = binary.AppendUvarint(binary.AppendUvarint(row, uint64(h.Node)), disk)
		}
	}
	return row
}

func (g *Group) readRow(row []byte) error {
	id, n := binary.Uvarint(row)
	if n <= 0 || id == 0 || id > shard.MaxReplicaID {
		return g.badRow()
	}
	disk, m := binary.Uvarint(row[n:])
	if m <= 0 || !g.readFounders(row[n+m:]) {
		return g.badRow()
	}
	if own := g.node.options.Disk; disk != own {
		return fmt.Errorf("%w: the state is of disk %x, and this is disk %x", ErrLost, disk, own)
	}
	g.self = consensus.ReplicaID(id)
	return nil
}

func (g *Group) badRow() error {
	return fmt.Errorf("%w: the row that says which replica this is cannot be read", storage.ErrCorrupt)
}

func (g *Group) readFounders(row []byte) bool {
	for len(row) > 0 {
		node, n := binary.Uvarint(row)
		if n <= 0 {
			return false
		}
		disk, m := binary.Uvarint(row[n:])
		if m <= 0 {
			return false
		}
		g.identity.founders[kv.NodeID(node)] = disk
		row = row[n+m:]
	}
	return true
}
