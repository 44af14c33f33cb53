package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/quoratedb/quorate/kv"
)

// Users and roles are rows that only package auth understands, in files of their own. Each backup has all of them, as they are when it is made. A manifest
// with such files is of a later format: who does not know them would make a cluster of it that is open to everybody.

// SetUsers writes users and roles, in place of those of an attempt before.
func (w *Writer) SetUsers(ctx context.Context, rows []kv.UserRow) error {
	files, err := storeAll(ctx, w, "users", rows, (*fileWriter).addUserRow)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.manifest.Users, w.manifest.UserRows = files, int64(len(rows))
	return nil
}

func (w *fileWriter) addUserRow(r kv.UserRow) {
	w.begin(blockUsers)
	w.raw = append(w.raw, r.Class)
	w.raw = append(binary.AppendUvarint(w.raw, uint64(len(r.Name))), r.Name...)
	w.raw = append(binary.AppendUvarint(w.raw, uint64(len(r.Row))), r.Row...)
	w.end.Users++
	w.filled()
}

// nextUserRow gives the next row of a file that has nothing else; io.EOF at its end.
func (r *fileReader) nextUserRow() (row kv.UserRow, err error) {
	for len(r.block.rest) == 0 {
		if err := r.nextBlock(); err != nil {
			return row, err
		}
	}
	if r.kind != blockUsers {
		return row, damagedf("it has something else than users and roles")
	}
	d := &r.block
	row.Class = d.byte()
	row.Name = string(d.bytes())
	row.Row = append(row.Row, d.bytes()...)
	if d.failed {
		return row, damagedf("a row of users and roles cannot be read")
	}
	r.found.Users++
	return row, nil
}

// Users are the users and roles of the last backup of the chain, as rows of package auth; nil: it has none.
func (s *Source) Users(ctx context.Context) ([]kv.UserRow, error) {
	last := len(s.chain) - 1
	return s.vault.users(ctx, s.chain[last], s.keys[last])
}

func (v *Vault) users(ctx context.Context, b *Backup, keys []*key) (rows []kv.UserRow, err error) {
	for _, f := range b.Users {
		r, err := v.readWhole(ctx, f, keys)
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", b.ID, err)
		}
		for {
			row, err := r.nextUserRow()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("backup %s: %s: %w", b.ID, f.Name, err)
			}
			rows = append(rows, row)
		}
	}
	if int64(len(rows)) != b.UserRows {
		return nil, fmt.Errorf("backup %s: %w", b.ID, damagedf("it has %d rows of users and roles, and the manifest says %d", len(rows), b.UserRows))
	}
	return rows, nil
}
