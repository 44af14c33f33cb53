package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/backup/target"
)

// Unfinished gives the backups that somebody has begun, the oldest first. One that cannot be read is left out, and one
// that is being removed.
func (v *Vault) Unfinished(ctx context.Context) (all []*Manifest, err error) {
	ids, err := v.names(ctx, unfinishedDir)
	if err != nil {
		return nil, err
	}
	abandoned, err := v.names(ctx, abandonedDir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		content, err := v.read(ctx, unfinishedName(id))
		if errors.Is(err, target.ErrNotFound) {
			continue // it was finished meanwhile
		}
		if err != nil {
			return nil, err
		}
		m := new(Manifest)
		if decodeDocument(kindUnfinished, content, m) == nil && m.ID == id && !slices.Contains(abandoned, id) {
			all = append(all, m)
		}
	}
	return all, nil
}

// touched is when somebody has last noted what is written.
func (m *Manifest) touched() time.Time {
	if m.Changed.After(m.Began) {
		return m.Changed
	}
	return m.Began // an earlier version has written it
}

// AbandonOlder removes what is left of backups that are not finished, and to which nobody has written since a time. who is told the ID of each, before it
// goes; what was half removed by somebody else goes as well. If dry, nothing does.
func (v *Vault) AbandonOlder(ctx context.Context, than time.Time, dry bool, who func(id string)) error {
	ids, err := v.names(ctx, abandonedDir)
	if err != nil {
		return err
	}
	begun, err := v.Unfinished(ctx)
	if err != nil {
		return err
	}
	for _, m := range begun {
		if m.touched().Before(than) {
			ids = append(ids, m.ID)
		}
	}
	for _, id := range ids {
		err := v.unfinished(ctx, id)
		if err == nil && !dry {
			err = v.Abandon(ctx, id)
		}
		switch {
		case errors.Is(err, errFinished): // what says otherwise was left behind
			if dry {
				continue
			}
			if err := v.target.Delete(ctx, abandonedName(id)); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		who(id)
	}
	return nil
}

var errFinished = errors.New("it is finished")

// unfinished tells whether a backup has no manifest.
func (v *Vault) unfinished(ctx context.Context, id string) error {
	_, err := v.target.Size(ctx, manifestName(id))
	switch {
	case errors.Is(err, target.ErrNotFound):
		return nil
	case err == nil:
		err = errFinished
	}
	return fmt.Errorf("backup %s: %w", id, err)
}

// Abandon removes what is written of a backup that is not finished. Whoever goes on with it notices: it is said that the backup is being removed before it
// is looked whether there is a manifest, and the writer looks for that again after it has written one. See Writer.Finish.
func (v *Vault) Abandon(ctx context.Context, id string) error {
	content, err := encodeDocument(kindAbandoned, struct{}{}, nil)
	if err != nil {
		return err
	}
	name := abandonedName(id)
	if err := v.target.Put(ctx, name, content); err != nil {
		return fmt.Errorf("%s: write %s: %w", v.target, name, err)
	}
	if err := v.unfinished(ctx, id); err != nil {
		return errors.Join(err, v.target.Delete(ctx, name))
	}
	if err := v.deleteAll(ctx, dataDir+id+"/", nil); err != nil {
		return err
	}
	if err := v.deleteAll(ctx, keyName(id)+"-", nil); err != nil {
		return err
	}
	if err := v.target.Delete(ctx, unfinishedName(id)); err != nil {
		return err
	}
	return v.target.Delete(ctx, name)
}

// abandoned tells whether somebody removes the backup, or has done that. Of one that is finished it says so as well.
func (w *Writer) abandoned(ctx context.Context) (bool, error) {
	v, id := w.vault, w.manifest.ID
	switch _, err := v.target.Size(ctx, abandonedName(id)); {
	case err == nil:
		return true, nil
	case !errors.Is(err, target.ErrNotFound):
		return false, fmt.Errorf("%s: %s: %w", v.target, abandonedName(id), err)
	}
	_, err := v.target.Size(ctx, unfinishedName(id))
	if errors.Is(err, target.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", v.target, unfinishedName(id), err)
	}
	return false, err
}

// stillMine refuses to go on with a backup that somebody has removed, or finished.
func (w *Writer) stillMine(ctx context.Context) error {
	gone, err := w.abandoned(ctx)
	if err != nil || !gone {
		return err
	}
	id := w.manifest.ID
	if err := w.vault.unfinished(ctx, id); errors.Is(err, errFinished) {
		return fmt.Errorf("backup %s: somebody else has gone on with it, and finished it", id)
	} else if err != nil {
		return err
	}
	return fmt.Errorf("backup %s: %w; begin another one", id, ErrAbandoned)
}

// complete tells whether everything is there that the manifest names.
func (v *Vault) complete(ctx context.Context, m *Manifest) error {
	sizes := make(map[string]int64)
	note := func(name string, size int64) error {
		sizes[name] = size
		return nil
	}
	id := m.ID
	for _, prefix := range []string{dataDir + id + "/", keyName(id) + "-"} {
		if err := v.target.List(ctx, prefix, note); err != nil {
			return fmt.Errorf("%s: list %s: %w", v.target, prefix, err)
		}
	}
	for _, f := range m.files() {
		if size, there := sizes[f.Name]; !there || size != f.Bytes {
			return fmt.Errorf("backup %s: %s: %w; begin another one", id, f.Name, ErrAbandoned)
		}
	}
	for _, key := range m.Keys {
		if _, there := sizes[keyName(key)]; !there {
			return fmt.Errorf("backup %s: %s: %w; begin another one", id, keyName(key), ErrAbandoned)
		}
	}
	return nil
}

// deleteAll removes the objects with a prefix, but those that are needed.
func (v *Vault) deleteAll(ctx context.Context, prefix string, needed map[string]bool) error {
	var names []string
	err := v.target.List(ctx, prefix, func(name string, _ int64) error {
		if !needed[name] {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := v.target.Delete(ctx, name); err != nil {
			return fmt.Errorf("%s: remove %s: %w", v.target, name, err)
		}
	}
	return nil
}
