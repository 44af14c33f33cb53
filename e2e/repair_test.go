package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// TestLostData takes data away from one node of three, in different ways, and starts it again with the same flags: it comes
// back as a new replica, without anybody's help, and has the same data as the others.
func TestLostData(t *testing.T) {
	skipShort(t)
	for _, consensus := range []string{"raft", "paxos"} {
		t.Run(consensus, func(t *testing.T) {
			t.Parallel()
			cl := cluster.Start(t, cluster.Options{Flags: []string{"--consensus=" + consensus, "--snapshot-count=200"}})
			c := cl.Client(t)
			value := strings.Repeat("v", 500)
			number := 0
			write := func(count int) {
				t.Helper()
				for range count {
					number++
					// A node that ends takes the answers to what it was asked with it: then the same is written again.
					cluster.Eventually(t, "a write", func() error {
						_, err := c.Put(within(t), fmt.Sprintf("key%03d", number%300), fmt.Sprintf("%s%d", value, number))
						return err
					})
				}
			}
			write(600)
			copied := filepath.Join(t.TempDir(), "copy")
			must(t, stopInOrder(cl.Nodes[0]))
			must(t, os.CopyFS(copied, os.DirFS(cl.Nodes[0].DataDir)))
			must(t, cl.Nodes[0].Start())
			must(t, cl.Nodes[0].WaitReady())
			for i, damage := range []struct {
				name  string
				stop  func(*cluster.Node) error
				do    func(t *testing.T, dir string)
				aside bool
			}{
				{"the directory is deleted", (*cluster.Node).Kill, removeAll(""), false},
				{"the log is deleted", (*cluster.Node).Kill, removeAll("log"), true},
				{"the state is deleted", (*cluster.Node).Kill, removeAll("state"), true},
				{"a segment of the log is damaged", (*cluster.Node).Kill, flipIn("log/*.wal", 3), true},
				{"a table of the state is damaged", stopInOrder, flipIn("state/*.sst", 2), true},
				{"a table of the state is cut", stopInOrder, matching("state/*.sst", cutOff(7)), true},
				{"the format's marker of the state is deleted", stopInOrder, matching("state/marker.format-version.*", os.Remove), true},
				{"the manifest's marker of the state is deleted", (*cluster.Node).Kill, matching("state/marker.manifest.*", os.Remove), true},
				{"the identity is damaged", (*cluster.Node).Kill, flipIn("identity.json", 2), true},
				{"an old copy is put back", (*cluster.Node).Kill, func(t *testing.T, dir string) {
					must(t, os.RemoveAll(dir))
					must(t, os.CopyFS(dir, os.DirFS(copied)))
				}, true},
			} {
				n := cl.Nodes[i%len(cl.Nodes)]
				dir := n.DataDir
				t.Logf("%s: %s of %s", consensus, damage.name, n.Name)
				must(t, damage.stop(n))
				damage.do(t, dir)
				write(20)
				must(t, n.Start())
				must(t, n.WaitReady())
				write(20)
				cluster.Eventually(t, damage.name+": all nodes are well and equal", func() error { return equalNodes(t, cl) })
				kept := try(filepath.Glob(filepath.Join(dir, "damaged-*")))(t)
				if damage.aside != (len(kept) == 1) {
					t.Errorf("%s: set aside are %v\n%s", damage.name, kept, n.RunLog())
				}
				for _, text := range []string{"takes part", "the membership changed"} {
					if !strings.Contains(n.RunLog(), text) {
						t.Errorf("%s: the log does not say %q:\n%s", damage.name, text, n.RunLog())
					}
				}
			}
		})
	}
}

// TestTornLog cuts the log of a node inside its last record: it says so, and goes on as the replica that it was.
func TestTornLog(t *testing.T) {
	skipShort(t)
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{})
	n := cl.Nodes[0]
	for _, bytes := range []int{7, 30} {
		must(t, stopInOrder(n))
		last, end := "", 0 // of the log; what comes after it is prepared, and not used yet
		matching("log/*.wal", func(path string) error {
			content, err := os.ReadFile(path)
			if used := len(strings.TrimRight(string(content), "\x00")); used > 4096 {
				last, end = path, used
			}
			return err
		})(t, n.DataDir)
		must(t, os.Truncate(last, int64(end-bytes)))
		must(t, n.Start())
		must(t, n.WaitReady())
		if log := n.RunLog(); !strings.Contains(log, "the log ended in a write that a crash had interrupted") || strings.Contains(log, "set aside") {
			t.Errorf("%d bytes were cut off; the log:\n%s", bytes, log)
		}
	}
}

