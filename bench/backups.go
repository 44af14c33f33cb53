package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

// The load "backup" compares backups and restores with etcd's snapshots of the same data, and with what the disk does.

const (
	backupValueBytes = 256
	// changedShare: an incremental backup is of one in so many keys.
	changedShare = 100
)

// The measures, in the order of the report; seconds, unless they say otherwise.
const (
	saveFull        = "full backup / snapshot save"
	saveAsEtcd      = "etcdctl snapshot save"
	restoreNewest   = "restore"
	saveIncremental = "incremental backup, 1 % changed"
	restoreHistory  = "restore to a revision, versions/s"
	putAlone        = "put, 256 clients, ops/s"
	putMeanwhile    = "put while backups are made, ops/s"
)

func backupMeasures() []string {
	return []string{saveFull, saveAsEtcd, restoreNewest, saveIncremental, restoreHistory, putAlone, putMeanwhile}
}

// backupsReport has one figure of each round.
type backupsReport struct {
	Keys, ValueBytes int
	WriteMiB         float64 // a second, sequentially, made durable at the end
	ReadMiB          float64
	StoredBytes      map[string]int64 // what a backup, or snapshot, takes
	Figures          map[string]map[string][]float64
}

func (b *backupsReport) add(measure, system string, figure float64) {
	if b.Figures[measure] == nil {
		b.Figures[measure] = map[string][]float64{}
	}
	b.Figures[measure][system] = append(b.Figures[measure][system], figure)
	fmt.Fprintf(os.Stderr, "%-36s %-13s %10.2f\n", measure, system, figure)
}

// backedUp is a cluster with its data, and where its backups go.
type backedUp struct {
	*cluster
	client *clientv3.Client
	report *backupsReport
	tools  string // where etcdctl and etcdutl are; empty: there is no etcd
	keys   int
}

func measureBackups(ctx context.Context, cfg config, bin binaries, report *report) error {
	b := &backupsReport{Keys: cfg.Fill, ValueBytes: backupValueBytes, StoredBytes: map[string]int64{}, Figures: map[string]map[string][]float64{}}
	report.Backups = b
	var err error
	if b.WriteMiB, b.ReadMiB, err = measureDisk(filepath.Join(cfg.Dir, "sequential"), 4*int64(cfg.Fill)*backupValueBytes); err != nil {
		return err
	}
	tools := ""
	if slices.Contains(cfg.Systems, systemEtcd) {
		tools = cfg.Dir
		root, err := moduleRoot(ctx)
		if err != nil {
			return err
		}
		for _, tool := range []string{"etcdctl", "etcdutl"} {
			if err := goBuild(ctx, root, filepath.Join(tools, tool), "go.etcd.io/etcd/"+tool+"/v3"); err != nil {
				return err
			}
		}
	}
	var all []*backedUp
	for _, system := range cfg.Systems {
		if system == systemNull {
			continue
		}
		c, err := startCluster(ctx, system, bin, filepath.Join(cfg.Dir, system+"-backup"))
		if err != nil {
			return err
		}
		defer c.stop()
		client, err := newClient(c.endpoints...)
		if err != nil {
			return err
		}
		defer client.Close()
		s := &backedUp{cluster: c, client: client, report: b, tools: tools, keys: cfg.Fill}
		if err := s.put(ctx, cfg.Fill); err != nil {
			return err
		}
		all = append(all, s)
	}
	cfg.pause(5 * time.Second) // let background work settle
	for round := range cfg.Rounds {
		for i := range all {
			s := all[(i+round)%len(all)]
			if err := s.saveAndRestore(ctx); err != nil {
				return fmt.Errorf("backups of %s: %w", s.system, err)
			}
		}
	}
	for _, s := range all {
		if err := s.foreground(ctx, cfg); err != nil {
			return fmt.Errorf("puts while backups of %s are made: %w", s.system, err)
		}
	}
	return nil
}

// put writes the first keys of the store, with values that do not compress well.
func (s *backedUp) put(ctx context.Context, keys int) error {
	const batch, writers = 100, 16
	starts := make(chan int)
	errs := make(chan error, writers)
	for range writers {
		go func() {
			var failed error
			value := make([]byte, backupValueBytes/2)
			for from := range starts {
				var ops []clientv3.Op
				for i := from; i < min(from+batch, keys); i++ {
					for at := range value {
						value[at] = byte(rand.Uint32())
					}
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("backed-up/%07d", i), hex.EncodeToString(value)))
				}
				if _, err := s.client.Txn(ctx).Then(ops...).Commit(); err != nil {
					failed = err
				}
			}
			errs <- failed
		}()
	}
	for from := 0; from < keys; from += batch {
		starts <- from
	}
	close(starts)
	var failed error
	for range writers {
		failed = errors.Join(failed, <-errs)
	}
	return failed
}

// tool runs a program and gives its output, and how many seconds it took.
func tool(ctx context.Context, program string, arguments ...string) ([]byte, float64, error) {
	began := time.Now()
	var stderr strings.Builder
	command := exec.CommandContext(ctx, program, arguments...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(arguments, " "), err, stderr.String())
	}
	return out, time.Since(began).Seconds(), err
}

// save makes a backup, or a snapshot.
func (s *backedUp) save(ctx context.Context, to string, flags ...string) (stored int64, versions int64, seconds float64, err error) {
	if s.system == systemEtcd {
		stored, seconds, err = s.saveAsEtcd(ctx, to)
		return stored, int64(s.keys), seconds, err
	}
	out, seconds, err := tool(ctx, s.bin.of(s.system), append([]string{"backup", "create", to, "--hash", "never", "--output", "json", "--endpoints", strings.Join(s.endpoints, ",")},
		flags...)...)
	if err != nil {
		return 0, 0, 0, err
	}
	var made struct {
		Stored   int64 `json:"stored_bytes"`
		Versions int64 `json:"versions"`
	}
	err = json.Unmarshal(out, &made)
	return made.Stored, made.Versions, seconds, err
}

