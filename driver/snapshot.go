package driver

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// snapshotStream names the streams that carry snapshots.
const snapshotStream = "snapshot/2"

// A snapshot on the wire:
//
//	group    uvarint
//	length   uvarint, message (consensus.AppendMessage) that announces it
//	files    uvarint
//	a file:  size uvarint, bytes, crc32c of the bytes (4, little endian)

const (
	maxSnapshotMessage   = 1 << 20
	maxSnapshotFiles     = 1 << 20
	maxSnapshotFileBytes = 1 << 40
)

func writeSnapshot(w io.Writer, from Files, group consensus.GroupID, m consensus.Message, files []string, sent *int64) error {
	message := consensus.AppendMessage(nil, &m)
	head := binary.AppendUvarint(nil, uint64(group))
	head = binary.AppendUvarint(head, uint64(len(message)))
	head = append(head, message...)
	head = binary.AppendUvarint(head, uint64(len(files)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, name := range files {
		n, err := writeFile(w, from, name)
		*sent += n
		if err != nil {
			return err
		}
	}
	return nil
}

func writeFile(w io.Writer, from Files, name string) (int64, error) {
	f, size, err := from.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := w.Write(binary.AppendUvarint(nil, uint64(size))); err != nil {
		return 0, err
	}
	sum := crc32.New(castagnoli())
	n, err := io.CopyN(io.MultiWriter(w, sum), f, size)
	if err != nil {
		return n, err
	}
	_, err = w.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	return n, err
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// ReceiveStream takes a snapshot from another node: it stages the files and steps the announcement.
// Its error travels back to the sender.
func (d *Driver) ReceiveStream(from kv.NodeID, name string, in io.Reader) error {
	if name != snapshotStream {
		return fmt.Errorf("this version does not know the stream %q", name)
	}
	if err := d.stopped(); err != nil {
		return err
	}
	dir, err := d.opts.Files.TempDir(d.opts.StagingDir, "in-")
	if err != nil {
		return fmt.Errorf("stage a snapshot: %w", err)
	}
	group, message, files, err := readSnapshot(bufio.NewReaderSize(in, 256<<10), d.opts.Files, dir)
	if err != nil {
		d.opts.Files.RemoveAll(dir)
		return fmt.Errorf("receive a snapshot from node %v: %w", from, err)
	}
	if err := d.compareSnapshot(group, message.Snapshot, files); err != nil {
		d.opts.Files.RemoveAll(dir)
		err = fmt.Errorf("a snapshot from node %v is refused: %w", from, err)
		d.call(func() { d.refused(group, from, fmt.Errorf("driver: %w", err)) })
		return err
	}
	staged := &stagedSnapshot{from: d.opts.Files, dir: dir, files: files, index: message.Snapshot.Index, term: message.Snapshot.Term}
	if !d.inbox.addMessages([]groupMessage{{group: group, from: from, message: message, staged: staged}}) {
		staged.discard()
		return kv.ErrStopped
	}
	d.kick()
	return nil
}

// compareSnapshot tells why a received snapshot is not the one that was announced. Once it is installed there is no way back: what was here
// before is gone.
func (d *Driver) compareSnapshot(group consensus.GroupID, announced *consensus.SnapshotMeta, files []string) error {
	if d.Replica(group) == nil {
		return fmt.Errorf("this node has no group %d", group)
	}
	id := kv.ShardID(group)
	row, found, err := d.opts.Engine.Inspect(d.context, files, keys.Spans(id), keys.State(id))
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%w: its %d files do not hold the state at index %d that it announces", storage.ErrCorrupt, len(files), announced.Index)
	}
	state, err := shard.DecodeState(row)
	if err != nil {
		return fmt.Errorf("the state row of a snapshot: %w", err)
	}
	if state.Index != announced.Index || state.Term != announced.Term || state.Config == nil || !state.Config.Equal(announced.Config) {
		return fmt.Errorf("%w: it holds the state at index %d of term %d with the members %v, and announces index %d of term %d with %v",
			storage.ErrCorrupt, state.Index, state.Term, state.Config, announced.Index, announced.Term, announced.Config)
	}
	return nil
}

func readSnapshot(in *bufio.Reader, to Files, dir string) (group consensus.GroupID, m consensus.Message, files []string, err error) {
	id, err := binary.ReadUvarint(in)
	if err != nil {
		return 0, m, nil, err
	}
	length, err := binary.ReadUvarint(in)
	if err != nil || length > maxSnapshotMessage {
		return 0, m, nil, fmt.Errorf("bad announcement of %d bytes: %w", length, err)
	}
	buf := make([]byte, length)
	if _, err := io.ReadFull(in, buf); err != nil {
		return 0, m, nil, err
	}
	if m, err = consensus.DecodeMessage(buf); err != nil {
		return 0, m, nil, err
	}
	if m.Class != consensus.ClassSnapshot || m.Snapshot == nil {
		return 0, m, nil, fmt.Errorf("%w: the announcement is not of a snapshot", storage.ErrCorrupt)
	}
	count, err := binary.ReadUvarint(in)
	if err != nil || count > maxSnapshotFiles {
		return 0, m, nil, fmt.Errorf("bad number of files %d: %w", count, err)
	}
	for i := range count {
		name := filepath.Join(dir, fmt.Sprintf("%06d.sst", i))
		if err := readFile(in, to, name); err != nil {
			return 0, m, nil, err
		}
		files = append(files, name)
	}
	return consensus.GroupID(id), m, files, nil
}

func readFile(in *bufio.Reader, to Files, name string) error {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return err
	}
	if size > maxSnapshotFileBytes {
		return fmt.Errorf("%w: a file of %d bytes", storage.ErrCorrupt, size)
	}
	f, err := to.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := crc32.New(castagnoli())
	// The sum first: a file system may change what it is given, as Pebble's in memory does under the race detector.
	if _, err := io.CopyN(io.MultiWriter(sum, f), in, int64(size)); err != nil {
		return fmt.Errorf("file %s: %w", filepath.Base(name), err)
	}
	var want [4]byte
	if _, err := io.ReadFull(in, want[:]); err != nil {
		return err
	}
	if sum.Sum32() != binary.LittleEndian.Uint32(want[:]) {
		return fmt.Errorf("%w: checksum of file %s differs", storage.ErrCorrupt, filepath.Base(name))
	}
	return f.Sync()
}
