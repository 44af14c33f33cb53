package lsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/storage"
)

// Load implements storage.Engine. The rows become sorted tables, which Pebble takes as they are: those that lie apart from all others go to the last level, and
// are never written again.
func (e *Engine) Load(tables []storage.Rows, done func(error)) {
	if e.options.Inline {
		done(e.load(tables))
		return
	}
	e.owned.Go(func() { done(e.load(tables)) })
}

func (e *Engine) load(tables []storage.Rows) error {
	if err := e.err(); err != nil {
		return err
	}
	var names []string
	err := func() error {
		for _, rows := range tables {
			name := e.options.FS.PathJoin(e.options.Dir, fmt.Sprintf("load-%06d.tmp", e.loaded.Add(1)))
			names = append(names, name)
			if err := e.writeRows(name, rows); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
		return e.takeTables(names)
	}()
	if err != nil {
		return errors.Join(fmt.Errorf("lsm: load %d tables: %w", len(tables), err), e.removeFiles(names))
	}
	return nil
}

func (e *Engine) writeRows(name string, rows storage.Rows) error {
	table, err := e.createTable(name)
	if err != nil {
		return err
	}
	for row := range rows {
		if row.Deleted {
			err = table.Delete(row.Key)
		} else {
			err = table.Set(row.Key, row.Value)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, table.Close())
}

// takeTables ingests what was written, after everything that was applied before.
func (e *Engine) takeTables(names []string) error {
	if len(names) == 0 {
		return nil
	}
	e.applying.Lock()
	defer e.applying.Unlock()
	if err := e.waitForLevel0(); err != nil {
		return err
	}
	if e.dirty {
		if err := e.flushLockedAndWait(context.Background()); err != nil {
			return err
		}
	}
	if err := e.err(); err != nil {
		return err
	}
	if err := e.db.Ingest(context.Background(), names); err != nil {
		return describe(e.options.Dir, err)
	}
	e.settle()
	return e.failure.err()
}
