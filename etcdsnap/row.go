package etcdsnap

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

// Version is a version of a key: a row of the history.
type Version struct {
	// KeyValue is the key as it was then. Of a deletion only Key and ModRevision count.
	kv.KeyValue
	// Position of the change within its revision.
	Position int64
	Deleted  bool
}

// The names of etcd's buckets, and of the rows that matter.
const (
	bucketKey   = "key"
	bucketMeta  = "meta"
	bucketLease = "lease"
	bucketAuth  = "auth"
	bucketUsers = "authUsers"
	bucketRoles = "authRoles"

	rowScheduled      = "scheduledCompactRev"
	rowFinished       = "finishedCompactRev"
	rowStorageVersion = "storageVersion"
	rowIndex          = "consistent_index"
	rowTerm           = "term"
	rowAuthEnabled    = "authEnabled"
	rowAuthRevision   = "authRevision"
	rowClusterVersion = "clusterVersion"
)

// emptyBuckets are there because etcd looks into them.
var emptyBuckets = []string{"alarm", "members", "members_removed", bucketAuth, bucketUsers, bucketRoles}

const (
	revisionSize  = 8 + 1 + 8
	separator     = '_'
	markTombstone = 't'
)

// The fields of mvccpb.KeyValue and of leasepb.Lease.
const (
	fieldKey     protowire.Number = 1
	fieldCreate  protowire.Number = 2
	fieldMod     protowire.Number = 3
	fieldVersion protowire.Number = 4
	fieldValue   protowire.Number = 5
	fieldLease   protowire.Number = 6

	fieldLeaseID  protowire.Number = 1
	fieldLeaseTTL protowire.Number = 2
)

var errMalformed = errors.New("the message is malformed")

func appendRevision(dst []byte, rev kv.Revision, position int64, tombstone bool) []byte {
	dst = append(binary.BigEndian.AppendUint64(dst, uint64(rev)), separator)
	dst = binary.BigEndian.AppendUint64(dst, uint64(position))
	if tombstone {
		dst = append(dst, markTombstone)
	}
	return dst
}

func parseRevision(row []byte) (rev kv.Revision, position int64, tombstone bool, err error) {
	tombstone = len(row) == revisionSize+1 && row[revisionSize] == markTombstone
	if len(row) != revisionSize && !tombstone || row[8] != separator {
		return 0, 0, false, fmt.Errorf("%x is not the key of a version", row)
	}
	rev, position = kv.Revision(binary.BigEndian.Uint64(row)), int64(binary.BigEndian.Uint64(row[9:]))
	if rev < 0 || position < 0 {
		return 0, 0, false, fmt.Errorf("%x is the key of a version at a negative revision", row)
	}
	return rev, position, tombstone, nil
}

func appendNumber(dst []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(v))
}

func appendText(dst []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendKeyValue(dst []byte, v *Version) []byte {
	dst = appendText(dst, fieldKey, v.Key)
	if v.Deleted {
		return dst
	}
	dst = appendNumber(dst, fieldCreate, int64(v.CreateRevision))
	dst = appendNumber(dst, fieldMod, int64(v.ModRevision))
	dst = appendNumber(dst, fieldVersion, v.Version)
	dst = appendText(dst, fieldValue, v.Value)
	return appendNumber(dst, fieldLease, int64(v.Lease))
}

func appendLease(dst []byte, l kv.Lease) []byte {
	return appendNumber(appendNumber(dst, fieldLeaseID, int64(l.ID)), fieldLeaseTTL, l.TTLSeconds)
}

// eachField gives the fields of a message to fn: of a number or of bytes; others are passed over.
func eachField(message []byte, fn func(field protowire.Number, number int64, text []byte)) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(message); n >= 0 {
				fn(field, int64(v), nil)
			}
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(message); n >= 0 {
				fn(field, 0, v)
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
	}
	return nil
}

// parseKeyValue reads a version. Its slices alias the row.
func parseKeyValue(row []byte) (v kv.KeyValue, err error) {
	err = eachField(row, func(field protowire.Number, number int64, text []byte) {
		switch field {
		case fieldKey:
			v.Key = text
		case fieldCreate:
			v.CreateRevision = kv.Revision(number)
		case fieldMod:
			v.ModRevision = kv.Revision(number)
		case fieldVersion:
			v.Version = number
		case fieldValue:
			v.Value = text
		case fieldLease:
			v.Lease = kv.LeaseID(number)
		}
	})
	return v, err
}

func parseLease(row []byte) (l kv.Lease, err error) {
	err = eachField(row, func(field protowire.Number, number int64, _ []byte) {
		switch field {
		case fieldLeaseID:
			l.ID = kv.LeaseID(number)
		case fieldLeaseTTL:
			l.TTLSeconds = number
		}
	})
	return l, err
}
