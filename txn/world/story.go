package world

import "fmt"

// story tells a way.
func (c *Cluster) story(way []action) (lines []string) {
	w := c.begin()
	for i, a := range way {
		text := c.describe(&w, a)
		before := w
		c.do(&w, a)
		lines = append(lines, fmt.Sprintf("%2d. %s%s", i+1, text, c.consequences(&before, &w)))
	}
	return lines
}

func coreName(from uint8) string {
	if from <= maxTerms {
		return fmt.Sprintf("coordinator %d", from)
	}
	at := from - 1 - maxTerms
	return fmt.Sprintf("recovery %d of shard %d", at%maxTerms+1, at/maxTerms+1)
}

func (c *Cluster) describe(w *world, a action) string {
	i := int(a.a)
	question := func() string { return c.asks.keys[w.messages[i].ask].String() }
	from := func() string { return coreName(w.messages[i].from) }
	id := func() string { return fmt.Sprintf("%d.%d", c.id(i).Term, c.id(i).Number) }
	switch a.kind {
	case doBegin:
		return fmt.Sprintf("client %d begins", i+1)
	case doExecute:
		after := *w
		reply := c.execute(&after, w.messages[i].ask)
		return fmt.Sprintf("%s asks: %s; %s", from(), question(), c.replies.keys[reply])
	case doGrant:
		return fmt.Sprintf("shard 1 evaluates for %s: %s; it has its locks, and is not in the log", from(), question())
	case doReply:
		return fmt.Sprintf("%s hears of its question (%s): %s", from(), question(), c.replies.keys[w.messages[i].reply])
	case doTimeout:
		return fmt.Sprintf("%s hears nothing of its question (%s)", from(), question())
	case doNumber:
		return fmt.Sprintf("%s gets revision %d", id(), w.rev+1)
	case doTick:
		return fmt.Sprintf("coordinator %d looks at the time", i+1)
	case doRecover:
		return fmt.Sprintf("recovery %d of shard %d looks at what is undecided", w.term[i]+1, i+1)
	case doStop:
		return fmt.Sprintf("coordinator %d hears that it is deposed", i+1)
	case doLoseAsk:
		return fmt.Sprintf("FAULT: a question of %s is delayed: %s", from(), question())
	case doLoseReply:
		return fmt.Sprintf("FAULT: the answer to a question of %s is lost: %s", from(), question())
	case doDouble:
		return fmt.Sprintf("FAULT: a question of %s will come twice: %s", from(), question())
	case doLate:
		after := *w
		reply := c.execute(&after, w.late[i])
		return fmt.Sprintf("late comes: %s; %s", c.asks.keys[w.late[i]], c.replies.keys[reply])
	case doFailover:
		return fmt.Sprintf("FAULT: shard %d has another leader, in term %d", i+1, w.term[i]+2)
	case doLose:
		return fmt.Sprintf("FAULT: shard %d is lost for ever", i+1)
	case doCancel:
		return fmt.Sprintf("FAULT: client %d goes away", i+1)
	case doDeadline:
		return fmt.Sprintf("FAULT: the time of the clients of coordinator %d is over", i+1)
	case doRefuse:
		return fmt.Sprintf("FAULT: there is no revision for %s", id())
	}
	return "?"
}

// consequences tells what else has changed.
func (c *Cluster) consequences(before, after *world) (text string) {
	for i := range c.Clients {
		if now := after.clients[i]; now.status != before.clients[i].status {
			switch now.status {
			case succeeded:
				text += fmt.Sprintf("; client %d is told success at %d", i+1, now.rev)
			case failed:
				text += fmt.Sprintf("; client %d is told that nothing is done", i+1)
			case unsure:
				text += fmt.Sprintf("; client %d does not know", i+1)
			}
		}
	}
	return text
}
