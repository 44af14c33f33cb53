package serveflags

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/quoratedb/quorate/autocompact"
	"github.com/quoratedb/quorate/server"
)

// upkeepFlags are about what nodes do by themselves to keep the store small and sound.
func upkeepFlags() []*Flag {
	return []*Flag{
		{Name: "auto-compaction-mode", Group: groupUpkeep, Default: "periodic",
			Usage: "What --auto-compaction-retention counts: time or revisions. The same on every node.", Limits: "periodic, revision",
			set: func(s *settings, value string) error {
				_, err := parseCompaction(value, "0")
				s.compactionMode = value
				return err
			}},
		{Name: "auto-compaction-retention", Group: groupUpkeep, Default: "0",
			Usage:  "How much history is kept; what is older is compacted by itself. A number alone is of hours, or of revisions; 0 keeps all. The same on every node.",
			Limits: "hours or a duration from 10ms on; or a number of revisions",
			set: func(s *settings, value string) error {
				if value == "" {
					return fmt.Errorf("it is empty")
				}
				s.compactionRetention = value
				return nil
			}},
		{Name: "backup-hold-limit", Group: groupUpkeep, Kind: Duration, Default: "2h0m0s", Ours: true,
			Usage:  "For how long backups may keep this node from deleting history that was compacted since they began. Clients see it as compacted at once.",
			Limits: "from 1s on; 0: not at all",
			set:    setDurationOrNever(time.Second, func(s *settings, d time.Duration) { s.options.Node.BackupHoldLimit = d })},
		{Name: "corrupt-check-time", Group: groupUpkeep, Kind: Duration, Default: "0s",
			Usage:  "How often the leader has all nodes compare what they have. A node that differs is named by the alarm CORRUPT, and stops. Each time everything is read. The same on every node.",
			Limits: "from 10ms on; 0: never",
			set: func(s *settings, value string) error {
				if d, err := time.ParseDuration(value); err == nil && d == 0 {
					return nil
				}
				return setDuration(10*time.Millisecond, func(s *settings, d time.Duration) { s.options.Node.CorruptCheckInterval = d })(s, value)
			}},
		{Name: "initial-corrupt-check", Group: groupUpkeep, Kind: Bool, Default: "false", Ours: true,
			Usage: "Compare what this node has with the others before it serves clients, and end if it differs.",
			set: func(s *settings, value string) error {
				s.options.Node.InitialCorruptCheck = value != "false"
				return nil
			}},
	}
}

// auditFlags are about the audit log.
func auditFlags() []*Flag {
	node := func(s *settings) *server.AuditOptions { return &s.options.Node.Audit }
	return []*Flag{
		{Name: "audit-log", Group: groupAudit, Ours: true,
			Usage: "Where what clients do at this node is recorded, as lines of JSON. Empty: nowhere.", Limits: "a file; - for standard output; syslog",
			set: setText(func(s *settings) *string { return &node(s).Log })},
		{Name: "audit-policy", Group: groupAudit, Ours: true,
			Usage: "File that says what is recorded. Without one: whatever may change something.", Limits: "JSON",
			set: setText(func(s *settings) *string { return &node(s).PolicyFile })},
		{Name: "audit-max-size", Group: groupAudit, Kind: Unsigned, Ours: true,
			Usage: "MiB after which the next file is begun. Without the flag: 100.", Limits: "1 to 1048576",
			set: setNumber(1, 1<<20, func(s *settings, n int64) { node(s).MaxFileBytes = n << 20 })},
		{Name: "audit-max-files", Group: groupAudit, Kind: Unsigned, Ours: true,
			Usage: "Files that are kept, the one that is written included. Without the flag: 10.", Limits: "1 to 10000",
			set: setNumber(1, 10_000, func(s *settings, n int64) { node(s).MaxFiles = int(n) })},
		{Name: "audit-full", Group: groupAudit, Default: "drop", Ours: true,
			Usage: "What becomes of operations that cannot be recorded, because the disk is full for example: they go unrecorded, and are counted, or they are refused.", Limits: "drop, refuse",
			set: setOneOf([]string{"drop", "refuse"}, func(s *settings, w string) { node(s).Refuse = w == "refuse" })},
	}
}

// finishUpkeep makes one policy of two flags.
func (s *settings) finishUpkeep() (err error) {
	s.options.Cluster.AutoCompaction, err = parseCompaction(s.compactionMode, s.compactionRetention)
	return err
}

// parseCompaction reads the values of etcd's two flags. A number alone is of hours in mode periodic.
func parseCompaction(mode, retention string) (autocompact.Policy, error) {
	periodic := autocompact.Mode(mode) == autocompact.Periodic
	switch {
	case mode == "":
		return autocompact.Policy{}, errors.New("--auto-compaction-mode is undefined: give periodic or revision")
	case !periodic && autocompact.Mode(mode) != autocompact.Revision:
		return autocompact.Policy{}, fmt.Errorf("unknown --auto-compaction-mode %q: give periodic or revision", mode)
	}
	number, err := strconv.ParseInt(retention, 10, 64)
	switch {
	case err == nil && number >= 0 && !periodic:
		return autocompact.Policy{Mode: autocompact.Revision, Revisions: number}, nil
	case !periodic:
		return autocompact.Policy{}, fmt.Errorf("--auto-compaction-retention=%s: in mode revision it is a number of revisions from 0 on", retention)
	case err == nil && number >= 0 && number <= maxHours:
		return autocompact.Policy{Mode: autocompact.Periodic, Period: time.Duration(number) * time.Hour}, nil
	}
	period, err := time.ParseDuration(retention)
	if err != nil {
		return autocompact.Policy{}, fmt.Errorf("--auto-compaction-retention=%s: in mode periodic it is a number of hours, or a duration such as 30m", retention)
	}
	p := autocompact.Policy{Mode: autocompact.Periodic, Period: period}
	return p, p.Validate()
}

// maxHours is what a time.Duration holds.
const maxHours = int64(1<<63-1) / int64(time.Hour)
