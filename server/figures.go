package server

import (
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// figure says how a field of a part's Metrics is shown. Its kind follows from the name: what ends with _total is counted.
type figure struct{ field, name, help string }

// The figures of each part. TestEveryFigureIsShown fails for a field that has none.
var (
	driverFigures = []figure{
		{"Rounds", "driver_rounds_total", "Rounds of the driver."},
		{"Syncs", "driver_syncs_total", "Syncs of the log."},
		{"Proposals", "driver_proposals_total", "Log entries proposed by this node."},
		{"EntriesApplied", "driver_entries_applied_total", "Log entries applied."},
		{"EngineFlushes", "driver_flushes_total", "Flushes of the state engine by which runs of any number of groups became durable."},
		{"DirtyBytes", "driver_dirty_bytes", "Memory of changed keys that are not written to the state engine yet, of all groups."},
		{"CacheBytes", "driver_cached_bytes", "Memory of cached newest versions, of all groups."},
		{"MessagesRefused", "driver_messages_refused_total", "Messages of peers that made no sense."},
		{"GroupsFailed", "driver_groups_failed_total", "Groups whose replica on this node stopped while the node went on."},
		{"FramesDropped", "driver_frames_dropped_total", "Consensus frames dropped because a peer's buffer was full or it was not connected."},
		{"BacklogBytes", "driver_backlog_bytes", "Log entries that other nodes have sent and that are not durable here yet, of all groups."},
		{"MessagesPutOff", "driver_messages_put_off_total", "Messages with log entries that were not taken, because too many were not durable. They come again."},
		{"RequestsUnwanted", "driver_requests_unwanted_total", "Requests that were not evaluated because nobody waited for them any more."},
		{"RequestsBeside", "driver_requests_beside_total", "Requests that were evaluated beside the rounds, because they looked at more than a round may."},
		{"LongestRound", "driver_longest_round_seconds", "Longest round of the driver since the start: how long heartbeats had to wait."},
		{"RequestsQueued", "driver_requests_queued", "Requests that are not answered."},
		{"RequestBytes", "driver_requests_queued_bytes", "Their sizes."},
		{"Leases", "leases", "Leases that the replicas of this node have."},
		{"LeasesExpired", "leases_expired_total", "Leases that ended because nobody kept them alive, at the leaders on this node."},
		{"UndecidedTransactions", "transactions_undecided", "Transactions over several shards that replicas of this node have not heard the end of, each counted for each of its shards. Their keys wait."},
		{"PreparedBytes", "transactions_prepared_bytes", "What they take in memory."},
		{"TransactionRecords", "transactions_records", "Transactions over several shards that replicas of this node remember: those, and others until all of their shards have heard the end."},
		{"EffectsInFlight", "driver_effects_in_flight", "Changes of keys that leaders on this node have decided, and that were not applied yet when the last entry was."},
		{"EffectsApplied", "driver_effects_applied_total", "Changes of keys applied."},
		{"EntriesVoid", "driver_entries_void_total", "Log entries without effect: what they were decided on never took effect, because the leader changed."},
		{"ScrubPasses", "scrub_passes_total", "Times that everything on disk was read again."},
		{"ScrubBytes", "scrub_bytes_total", "Bytes read again to find damage."},
		{"ScrubFailures", "scrub_failures_total", "Scrubs that ended early, by damage or because something could not be read."},
	}
	livenessFigures = []figure{
		{"HeartbeatsSent", "heartbeats_sent_total", "Heartbeats sent to other nodes."},
		{"HeartbeatsReceived", "heartbeats_received_total", "Heartbeats of other nodes."},
		{"PromisesReceived", "promises_received_total", "Answers to heartbeats: promises not to help another leader for some time."},
		{"Ignored", "heartbeats_ignored_total", "Heartbeats and promises that were late, came twice, or were for another process of this node."},
		{"Lapses", "node_lapses_total", "Times that another node was not heard of for longer than it may be silent."},
		{"Restores", "node_restores_total", "Times that such a node was heard of again."},
		{"Pauses", "pauses_total", "Times that this process stood still for so long that it could not answer for its promises."},
	}
	gatewayFigures = []figure{
		{"CallsInFlight", "calls_in_flight", "Calls that are not answered, and lists that are being sent."},
		{"ForwardedBytes", "forwarded_bytes", "Sizes of the requests on the way to the leader, or waiting for one."},
		{"QueuedCalls", "calls_without_leader", "Calls that wait for a leader."},
		{"SentCalls", "calls_at_leader", "Calls that wait for the answer of the leader on another node."},
		{"LocalReads", "reads_local_total", "Reads answered from this node's state."},
		{"LocalWrites", "writes_local_total", "Writes given to this node's replica."},
		{"ForwardedCalls", "forwarded_requests_total", "Requests sent to a leader on another node."},
		{"ServedCalls", "forwarded_requests_served_total", "Requests answered for other nodes."},
		{"LocalRenewals", "lease_renewals_in_memory_total", "Keep-alives of leases that this node answered as the leader without an entry in the log."},
		{"RefusedCalls", "forwarded_requests_refused_total", "Requests that other nodes forwarded and that were refused here: beyond a limit or without room, none that a node forwards, or for a shard that is not here; and frames that make no sense."},
		{"LostAnswers", "forwarded_answers_lost_total", "Answers to other nodes that could neither be sent nor kept."},
		{"BarrierCount", "read_barriers_total", "Times that a leader was asked what a read has to wait for."},
		{"RetryCount", "calls_repeated_total", "Calls that a node refused because it does not lead, and that were tried again."},
		{"UnknownOutcomes", "calls_outcome_unknown_total", "Writes that ended without a word whether they took effect."},
		{"Timeouts", "calls_timed_out_total", "Calls that ended at their time limit."},
		{"PresentReads", "reads_of_the_present_total", "Times that a read had to learn how far a store of several shards had come."},
		{"QuestionCount", "reads_questions_total", "Questions asked for that: one serves all reads that came before it."},
		{"ArrivalCount", "reads_delayed_total", "Times that such a read had to wait until the replica here had come to a revision."},
		{"HeldReads", "reads_held_total", "Times that such a read had to wait for the end of a transaction over several shards."},
		{"Transactions", "transactions_begun_total", "Writes over several shards that this node began to coordinate."},
		{"TransactionsDone", "transactions_done_total", "Those that were answered: they took effect, or asked for none."},
		{"TransactionsRefused", "transactions_refused_total", "Those that were refused, without effect."},
		{"TransactionsLate", "transactions_late_total", "Those that came to the end of their time, or whose client went away."},
		{"TransactionsMoved", "transactions_moved_total", "Those that ended with a leadership, without effect. Most begin again at the next leader."},
		{"TransactionsUnknown", "transactions_unknown_total", "Those that ended without a word whether they took effect."},
		{"RecoveryQuestions", "transactions_recovery_questions_total", "Questions asked to end transactions that others had left behind."},
	}
	issuerFigures = []figure{
		{"RevisionsIssued", "revisions_issued_total", "Revisions that this node issued to the shards of a store of several."},
		{"BatchesAsked", "revisions_asked_total", "Times that a leader on this node asked for revisions, wherever they are issued."},
		{"MultisAsked", "revisions_asked_for_transactions_total", "Revisions of transactions over several shards that this node asked another one for, or waited for."},
		{"SessionsBegun", "revisions_sessions_total", "Conversations begun with the node that issues revisions. Each change of leader of the system shard begins one."},
		{"HoldsRefused", "revisions_elsewhere_total", "Batches of writes for which a leader on this node could not take revisions at once, without a message."},
	}
	watchFigures = []figure{
		{"Streams", "watch_streams", "Watch streams of clients."},
		{"Watches", "watches", "Watches of clients."},
		{"Groups", "watch_groups", "Groups of equal watches that get changes as they come; the others catch up."},
		{"DispatchedRevision", "watch_revision", "Revision up to which changes were handed out."},
		{"EventCount", "watch_changes_total", "Changes looked at while somebody watched."},
		{"DeliveryCount", "watch_deliveries_total", "Changes handed out, once for each group."},
		{"LaggingCount", "watch_lagging_total", "Times that a group fell behind because its stream was full."},
		{"GapCount", "watch_gaps_total", "Times that the changes were interrupted, by a snapshot for example, so that all watches caught up."},
		{"HistoryReadCount", "watch_history_reads_total", "Steps of catching up that were read from the state."},
		{"RingReadCount", "watch_ring_reads_total", "Steps of catching up that were read from memory."},
		{"RingBytes", "watch_ring_bytes", "Recent changes held in memory."},
		{"WalkCount", "watch_walks_total", "Watches, groups and streams looked at one by one: what watching costs beside the changes."},
		{"Mergers", "watch_mergers", "Sets of several shards whose changes are put into one order for watches."},
		{"AsideRevisions", "watch_aside_revisions", "Revisions above one that a transaction may yet get: watches get them when it is decided."},
		{"WaitingRecords", "watch_waiting_records", "Log entries whose changes wait for other shards of such a set: the most that any set has."},
		{"StalledMergers", "watch_stalled_mergers", "Such sets in which something waits for a shard."},
		{"StalledShard", "watch_stalled_shard", "The shard that one of them has waited for longest; 0: nothing waits."},
		{"StalledFor", "watch_stalled_seconds", "For how long: a shard without a majority of its nodes holds back every watch over it and others."},
		{"QuestionCount", "watch_questions_total", "Questions how far shards had come, so that watches need not wait for shards without writes."},
	}
	peerFigures = []figure{
		{"FramesSent", "peer_frames_sent_total", "Frames put into the buffers of other nodes."},
		{"BytesSent", "peer_sent_bytes_total", "Their sizes, with headers."},
		{"FramesReceived", "peer_frames_received_total", "Frames received from other nodes."},
		{"BytesReceived", "peer_received_bytes_total", "Their sizes, with headers."},
		{"FramesRefused", "peer_frames_refused_total", "Frames that found no connection, or a full buffer."},
		{"BytesDropped", "peer_dropped_bytes_total", "Bytes that were in a buffer when its connection broke."},
		{"Flushes", "peer_flushes_total", "Writes to connections by the driver."},
		{"FlushesPartial", "peer_flushes_partial_total", "Such writes that the connection did not take as a whole."},
		{"Connects", "peer_connects_total", "Connections made to other nodes."},
		{"StreamsSent", "peer_streams_sent_total", "Snapshots sent to other nodes."},
		{"StreamsReceived", "peer_streams_received_total", "Snapshots received from other nodes."},
		{"Callers", "peer_callers", "Connections on the port for nodes whose caller has not said yet who it is."},
		{"CallersDropped", "peer_callers_dropped_total", "Such connections that were cut off because there were too many."},
	}
	clientFigures = []figure{
		{"Open", "client_connections", "Connections of clients."},
		{"Limit", "client_connections_limit", "How many connections of clients there may be."},
		{"Refused", "client_connections_refused_total", "Connections of clients that were closed at once because there were as many as there may be."},
		{"Silent", "client_connections_silent_total", "Connections of clients that were closed because they said nothing."},
	}
	memoryFigures = []figure{
		{"UsedBytes", "client_memory_bytes", "What clients make the node hold."},
		{"LimitBytes", "client_memory_limit_bytes", "How much that may be."},
		{"Mistakes", "client_memory_mistakes_total", "Mistakes in counting client memory. Always 0, or there is a bug: please report it."},
		{"Refused", "client_memory_refused_total", "Calls, or parts of them, for which there was no memory."},
	}
	snapshotFigures = []figure{
		{"UnderWay", "client_snapshots", "Snapshots that are being made for clients, or sent to them."},
		{"Sent", "client_snapshots_sent_total", "Snapshots that clients were sent whole."},
		{"Failed", "client_snapshots_failed_total", "Snapshots that clients asked for and were not sent whole: they were refused, went away, or something failed."},
		{"SentBytes", "client_snapshots_sent_bytes_total", "Bytes of snapshots sent to clients."},
	}
	holdFigures = []figure{
		{"Holders", "backup_holds", "Backups for which this node keeps what compactions would delete."},
		{"Expired", "backup_holds_expired_total", "Times that it did so for as long as it may, and went on deleting."},
	}
	comparisonFigures = []figure{
		{"Checks", "corruption_checks_total", "Times that this node had the data of all nodes compared."},
		{"Incomplete", "corruption_checks_incomplete_total", "Times that it could not do so with all nodes and shards: one was away, or behind."},
		{"Differences", "corruption_differences_total", "Shards in which nodes had other data than others."},
	}
	auditFigures = []figure{
		{"Records", "audit_records_total", "Records written into the audit log."},
		{"Dropped", "audit_dropped_total", "Records that found no room in the queue of the audit log, or were left when it was closed."},
		{"Failures", "audit_failures_total", "Writes of the audit log that failed. They are tried again."},
		{"Queued", "audit_queued", "Records that wait to be written, and those of operations under way."},
	}
	engineFigures = []figure{
		{"DiskBytes", "state_disk_bytes", "Size of the state engine's files."},
		{"UnflushedBytes", "state_unflushed_bytes", "What is in the state engine and in no file yet, uncompressed."},
		{"LiveBytes", "state_live_bytes", "Estimate of the live data in the state engine."},
		{"MemoryBytes", "state_memory_bytes", "Memory of the state engine's memtables and cache."},
		{"FlushCount", "state_flushes_total", "Memtables of the state engine that were written to files."},
		{"CompactionCount", "state_merges_total", "Times that the state engine merged files."},
		{"WriteStalls", "state_write_stalls_total", "Times that writes had to wait for the state engine."},
		{"ReadAmplification", "state_read_amplification", "How many files of the state engine a read may have to look into."},
		{"CompactionDebtSize", "state_merge_debt_bytes", "Estimate of what the state engine has to merge until its files are in order."},
	}
	logFigures = []figure{
		{"SegmentCount", "log_segments", "Segments of the log, those for later use among them."},
		{"SizeBytes", "log_disk_bytes", "Their size."},
		{"PinnedBytes", "log_pinned_bytes", "Size of the segments that hold entries that are still needed."},
		{"WriteCount", "log_writes_total", "Writes to the log."},
		{"WriteBytes", "log_written_bytes_total", "Bytes written to the log."},
		{"SyncCount", "log_syncs_total", "Syncs that the log asked the disk for."},
		{"AsideBytes", "log_aside_bytes", "Entries of groups that have failed: the log carries them along for the next process."},
		{"OldestPinning", "log_oldest_group", "The group whose entries keep the oldest segment, but for those that have failed; 0 if there is none."},
	}
)

// kindOf tells whether a name is of something that is counted.
func kindOf(name string) prometheus.ValueType {
	const counted = "_total"
	if len(name) > len(counted) && name[len(name)-len(counted):] == counted {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// showAll shows the fields of a part's Metrics.
func showAll(show func(name, help string, v float64), metrics any, figures []figure) {
	of := reflect.ValueOf(metrics)
	for _, f := range figures {
		value := of.FieldByName(f.field)
		if took, ok := value.Interface().(time.Duration); ok {
			value = reflect.ValueOf(took.Seconds())
		}
		show(f.name, f.help, value.Convert(reflect.TypeFor[float64]()).Float())
	}
}
