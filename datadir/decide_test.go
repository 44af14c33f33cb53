package datadir

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestDecide is the table of what a directory may hold, and what is done then.
func TestDecide(t *testing.T) {
	owner := Identity{Cluster: 1, Node: 2, Name: "a", Protocol: Protocol{Name: "raft"}}
	identity := func(format int, disk uint64, lost bool) []byte {
		i := owner
		i.Format, i.Disk, i.Lost = format, disk, lost
		content, err := encodeIdentity(i)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	good, torn := identity(Format, 5, false), identity(Format, 5, false)[:20]
	note := []byte("damaged-1\nrot\n")
	for _, c := range []struct {
		name     string
		found    contents
		existing bool
		repair   bool
		want     string
	}{
		{"nothing", contents{}, false, true, "fresh, written: disk 9, lost false"},
		{"nothing, in a cluster that exists", contents{}, true, true, "fresh, written: disk 9, lost true"},
		{"a note without an identity is not read", contents{note: note}, false, true, "fresh, written: disk 9, lost false"},
		{"data", contents{identity: good, data: true}, false, true, "left: disk 5, lost false"},
		{"data, in a cluster that exists", contents{identity: good, data: true}, true, true, "left: disk 5, lost false"},
		{"data of a node that lost what it had", contents{identity: identity(Format, 5, true), data: true}, false, true, "left: disk 5, lost true"},
		{"no data any more", contents{identity: good}, false, true, "written: disk 9, lost false"},
		{"the first format", contents{identity: identity(1, 0, false), data: true}, false, true, ErrOlderFormat.Error()},
		{"the format before", contents{identity: identity(2, 5, false), data: true}, false, true, ErrOlderFormat.Error()},
		{"the format before, without data", contents{identity: identity(2, 5, false)}, false, true, "written: disk 9, lost false"},
		{"the format before, damaged", contents{identity: identity(2, 5, false), data: true, note: note}, false, true, "aside damaged-1 (rot), written: disk 9, lost true"},
		{"noted damage", contents{identity: good, data: true, note: note}, false, true, "aside damaged-1 (rot), written: disk 9, lost true"},
		{"noted damage is set aside in any case", contents{identity: good, note: note}, false, false, "aside damaged-1 (rot), written: disk 9, lost true"},
		{"a note that says nothing", contents{identity: good, note: []byte("x")}, false, true, "does not say where"},
		{"a note that leads elsewhere", contents{identity: good, note: []byte("damaged-/../../x\nrot")}, false, true, "does not say where"},
		{"a torn identity", contents{identity: torn, data: true}, false, true, "noted, aside damaged-20260102T030405.000Z (" + ErrCorruptIdentity.Error()},
		{"a torn identity, noted already", contents{identity: torn, note: note}, false, true, "aside damaged-1 (rot), written: disk 9, lost true"},
		{"a torn identity and no repair", contents{identity: torn, data: true}, false, false, ErrCorruptIdentity.Error()},
		{"an identity that cannot be read", contents{unreadable: ErrCorruptIdentity}, false, false, ErrCorruptIdentity.Error()},
		{"the format of one shard", contents{identity: identity(formatOneShard, 5, false), data: true}, false, true, "left: disk 5, lost false"},
		{"a newer format is never set aside", contents{identity: []byte(`{"format":9}`)}, false, true, ErrNewerFormat.Error()},
	} {
		p, err := decide(c.found, Options{Owner: owner, Existing: c.existing, Repair: c.repair, NewDisk: 9}, created)
		if got := p.String(err); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	sharded := owner
	sharded.Partition, sharded.Commit = "--initial-shards=2", "2pc"
	for _, found := range []contents{{}, {identity: identity(formatOneShard, 5, false)}} {
		p, err := decide(found, Options{Owner: sharded, Repair: true, NewDisk: 9}, created)
		if found.identity == nil && (err != nil || p.identity.Format != Format) || found.identity != nil && !errors.Is(err, ErrOtherPartition) {
			t.Errorf("two shards on %+v: %+v, %v", found, p, err)
		}
	}
	stranger := owner
	stranger.Node = 3
	if _, err := decide(contents{identity: good, note: note}, Options{Owner: stranger, Repair: true}, created); !errors.Is(err, ErrOtherNode) {
		t.Errorf("damaged data of another node: %v", err)
	}
}

func (p plan) String(err error) string {
	if err != nil {
		return err.Error()
	}
	var text string
	if p.fresh {
		text += "fresh, "
	}
	if p.note != nil {
		text += "noted, "
	}
	if p.aside != "" {
		text += fmt.Sprintf("aside %s (%s), ", p.aside, p.reason)
	}
	if p.write {
		text += "written"
	} else {
		text += "left"
	}
	return fmt.Sprintf("%s: disk %d, lost %v", text, p.identity.Disk, p.identity.Lost)
}
