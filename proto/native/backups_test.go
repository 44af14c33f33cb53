package native

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

func beginExample() BackupBegin {
	return BackupBegin{
		Cluster: 1 << 63, Member: 7, Revision: 1 << 40, Compacted: 99, Time: 1_700_000_000_000_000_001, Partition: "--initial-shards=2",
		Shards: []BackupShard{{ID: 1, Bytes: 1 << 33}, {ID: 900}}, Leases: []BackupLease{{ID: -1, TTLSeconds: 5}, {ID: 3, TTLSeconds: 60}},
		Users: []kv.UserRow{{Class: 'h', Row: []byte{1}}, {Class: 'u', Name: "alice", Row: []byte("row")}},
	}
}

func TestBackupMessages(t *testing.T) {
	begin, request, part := beginExample(), ExportRequest{Shard: 7, FromRevision: 1 << 41, FromSub: 3 << 30, Revision: 1 << 42}, ExportPart{Compacted: 5, Versions: []byte("x"), Done: true}
	hold := HoldPart{LimitSeconds: 3600, Over: true}
	for name, c := range map[string]struct {
		encoded []byte
		decode  func([]byte) (any, error)
		want    any
	}{
		"begin":   {begin.Append(nil), func(in []byte) (any, error) { return DecodeBackupBegin(in) }, begin},
		"request": {request.Append(nil), func(in []byte) (any, error) { return DecodeExportRequest(in) }, request},
		"part":    {part.Append(nil), func(in []byte) (any, error) { return DecodeExportPart(in) }, part},
		"hold":    {hold.Append(nil), func(in []byte) (any, error) { return DecodeHoldPart(in) }, hold},
	} {
		if got, err := c.decode(c.encoded); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		later := protowire.AppendString(protowire.AppendTag(bytes.Clone(c.encoded), 99, protowire.BytesType), "x")
		if got, err := c.decode(later); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s, with what a later version adds: %+v, %v", name, got, err)
		}
		if _, err := c.decode(c.encoded[:len(c.encoded)-1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, cut off: %v", name, err)
		}
	}
}

func FuzzDecodeBackupMessages(f *testing.F) {
	begin := beginExample()
	f.Add(begin.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if begin, err := DecodeBackupBegin(in); err == nil {
			if again, err := DecodeBackupBegin(begin.Append(nil)); err != nil || !reflect.DeepEqual(again, begin) {
				t.Fatalf("%+v became %+v, %v", begin, again, err)
			}
		}
		if request, err := DecodeExportRequest(in); err == nil {
			if again, err := DecodeExportRequest(request.Append(nil)); err != nil || again != request {
				t.Fatalf("%+v became %+v, %v", request, again, err)
			}
		}
		if _, err := DecodeExportPart(in); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	})
}
