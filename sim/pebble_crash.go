package sim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashClone is what a crash leaves of a file system: what was synced, and of the rest what random says, by directory entries and by blocks of
// files; a nil random: nothing. The file system is not to be used any more. One in memory has no errors: an error is a mistake here.
//
// vfs.MemFS can say the same, but draws in the order of a map: another file system each time.
func crashClone(fs *vfs.MemFS, random *rand.Rand) *vfs.MemFS {
	synced := fs.CrashClone(vfs.CrashCloneCfg{})
	if random == nil {
		return synced
	}
	percent := []int{0, 50, 100}[random.IntN(3)]
	if percent == 0 {
		return synced
	}
	c := crash{synced: synced, written: fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})}
	if percent == 100 {
		return c.written
	}
	// Once all directories are synced, what is synced of a file is there under the name that it has by now.
	err := walk(fs, "", func(name string, isDir bool) error {
		if isDir {
			return syncDir(fs, name)
		}
		return nil
	})
	c.named, c.random, c.found = fs.CrashClone(vfs.CrashCloneCfg{}), random, vfs.NewCrashableMem()
	if err := errors.Join(err, c.dir("")); err != nil {
		panic(fmt.Errorf("sim: what is left by a crash: %w", err))
	}
	return c.found
}

// crash puts together what is found after a crash. Of a file there are three images: what is synced of the file under its synced name, what is
// synced of the file under the name that it has by now, and everything that was written to that one.
type crash struct {
	synced, named, written *vfs.MemFS
	random                 *rand.Rand
	found                  *vfs.MemFS
}

// block is how much of a file survives as one.
const block = 4096

func (c *crash) survives() bool { return c.random.IntN(2) == 0 }

func (c *crash) dir(name string) error {
	before, err := list(c.synced, name)
	if err != nil {
		return err
	}
	now, err := list(c.named, name)
	if err != nil {
		return err
	}
	all := maps.Clone(before)
	maps.Copy(all, now)
	for _, entry := range slices.Sorted(maps.Keys(all)) {
		_, wasThere := before[entry]
		_, isThere := now[entry]
		path := c.found.PathJoin(name, entry)
		switch renewed := isThere && c.survives(); {
		case all[entry] && (wasThere || renewed):
			if err = c.found.MkdirAll(path, 0o755); err == nil {
				err = c.dir(path)
			}
		case renewed:
			err = c.file(path)
		case wasThere:
			err = c.copy(path)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(c.found, name)
}

// file leaves some of what was not synced of a file.
func (c *crash) file(name string) error {
	data, err := readFile(c.named, name)
	if err != nil {
		return err
	}
	written, err := readFile(c.written, name)
	if err != nil {
		return err
	}
	for at := 0; at < len(written); at += block {
		if c.survives() {
			end := min(at+block, len(written))
			if len(data) < end { // zeros for blocks that were not synced and did not survive
				data = append(data, make([]byte, end-len(data))...)
			}
			copy(data[at:end], written[at:end])
		}
	}
	return writeFile(c.found, name, data)
}

func (c *crash) copy(name string) error {
	data, err := readFile(c.synced, name)
	if err != nil {
		return err
	}
	return writeFile(c.found, name, data)
}

// list returns the entries of a directory, and which of them are directories; none if there is no such directory.
func list(fs *vfs.MemFS, dir string) (map[string]bool, error) {
	entries := map[string]bool{}
	if dir != "" {
		if info, err := fs.Stat(dir); err != nil || !info.IsDir() {
			return entries, nil
		}
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", dir, err)
	}
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, fmt.Errorf("look at %q in %q: %w", name, dir, err)
		}
		entries[name] = info.IsDir()
	}
	return entries, nil
}

// walk calls visit for a directory and everything in it, in order.
func walk(fs *vfs.MemFS, dir string, visit func(name string, isDir bool) error) error {
	if err := visit(dir, true); err != nil {
		return err
	}
	entries, err := list(fs, dir)
	for _, entry := range slices.Sorted(maps.Keys(entries)) {
		if err != nil {
			return err
		}
		if path := fs.PathJoin(dir, entry); entries[entry] {
			err = walk(fs, path, visit)
		} else {
			err = visit(path, false)
		}
	}
	return err
}

func syncDir(fs *vfs.MemFS, name string) error {
	dir, err := fs.OpenDir(name)
	if err != nil {
		return fmt.Errorf("open the directory %q: %w", name, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func readFile(fs *vfs.MemFS, name string) ([]byte, error) {
	file, err := fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	data, err := io.ReadAll(file)
	return data, errors.Join(err, file.Close())
}

func writeFile(fs *vfs.MemFS, name string, data []byte) error {
	file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}