func (s *backedUp) saveAsEtcd(ctx context.Context, to string) (stored int64, seconds float64, err error) {
	if _, seconds, err = tool(ctx, filepath.Join(s.tools, "etcdctl"), "snapshot", "save", to, "--endpoints", s.endpoints[0]); err != nil {
		return 0, 0, err
	}
	info, err := os.Stat(to)
	if err != nil {
		return 0, 0, err
	}
	return info.Size(), seconds, nil
}

// restore makes the data of one node.
func (s *backedUp) restore(ctx context.Context, from string, flags ...string) (seconds float64, err error) {
	into := filepath.Join(s.dir, "restored")
	defer os.RemoveAll(into)
	if s.system == systemEtcd {
		_, seconds, err = tool(ctx, filepath.Join(s.tools, "etcdutl"), "snapshot", "restore", from, "--data-dir", into)
	} else {
		_, seconds, err = tool(ctx, s.bin.of(s.system), append([]string{"restore", from, "--data-dir", into}, flags...)...)
	}
	return seconds, err
}

func (s *backedUp) saveAndRestore(ctx context.Context) error {
	to := filepath.Join(s.dir, "saved")
	defer os.RemoveAll(to)
	stored, versions, seconds, err := s.save(ctx, to)
	if err != nil {
		return err
	}
	s.report.StoredBytes[s.system] = stored
	s.report.add(saveFull, s.system, seconds)
	if seconds, err = s.restore(ctx, to); err != nil {
		return err
	}
	s.report.add(restoreNewest, s.system, seconds)
	if s.system == systemEtcd {
		return nil
	}
	if s.tools != "" {
		file := filepath.Join(s.dir, "saved.db")
		_, seconds, err := s.saveAsEtcd(ctx, file)
		if err != nil {
			return err
		}
		s.report.add(saveAsEtcd, s.system, seconds)
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	if err := s.put(ctx, max(1, s.keys/changedShare)); err != nil {
		return err
	}
	_, more, seconds, err := s.save(ctx, to, "--incremental")
	if err != nil {
		return err
	}
	s.report.add(saveIncremental, s.system, seconds)
	if seconds, err = s.restore(ctx, to, "--keep-revisions"); err != nil {
		return err
	}
	s.report.add(restoreHistory, s.system, float64(versions+more)/seconds)
	return nil
}

// foreground measures puts alone, and while one backup after the other is made.
func (s *backedUp) foreground(ctx context.Context, cfg config) error {
	l := loads[slices.IndexFunc(loads, func(l load) bool { return l.name == "put-leader" })]
	for range cfg.Rounds {
		alone, err := s.measure(ctx, l, cfg)
		if err != nil {
			return err
		}
		s.report.add(putAlone, s.system, alone.Rate)
		meanwhile, stop := context.WithCancel(ctx)
		var saving sync.WaitGroup
		var failed error
		begun := make(chan struct{})
		saving.Go(func() {
			to := filepath.Join(s.dir, "meanwhile")
			for close(begun); meanwhile.Err() == nil && failed == nil; os.RemoveAll(to) {
				if _, _, _, err := s.save(meanwhile, to); meanwhile.Err() == nil {
					failed = err
				}
			}
		})
		<-begun
		busy, err := s.measure(ctx, l, cfg)
		stop()
		saving.Wait()
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		s.report.add(putMeanwhile, s.system, busy.Rate)
	}
	return nil
}

// measureDisk is how quickly a file is written and made durable, and read again when nothing of it is in memory. MiB a second.
func measureDisk(path string, bytes int64) (write, read float64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(rand.Uint32())
	}
	blocks := max(1, bytes/int64(len(block)))
	began := time.Now()
	for range blocks {
		if _, err := f.Write(block); err != nil {
			return 0, 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, 0, err
	}
	write = float64(blocks) / time.Since(began).Seconds()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	for range blocks {
		if _, err := io.ReadFull(f, block); err != nil {
			return 0, 0, err
		}
	}
	return write, float64(blocks) / time.Since(began).Seconds(), nil
}

func (r *report) printBackups(w io.Writer) {
	b := r.Backups
	if b == nil {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nbackups of %d keys of %d bytes\tsystem\tmedian\tlowest\thighest\tx etcd\n", b.Keys, b.ValueBytes)
	for _, measure := range backupMeasures() {
		for _, system := range systemNames() {
			figures := slices.Sorted(slices.Values(b.Figures[measure][system]))
			if len(figures) == 0 {
				continue
			}
			beside := "-"
			if etcd := slices.Sorted(slices.Values(b.Figures[measure][systemEtcd])); len(etcd) > 0 {
				beside = fmt.Sprintf("%.2f", figures[len(figures)/2]/etcd[len(etcd)/2])
			}
			fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%.2f\t%s\n", measure, system, figures[len(figures)/2], figures[0], figures[len(figures)-1], beside)
		}
	}
	for _, system := range systemNames() {
		if stored, there := b.StoredBytes[system]; there {
			fmt.Fprintf(t, "a full one takes, MiB\t%s\t%.1f\n", system, float64(stored)/(1<<20))
		}
	}
	fmt.Fprintf(t, "the disk alone, sequentially, MiB/s\t\twrite %.0f\tread %.0f\n", b.WriteMiB, b.ReadMiB)
	t.Flush()
}