// TestScrub damages what a running node has on disk, where nobody reads: it finds out by itself, and gets its data from the others.
func TestScrub(t *testing.T) {
	skipShort(t)
	t.Parallel()
	cl := cluster.Start(t, cluster.Options{Flags: []string{"--snapshot-count=100", "--scrub-interval=2s"}})
	c := cl.Client(t)
	for i := range 250 { // too few tables to be compacted, which would find damage, too
		cluster.Eventually(t, "a write", func() error {
			_, err := c.Put(within(t), fmt.Sprintf("key%03d", i), strings.Repeat("v", 500))
			return err
		})
	}
	for i, pattern := range []string{"state/*.sst", "log/*.wal"} {
		n := cl.Nodes[i]
		flipped := map[string]bool{}
		cluster.Eventually(t, pattern+": the damage is found", func() error {
			if strings.Contains(n.RunLog(), "a scrub found damaged data") {
				return nil
			}
			for _, path := range try(filepath.Glob(filepath.Join(n.DataDir, pattern)))(t) {
				if !flipped[path] { // another may have taken the place of the first
					flipInPlace(t, path)
					flipped[path] = true
				}
			}
			return fmt.Errorf("nothing was found in %v", flipped)
		})
		cluster.Eventually(t, pattern+": all nodes are well and equal", func() error { return equalNodes(t, cl) })
		if kept := try(filepath.Glob(filepath.Join(n.DataDir, "damaged-*")))(t); len(kept) != 1 {
			t.Errorf("%s: set aside are %v\n%s", pattern, kept, n.RunLog())
		}
	}
	if log := cl.Nodes[2].RunLog(); !strings.Contains(log, "everything on disk was read again") || strings.Contains(log, "damaged") {
		t.Errorf("the log of a node that was well:\n%s", log)
	}
}

// flipInPlace changes a byte near the middle of what is in the file, which others have open.
func flipInPlace(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	at := len(strings.TrimRight(string(content), "\x00")) / 2
	if at == 0 {
		return // prepared, and not used yet
	}
	for content[at] == 0 {
		at++
	}
	file := try(os.OpenFile(path, os.O_WRONLY, 0))(t)
	_, err = file.WriteAt([]byte{content[at] ^ 0x55}, int64(at))
	must(t, errors.Join(err, file.Close()))
}

func stopInOrder(n *cluster.Node) error {
	_, err := n.Stop(endLimit)
	return err
}

func removeAll(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, name))) }
}

// matching does something to every file that matches, of which there must be one.
func matching(pattern string, do func(path string) error) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		paths := try(filepath.Glob(filepath.Join(dir, pattern)))(t)
		if len(paths) == 0 {
			t.Fatalf("nothing matches %s in %s", pattern, dir)
		}
		for _, path := range paths {
			must(t, do(path))
		}
	}
}

// cutOff takes the last bytes away.
func cutOff(bytes int64) func(path string) error {
	return func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, max(0, info.Size()-bytes))
	}
}

// flipIn changes a byte in the middle of every file that matches: at the given fraction of what is in it.
func flipIn(pattern string, part int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		paths := try(filepath.Glob(filepath.Join(dir, pattern)))(t)
		if len(paths) == 0 {
			t.Fatalf("nothing matches %s in %s", pattern, dir)
		}
		for _, path := range paths {
			content := try(os.ReadFile(path))(t)
			end := len(content)
			for end > 0 && content[end-1] == 0 { // segments are longer than what is in them
				end--
			}
			if end < 8 {
				continue
			}
			at := end / part
			for content[at] == 0 { // what fills up a block is not data
				at++
			}
			content[at] ^= 0x55
			must(t, os.WriteFile(path, content, 0o600))
		}
	}
}

// equalNodes tells why the nodes are not all well and have the same data.
func equalNodes(t *testing.T, cl *cluster.Cluster) error {
	var hashes []uint32
	revision := int64(0)
	for _, n := range cl.Nodes {
		status, err := n.Status(within(t))
		if err != nil {
			return err
		}
		if len(status.Errors) > 0 {
			return fmt.Errorf("%s: %v", n.Name, status.Errors)
		}
		if revision == 0 {
			revision = status.Header.Revision
		}
		hash, err := n.Client(t).HashKV(within(t), n.Endpoint, revision)
		if err != nil {
			return err
		}
		hashes = append(hashes, hash.Hash)
	}
	if len(slices.Compact(hashes)) != 1 {
		return errors.New("hashes differ")
	}
	return nil
}
