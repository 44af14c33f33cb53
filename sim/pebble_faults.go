package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// FaultCrashFile cuts Node's power at the Amount-th operation from now by which its log or its engine changes a file or makes it durable, whichever of
// their goroutines it comes from. For the real log and engine only. What the process does afterwards is not on the disk, and it learns of
// nothing that it could acknowledge: all further operations fail.
const FaultCrashFile FaultKind = "crash-file"

// FaultCrashRecycle cuts Node's power at the Amount-th such operation after its log has begun to use a segment, most of which were used before: in
// between, the last sync of the segment before may be all that there is. For the real log only.
const FaultCrashRecycle FaultKind = "crash-recycle"

var errPowerCut = errors.New("sim: the power was cut")

// powerCut takes the picture that a crash at a file operation leaves.
type powerCut struct {
	mu   sync.Mutex
	fuse int // operations; 0: none is planned
	// afterSegment is what the fuse is set to when the log begins to use a segment; 0: nothing is planned for that.
	afterSegment int
	random       *rand.Rand
	found        *vfs.MemFS // what was found after the cut; nil: there was none
}

// plan has the power cut at one of the next operations, unless that is planned already.
func (p *powerCut) plan(operations int, random *rand.Rand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fuse == 0 && p.found == nil {
		p.fuse, p.random = operations, random
	}
}

// planSegment has it cut after the log has begun to use its next segment.
func (p *powerCut) planSegment(operations int, random *rand.Rand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fuse == 0 && p.found == nil {
		p.afterSegment, p.random = operations, random
	}
}

// over forgets the cut, and returns what it left.
func (p *powerCut) over() *vfs.MemFS {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.found
	p.fuse, p.afterSegment, p.found = 0, 0, nil
	return found
}

func (p *powerCut) happened() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found != nil
}

// wrap lets the cut happen in a file system.
func (p *powerCut) wrap(fs *vfs.MemFS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpLock {
			return nil
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.found == nil && p.fuse > 0 {
			if p.fuse--; p.fuse == 0 {
				p.found = crashClone(fs, p.random)
			}
		} else if op.Kind == errorfs.OpFileWriteAt && op.Offset == 0 && strings.HasPrefix(op.Path, "log/") {
			p.fuse, p.afterSegment = p.afterSegment, 0
		}
		if p.found != nil {
			return errPowerCut
		}
		return nil
	}))
}

func (w *world) injectFile(f *Fault, n *node, random *rand.Rand) bool {
	plan := (*powerCut).plan
	switch f.Kind {
	case FaultCrashFile:
	case FaultCrashRecycle:
		plan = (*powerCut).planSegment
	default:
		return false
	}
	if d, ok := n.disks.(*pebbleDisks); ok && n.up {
		plan(&d.cut, max(1, int(f.Amount)), survival(random))
		n.crashPlan = crashPlan{down: f.Duration}
	}
	return true
}

// hasNoPower tells whether the node's power was cut at a file operation.
func (n *node) hasNoPower() bool {
	d, ok := n.disks.(*pebbleDisks)
	return ok && d.cut.happened()
}

// restorePower ends what was planned for the node's power. A process whose power was cut, and who has not noticed yet, ends here.
func (n *node) restorePower() {
	d, ok := n.disks.(*pebbleDisks)
	switch {
	case !ok:
	case d.cut.happened():
		n.crash()
	default:
		d.cut.over()
	}
}

// rotFile flips a bit somewhere in a table of the engine.
func (w *world) rotFile(n *node, d *pebbleDisks, random *rand.Rand, why string) {
	if !n.up {
		return
	}
	names, err := d.fs.List("state")
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".sst") })
	slices.Sort(names)
	if err != nil || len(names) == 0 || !w.mayDamage(n, why) {
		return
	}
	if err := flipBit(d.fs, "state/"+names[random.IntN(len(names))], random); err != nil {
		w.fail(Crash, "a file of node %d could not be damaged: %v", n.id, err)
	}
	w.mark("bit flipped in a file")
}

func flipBit(fs *vfs.MemFS, name string, random *rand.Rand) error {
	file, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() > 0 {
		at, one := random.Int64N(info.Size()), make([]byte, 1)
		if _, err = file.ReadAt(one, at); err == nil {
			one[0] ^= 1 << random.IntN(8)
			_, err = file.WriteAt(one, at)
		}
	}
	return errors.Join(err, file.Sync(), file.Close())
}
