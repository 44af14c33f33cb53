package watch

// readers are the streams that read of the state, so many at a time: what a reader has at hand before it knows what to reserve for it is then
// bounded for all streams of a node together. Who waits for a turn holds no lock and has nothing set aside; who has it waits for locks and the disk only.
type readers chan struct{}

// enter waits for a turn; leave ends it.
func (r readers) enter() { r <- struct{}{} }
func (r readers) leave() { <-r }
