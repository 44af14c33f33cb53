package txn

import (
	"time"

	"github.com/quoratedb/quorate/kv"
)

// respondent is a shard that is asked.
type respondent struct {
	open int // questions that are not answered
	// line is who waits for room to ask: the place of the shard among the job's participants.
	line []placeInLine
	// silent: it has not answered the last question; since then it has answered none, and the last one failed at a time.
	silent        bool
	since, failed time.Duration
}

type placeInLine struct {
	job *job
	i   int
}

func (r *Recovery) respondent(id kv.ShardID) *respondent {
	of := r.shards[id]
	if of == nil {
		of = &respondent{}
		r.shards[id] = of
	}
	return of
}

// ask asks a participant, if it is its turn, at once or when there is room.
func (r *Recovery) ask(j *job, i int) {
	id, p := j.participants[i], &j.parts[i]
	if p.waiting || p.done || p.again > r.now || !j.asks(id, r.options.Shard) {
		return
	}
	of := r.respondent(id)
	if of.open >= r.options.MaxQuestions {
		if !j.queued[i] {
			j.queued[i] = true
			of.line = append(of.line, placeInLine{j, i})
		}
		return
	}
	of.open++
	p.waiting = true
	body := kv.CommitRequest{ID: j.id, Shard: id, Ballot: j.ballot, Decision: j.decision}
	if j.step == promising {
		body.Participants = j.participants
	}
	r.asks = append(r.asks, Ask{Shard: id, Request: &kv.Request{Kind: kindOfStep[j.step], Commit: &body}})
}

// closed takes note of an answer, or that there is none, and lets the next ones in the line ask.
func (r *Recovery) closed(of *respondent) {
	of.open--
	for len(of.line) > 0 && of.open < r.options.MaxQuestions {
		next := of.line[0]
		of.line[0] = placeInLine{}
		of.line = of.line[1:]
		next.job.queued[next.i] = false
		if !next.job.ended {
			r.ask(next.job, next.i)
		}
	}
}

// heard takes note of whether the shard has answered.
func (of *respondent) heard(now time.Duration, answered bool) {
	if answered {
		of.silent = false
		return
	}
	if of.failed = now; !of.silent {
		of.silent, of.since = true, now
	}
}
