package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var errRot = errors.New("rot")

// fillData puts files where log and state are.
func fillData(t *testing.T, dir *Dir, content string) {
	t.Helper()
	for _, name := range []string{Log, State} {
		if err := os.MkdirAll(filepath.Join(dir.Path, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir.Path, name, "file"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func exists(t *testing.T, elements ...string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(elements...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestDamagedDataIsSetAside(t *testing.T) {
	options := optionsIn(t.TempDir())
	dir := mustOpen(t, options)
	first := dir.Identity
	fillData(t, dir, "first")
	if err := dir.NoteDamage(errRot, created); err != nil {
		t.Fatal(err)
	}
	if err := dir.NoteDamage(errors.New("second"), created.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, dir)

	dir = mustOpen(t, options)
	if dir.Reason != errRot.Error() || filepath.Base(dir.SetAside) != "damaged-20260102T030405.000Z" {
		t.Errorf("set aside in %q because %q", dir.SetAside, dir.Reason)
	}
	if !dir.Identity.Lost || dir.Identity.Disk == first.Disk || dir.Identity.Node != first.Node {
		t.Errorf("identity %+v after %+v", dir.Identity, first)
	}
	if exists(t, dir.Path, Log) || exists(t, dir.Path, State) || exists(t, dir.Path, damagedFile) ||
		!exists(t, dir.SetAside, Log, "file") || !exists(t, dir.SetAside, State, "file") {
		t.Error("the data was not moved")
	}
	second, older := dir.Identity, dir.SetAside
	fillData(t, dir, "second")
	mustClose(t, dir)

	dir = mustOpen(t, options)
	if dir.Reason != "" || dir.Identity != second {
		t.Errorf("an ordinary start changed something: %+v", dir)
	}
	if err := dir.NoteDamage(errRot, created.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, dir)
	dir = mustOpen(t, options)
	if exists(t, older) || !exists(t, dir.SetAside, Log, "file") {
		t.Error("only the last damaged data is to be kept")
	}
	mustClose(t, dir)
}

// TestSettingAsideIsInterrupted ends the process after each step: the next start does the rest.
func TestSettingAsideIsInterrupted(t *testing.T) {
	const name = "damaged-20260102T030405.000Z"
	for step := range 4 {
		options := optionsIn(t.TempDir())
		dir := mustOpen(t, options)
		first := dir.Identity
		fillData(t, dir, "content")
		if err := dir.NoteDamage(errRot, created); err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(dir.Path, name)
		for i, do := range []func() error{
			func() error { return os.Mkdir(aside, 0o700) },
			func() error {
				return os.Rename(filepath.Join(dir.Path, Log), filepath.Join(aside, Log))
			},
			func() error {
				return os.Rename(filepath.Join(dir.Path, State), filepath.Join(aside, State))
			},
		} {
			if i < step {
				if err := do(); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustClose(t, dir)
		dir = mustOpen(t, options)
		if dir.SetAside != aside || !dir.Identity.Lost || dir.Identity.Disk == first.Disk || exists(t, dir.Path, damagedFile) ||
			!exists(t, aside, Log, "file") || !exists(t, aside, State, "file") || exists(t, dir.Path, Log) {
			t.Errorf("after step %d: %+v", step, dir)
		}
		mustClose(t, dir)
	}
}

// TestDiskID: the ID of a disk stays as long as there is data under it, and no longer.
func TestDiskID(t *testing.T) {
	options := optionsIn(t.TempDir())
	dir := mustOpen(t, options)
	first := dir.Identity.Disk
	fillData(t, dir, "content")
	mustClose(t, dir)
	dir = mustOpen(t, options)
	if first == 0 || dir.Identity.Disk != first || dir.Identity.Lost {
		t.Errorf("disk %x became %x", first, dir.Identity.Disk)
	}
	for _, name := range []string{Log, State} {
		if err := os.RemoveAll(filepath.Join(dir.Path, name)); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, dir)
	dir = mustOpen(t, options)
	if dir.Identity.Disk == first || dir.Identity.Lost {
		t.Errorf("without its data disk %x is still %x", first, dir.Identity.Disk)
	}
	mustClose(t, dir)
}

// TestDamagedIdentity: a directory that no longer says whose it is begins anew, and another node's stays as it is.
func TestDamagedIdentity(t *testing.T) {
	options := optionsIn(t.TempDir())
	dir := mustOpen(t, options)
	fillData(t, dir, "content")
	mustClose(t, dir)
	path := filepath.Join(dir.Path, identityFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	dir = mustOpen(t, options)
	if dir.SetAside == "" || !dir.Identity.Lost || !exists(t, dir.SetAside, Log, "file") {
		t.Errorf("opened as %+v", dir)
	}
	if err := os.RemoveAll(dir.SetAside); err != nil { // the clock of this test stands still
		t.Fatal(err)
	}
	fillData(t, dir, "content")
	mustClose(t, dir)
	if err := os.WriteFile(path, make([]byte, maxIdentityBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	refusing := options
	refusing.Repair = false
	wantRefusal(t, refusing, ErrCorruptIdentity, "larger than")
	dir = mustOpen(t, options)
	if dir.SetAside == "" || !exists(t, dir.SetAside, Log, "file") {
		t.Errorf("with an identity that is too large opened as %+v", dir)
	}
	if err := dir.NoteDamage(errRot, created); err != nil {
		t.Fatal(err)
	}
	mustClose(t, dir)
	other := options
	other.Owner.Cluster++
	wantRefusal(t, other, ErrOtherCluster, "another --data-dir")
}
