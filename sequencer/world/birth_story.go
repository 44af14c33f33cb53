package world

import "fmt"

// story tells a way.
func (b *Birth) story(way []action) (lines []string) {
	w := b.begin()
	for i, a := range way {
		text := b.describe(&w, a)
		b.do(&w, a)
		lines = append(lines, fmt.Sprintf("%2d. %s", i+1, text))
	}
	return lines
}

func (b *Birth) describe(w *birthWorld, a action) string {
	seen := b.sequencers.View(w.sequencer)
	switch a.kind {
	case bornWrite:
		return fmt.Sprintf("the leader takes %d and proposes a write", seen.next)
	case bornAsk:
		return "the leader of shard 2 asks for a number"
	case bornHear:
		return "the sequencer gets " + requestText(b.frames.request(w.node.up.frames[0]))
	case bornGet:
		return "the leader of shard 2 gets " + replyText(b.frames.reply(w.node.down.frames[0]))
	case bornCommit:
		if e := w.tail[0]; e.limit != 0 {
			return fmt.Sprintf("limit %d is committed", e.limit)
		}
		return fmt.Sprintf("the write at %d is committed and answered", w.tail[0].rev)
	case bornPropose:
		return fmt.Sprintf("limit %d is proposed", w.want)
	case bornRead:
		return fmt.Sprintf("a read is answered at %d", b.present(w))
	case bornTransfer:
		return fmt.Sprintf("the new leader takes over, at limit %d", w.limit)
	case bornGoOn:
		return "the hand-over fails; the leader goes on"
	case bornRetarget:
		return "the leader of shard 2 hears of the new sequencer"
	case bornFail:
		text := "FAULT: another leader takes over"
		for i, e := range w.tail[:w.length] {
			what := map[bool]string{true: "keeps", false: "drops"}[a.a>>i&1 == 1]
			text += fmt.Sprintf(", %s %s", what, map[bool]string{true: fmt.Sprintf("limit %d", e.limit), false: fmt.Sprintf("the write at %d", e.rev)}[e.limit != 0])
		}
		return text
	case bornHandOver:
		return "a hand-over begins"
	case bornRefuse:
		return fmt.Sprintf("FAULT: the core of consensus does not take limit %d", w.want)
	}
	return "?"
}
