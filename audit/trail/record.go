// Package trail writes the records of an audit log: lines of JSON, through a bounded queue, to a file that is rotated, to standard output or to syslog. What is
// recorded is decided by package audit.
package trail

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/quoratedb/quorate/kv"
)

// Record is an operation of a client, and what became of it. It has no values.
type Record struct {
	Time      time.Time // when it was answered
	Principal string    // who asked; empty: nobody has said
	Proof     string    // how that was proved: none, certificate, token
	// Certificate is the common name of the certificate that the client showed; empty: none.
	Certificate string
	Client      string // its address
	Operation   string // name of the RPC
	Keys        []kv.Span
	MoreKeys    int // that Keys leaves out
	Revision    kv.Revision
	Outcome     string // code of gRPC: OK, or why not
}

// line is a Record in JSON. The order of its fields is that of what one looks for.
type line struct {
	Time        string `json:"time"`
	Node        string `json:"node"`
	Principal   string `json:"principal"`
	Proof       string `json:"proof"`
	Certificate string `json:"certificate,omitempty"`
	Client      string `json:"client"`
	Operation   string `json:"operation"`
	Keys        []span `json:"keys,omitempty"`
	MoreKeys    int    `json:"more_keys,omitempty"`
	Revision    int64  `json:"revision,omitempty"`
	Outcome     string `json:"outcome"`
}

// span is keys: text if it is UTF-8, otherwise in base64.
type span struct {
	Key    string `json:"key,omitempty"`
	Key64  []byte `json:"key_base64,omitempty"`
	End    string `json:"end,omitempty"`
	End64  []byte `json:"end_base64,omitempty"`
	ToLast bool   `json:"to_last,omitempty"` // up to the last key that there is
}

func spanOf(s kv.Span) (out span) {
	if utf8.Valid(s.Start) {
		out.Key = string(s.Start)
	} else {
		out.Key64 = s.Start
	}
	switch {
	case bytes.Equal(s.End, []byte{0}):
		out.ToLast = true
	case utf8.Valid(s.End):
		out.End = string(s.End)
	default:
		out.End64 = s.End
	}
	return out
}

// appendLine appends the record as one line.
func (r *Record) appendLine(dst []byte, node string) []byte {
	l := line{
		Time: r.Time.UTC().Format(time.RFC3339Nano), Node: node, Principal: r.Principal, Proof: r.Proof, Certificate: r.Certificate, Client: r.Client,
		Operation: r.Operation, MoreKeys: r.MoreKeys, Revision: int64(r.Revision), Outcome: r.Outcome,
	}
	for _, s := range r.Keys {
		l.Keys = append(l.Keys, spanOf(s))
	}
	out, _ := json.Marshal(l) // which has nothing that fails
	return append(append(dst, out...), '\n')
}
