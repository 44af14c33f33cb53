package campaign

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Runner runs specs somewhere. An error is not about the run: there is no report then. The trace, if not nil,
// gets the lines of the trace while the run goes on.
type Runner interface {
	Run(ctx context.Context, spec Spec, trace io.Writer) (Report, error)
}

// PoolOptions say how workers are started.
type PoolOptions struct {
	// Program is the command line of a worker: a program that calls Serve on its standard input and output.
	Program     []string
	Environment []string // nil: that of this process
	Jobs        int      // worker processes at a time, at least 1
	Limits      Limits   // of each run
}

// Pool runs specs in worker processes, which it starts when they are needed and replaces when they die. Safe for
// concurrent use.
type Pool struct {
	options PoolOptions
	free    chan *process // Jobs places; nil: a process is yet to be started

	closed sync.Once
}

// NewPool makes a pool; it must be closed.
func NewPool(options PoolOptions) (*Pool, error) {
	if len(options.Program) == 0 || options.Jobs < 1 {
		return nil, errors.New("campaign: a pool needs a program and at least one job")
	}
	p := &Pool{options: options, free: make(chan *process, options.Jobs)}
	for range options.Jobs {
		p.free <- nil
	}
	return p, nil
}

// Run waits for a free worker and lets it run the spec.
func (p *Pool) Run(ctx context.Context, spec Spec, trace io.Writer) (Report, error) {
	select {
	case <-ctx.Done():
		return Report{}, ctx.Err()
	case worker := <-p.free:
		report, worker, err := p.runIn(ctx, worker, job{Spec: spec, Trace: trace != nil, Limits: p.options.Limits}, trace)
		p.free <- worker
		return report, err
	}
}

// runIn gives back the worker that is free afterwards; nil if it did not survive.
func (p *Pool) runIn(ctx context.Context, worker *process, j job, trace io.Writer) (Report, *process, error) {
	if worker == nil {
		var err error
		if worker, err = startProcess(p.options.Program, p.options.Environment); err != nil {
			return Report{}, nil, err
		}
	}
	report, alive, err := worker.run(ctx, j, trace)
	if !alive {
		worker = nil
	}
	return report, worker, err
}

// Close ends the workers. It waits for runs that are going on; end their contexts first.
func (p *Pool) Close() {
	p.closed.Do(func() {
		for range p.options.Jobs {
			if worker := <-p.free; worker != nil {
				worker.kill()
			}
		}
	})
}
