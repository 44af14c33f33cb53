package paxos

// FromRecord is what tests read the log with.
var FromRecord = fromRecord
