package membership

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// A row says which replica is on this disk: its ID, the disk, and then node and disk of those that were new together with it, all
// of them varints. Above the ID, which has 16 bits, one bit says that the replica was removed, and the rest is its life. Versions that know nothing of those
// take such a row for damage.
const (
	rowRemoved = 1 << 16
	rowLife    = 17 // bits before it
)

func (g *Group) row(id consensus.ReplicaID, removed bool) []byte {
	head := g.site.Life<<rowLife | uint64(id)
	if removed {
		head |= rowRemoved
	}
	row := binary.AppendUvarint(binary.AppendUvarint(nil, head), g.site.Disk)
	for _, h := range g.first {
		if disk, ok := g.identity.founders[h.Node]; ok && id == g.firstOn(g.node.options.Self) {
			row = binary.AppendUvarint(binary.AppendUvarint(row, uint64(h.Node)), disk)
		}
	}
	return row
}

// decodedRow is what a row says.
type decodedRow struct {
	replica  consensus.ReplicaID
	site     shard.Site
	removed  bool
	founders map[kv.NodeID]uint64
}

// Removed tells whether the row that says which replica is on this disk says that it was removed. nil: there is no row.
func Removed(row []byte) (bool, error) {
	if row == nil {
		return false, nil
	}
	decoded, err := decodeRow(row)
	return decoded.removed, err
}

// ReplicaOf is the replica that is on this disk, by the row that says so. 0: there is no row, or the replica was removed.
func ReplicaOf(row []byte) (consensus.ReplicaID, error) {
	if row == nil {
		return 0, nil
	}
	decoded, err := decodeRow(row)
	if decoded.removed {
		return 0, err
	}
	return decoded.replica, err
}

func decodeRow(row []byte) (decodedRow, error) {
	decoded := decodedRow{founders: make(map[kv.NodeID]uint64)}
	var numbers []uint64
	for len(row) > 0 {
		v, n := binary.Uvarint(row)
		if n <= 0 {
			return decoded, errRow
		}
		numbers, row = append(numbers, v), row[n:]
	}
	if len(numbers) < 2 || len(numbers)%2 != 0 {
		return decoded, errRow
	}
	head := numbers[0]
	decoded.replica, decoded.removed = consensus.ReplicaID(head&shard.MaxReplicaID), head&rowRemoved != 0
	decoded.site = shard.Site{Disk: numbers[1], Life: head >> rowLife}
	if decoded.replica == 0 {
		return decoded, errRow
	}
	for i := 2; i < len(numbers); i += 2 {
		decoded.founders[kv.NodeID(numbers[i])] = numbers[i+1]
	}
	return decoded, nil
}

var errRow = fmt.Errorf("%w: the row that says which replica this is cannot be read", storage.ErrCorrupt)
