//go:build !unix

package campaign

import "time"

var processBegan = time.Now()

// processorTime is real time here: it is never less than what the process has used.
func processorTime() time.Duration { return time.Since(processBegan) }
