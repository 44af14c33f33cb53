package backup

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// FuzzEachVersion: whatever a node sends is versions, or damaged.
func FuzzEachVersion(f *testing.F) {
	s := newStore(1, 1)
	s.write(30)
	var b Batch
	for _, v := range s.history {
		b.Add(v)
	}
	f.Add(b.Bytes)
	f.Fuzz(func(t *testing.T, in []byte) {
		var again Batch
		err := EachVersion(in, func(v *Version) error {
			if len(v.Key) == 0 || v.ModRevision < 0 || v.CreateRevision < 0 || v.CreateRevision > v.ModRevision {
				t.Fatalf("%+v", v)
			}
			again.Add(v)
			return nil
		})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		var first, second Digest
		for of, d := range map[*Digest][]byte{&first: in, &second: again.Bytes} {
			if err := EachVersion(d, func(v *Version) error { of.Add(v); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if first != second {
			t.Fatalf("%v became %v", first, second)
		}
	})
}

// FuzzDataFile: whatever a file has is read to its end, or is damaged.
func FuzzDataFile(f *testing.F) {
	s := newStore(1, 1)
	s.write(30)
	w := newFileWriter()
	for _, v := range s.history {
		w.addVersion(v)
	}
	w.addLease(kv.Lease{ID: kv.LeaseID(-7), TTLSeconds: 9})
	content, _ := w.finish()
	f.Add(content)
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, ahead := range []int{0, 1 << 20} {
			r, err := newFileReader(bytes.NewReader(in), int64(len(in)), ahead)
			for err == nil {
				_, _, err = r.next()
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzManifest: whatever a manifest says, it is refused or fits together.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"id":"a","cluster_id":"7","revision":3,"history_from_revision":1,"shards":[{"shard":1,"whole":true}],"digest":{"versions":0,"bytes":0,"sum":"0"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := &Backup{content: append(documentHeader(kindManifest, documentFormat, body, nil), body...)}
		if err := b.decode("a"); err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		content, err := encodeDocument(kindManifest, &b.Manifest, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := (&Backup{content: content}).decode("a"); err != nil {
			t.Fatal(err)
		}
	})
}
