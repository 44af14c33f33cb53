package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/quoratedb/quorate/api/etcd"
	"github.com/quoratedb/quorate/audit"
	"github.com/quoratedb/quorate/audit/trail"
	"github.com/quoratedb/quorate/kv"
)

// AuditOptions say what is recorded of what clients do at a node, and where.
type AuditOptions struct {
	// Log is a file, "-" for standard output, or "syslog". Empty: nothing is recorded.
	Log string
	// PolicyFile says what is recorded, in JSON (audit.Policy). Empty: whatever may change something.
	PolicyFile string
	// MaxFileBytes is when a file is full, MaxFiles how many there are. 0: 100 MiB, 10.
	MaxFileBytes int64
	MaxFiles     int
	// Refuse: what cannot be recorded is not done. Otherwise it is done, and its record is dropped and counted.
	Refuse bool
}

func (o AuditOptions) validate() error {
	switch {
	case o.Log == "" && o != AuditOptions{}:
		return badf("--audit-policy, --audit-max-size, --audit-max-files and --audit-full have no meaning without --audit-log")
	case o.MaxFileBytes < 0 || o.MaxFiles < 0:
		return badf("--audit-max-size and --audit-max-files must not be below 0")
	}
	return nil
}

// policy reads the policy.
func (o AuditOptions) policy() (p audit.Policy, err error) {
	if o.PolicyFile == "" {
		return p, nil
	}
	text, err := os.ReadFile(o.PolicyFile)
	if err != nil {
		return p, fmt.Errorf("--audit-policy: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&p)
	if _, more := decoder.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("there is more behind the object")
	}
	if err == nil {
		err = p.Validate(etcd.IsOperation)
	}
	if err != nil {
		return p, fmt.Errorf("--audit-policy=%s: %w", o.PolicyFile, err)
	}
	return p, nil
}

// auditor judges and records what clients do.
type auditor struct {
	policy audit.Policy
	trail  *trail.Trail
	refuse bool
}

// openAudit opens the audit log, if there is to be one.
func (s *Server) openAudit() error {
	o := s.options.Node.Audit
	if o.Log == "" {
		return nil
	}
	policy, err := o.policy()
	if err != nil {
		return err
	}
	t, err := trail.Open(trail.Options{
		To: o.Log, Node: s.options.Node.Name, MaxFileBytes: o.MaxFileBytes, MaxFiles: o.MaxFiles,
		Failed: func(err error) {
			s.logger.Error("the audit log cannot be written; it is tried again, and meanwhile operations are refused or go unrecorded (--audit-full)", "error", err)
		},
		Recovered: func(dropped int64) {
			s.logger.Info("the audit log can be written again", "dropped_since_start", dropped)
		},
	})
	if err != nil {
		return err
	}
	s.auditor = &auditor{policy: policy, trail: t, refuse: o.Refuse}
	return nil
}

const (
	// maxAuditKeys and maxAuditKeyBytes bound what a record names of the keys of an operation.
	maxAuditKeys     = 64
	maxAuditKeyBytes = 8 << 10
)

// Begin implements etcd.Auditor.
func (a *auditor) Begin(attempt etcd.Attempt) (end func(etcd.Ending), refused bool) {
	if !a.policy.Wants(attempt.Operation, attempt.Writes, attempt.Keys) {
		return nil, false
	}
	if !a.trail.Reserve() {
		if !a.refuse {
			a.trail.Drop()
		}
		return nil, a.refuse
	}
	r := trail.Record{
		Principal: attempt.Principal, Proof: "none", Certificate: attempt.Certificate, Client: attempt.Client, Operation: attempt.Operation,
	}
	switch {
	case attempt.Principal != "" && attempt.Principal != attempt.Certificate:
		r.Proof = "token"
	case attempt.Certificate != "":
		r.Proof = "certificate"
	}
	r.Keys, r.MoreKeys = someKeys(attempt.Keys)
	return func(e etcd.Ending) {
		r.Time, r.Revision, r.Outcome = time.Now(), e.Revision, e.Outcome
		a.trail.Put(r)
	}, false
}

// someKeys copies the first keys, as many as a record has room for. A copy does not hold the request's values in memory.
func someKeys(all []kv.Span) (some []kv.Span, more int) {
	left := maxAuditKeyBytes
	for i, s := range all {
		if left -= len(s.Start) + len(s.End); left < 0 || i == maxAuditKeys {
			return some, len(all) - i
		}
		some = append(some, kv.Span{Start: bytes.Clone(s.Start), End: bytes.Clone(s.End)})
	}
	return some, 0
}

// forAPI is the auditor as the API takes it: a nil interface if there is none.
func (a *auditor) forAPI() etcd.Auditor {
	if a == nil {
		return nil
	}
	return a
}

func (a *auditor) metrics() trail.Metrics {
	if a == nil {
		return trail.Metrics{}
	}
	return a.trail.Metrics()
}

func (a *auditor) close() error {
	if a == nil {
		return nil
	}
	return a.trail.Close()
}
