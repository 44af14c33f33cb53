package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func someMembers() *Members {
	return &Members{Cluster: 0xabc, Node: 0xdef, Founders: []kv.NodeRecord{
		{ID: 1, Name: "a", PeerURLs: []string{"http://h:1", "http://h:2"}}, {ID: 0xdef, Name: "b", PeerURLs: []string{"http://h:3"}}}}
}

func mustRead(t *testing.T, path string) *Members {
	t.Helper()
	m, err := ReadMembers(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a cluster began with is written down once, by the first start of a version that knows of the file.
func TestMembersAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	if m := mustRead(t, path); m != nil {
		t.Fatalf("a directory that is not there remembers %+v", m)
	}
	options := optionsIn(path)
	mustClose(t, mustOpen(t, options)) // as versions before did
	if m := mustRead(t, path); m != nil || !HasIdentity(path) {
		t.Fatalf("%+v", m)
	}
	options.Members = someMembers()
	dir := mustOpen(t, options)
	if m := mustRead(t, path); !reflect.DeepEqual(m, someMembers()) {
		t.Fatalf("%+v", m)
	}
	changed := someMembers()
	changed.Added, changed.Removed, changed.List = true, true, []byte{0, 1, 2, 0xff}
	if err := dir.WriteMembers(changed); err != nil {
		t.Fatal(err)
	}
	mustClose(t, dir)
	mustClose(t, mustOpen(t, options))
	if m := mustRead(t, path); !reflect.DeepEqual(m, changed) {
		t.Fatalf("what the directory remembered was replaced: %+v", m)
	}
}

// A first start that was interrupted between the two files.
func TestMembersWithoutIdentity(t *testing.T) {
	path := t.TempDir()
	options := optionsIn(path)
	options.Members = someMembers()
	mustClose(t, mustOpen(t, options))
	if err := os.Remove(filepath.Join(path, identityFile)); err != nil {
		t.Fatal(err)
	}
	if HasIdentity(path) {
		t.Fatal("it has an identity")
	}
	if dir := mustOpen(t, options); !dir.Fresh {
		t.Fatal("it is not fresh")
	} else {
		mustClose(t, dir)
	}
}

func TestDamagedMembers(t *testing.T) {
	path := t.TempDir()
	content, err := encodeMembers(someMembers())
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"empty": "", "no JSON": "x", "another name": strings.Replace(string(content), `"b"`, `"c"`, 1), "a field more": strings.Replace(string(content), `"cluster"`, `"clutter"`, 1),
		"too long": strings.Repeat(" ", maxMembersBytes+1), "cut": string(content[:len(content)/2]),
	} {
		if err := os.WriteFile(filepath.Join(path, membersFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadMembers(path); !errors.Is(err, ErrCorruptMembers) || errors.Is(err, ErrCorruptIdentity) || !strings.Contains(err.Error(), "delete the file") {
			t.Errorf("%s: %v", what, err)
		}
	}
	nothing := &Members{Cluster: 1, Node: 2}
	if content, err = encodeMembers(nothing); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeMembers(content); !errors.Is(err, ErrCorruptMembers) {
		t.Errorf("without founders: %v", err)
	}
}

func FuzzMembers(f *testing.F) {
	content, err := encodeMembers(someMembers())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := decodeMembers(content)
		if err != nil {
			return
		}
		again, err := encodeMembers(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeMembers(again); err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%+v became %+v: %v", m, got, err)
		}
	})
}
