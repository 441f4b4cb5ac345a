package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// pool is a set of goroutines that wait for one job at a time. A job is a number
// of chunks; whoever is free claims the next one, the caller included, so a core
// that is taken away delays one chunk and not half of the work.
type pool struct {
	threads int

	busy    atomic.Bool   // a job is under way; further callers run inline
	state   atomic.Uint64 // job number in the high half, unclaimed chunks in the low
	pending atomic.Int64  // chunks not finished
	waiting atomic.Bool   // the caller sleeps on done
	parked  atomic.Int64  // workers asleep on wake
	closed  atomic.Bool

	wake chan struct{}
	done chan struct{}

	// The job. Written before state is published; read only by the holder of a
	// claimed chunk, which keeps the job alive until it is finished.
	f         func(lo, hi int)
	n, chunks int
	mu        sync.Mutex
	failed    bool
	failure   any
}

// idleSpins is how often a worker looks for a next job before it parks: tens of
// microseconds, the gap between two matrix products of a model's step.
const idleSpins = 400

var current atomic.Pointer[pool]

func init() { SetThreads(runtime.GOMAXPROCS(0)) }

// SetThreads sets how many threads, the caller's included, share the work of
// Parallel and Gemm. Values below 1 mean 1. It may be called at any time; work
// already under way ends with the threads it began with.
func SetThreads(n int) {
	n = max(n, 1)
	p := &pool{
		threads: n,
		wake:    make(chan struct{}, n),
		done:    make(chan struct{}, 1),
	}
	for range n - 1 {
		go p.work()
	}
	if old := current.Swap(p); old != nil {
		old.closed.Store(true)
		close(old.wake)
	}
}

// Threads is the number of threads set by SetThreads; GOMAXPROCS at start-up.
func Threads() int { return current.Load().threads }

// Parallel calls f on disjoint ranges that together are [0, n), each of at least
// grain elements (fewer only when n itself is), and returns when all calls have.
// It runs f(0, n) on the calling goroutine when Threads is 1, when n ≤ grain, and
// when another Parallel is under way, which covers nested calls. A panic in f is
// raised again in the caller once all chunks have ended.
func Parallel(n, grain int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	grain = max(grain, 1)
	p := current.Load()
	chunks := min(n/grain, chunksPerThread*p.threads)
	if p.threads == 1 || chunks < 2 || !p.busy.CompareAndSwap(false, true) {
		f(0, n)
		return
	}
	p.run(n, chunks, f)
}

// chunksPerThread bounds how finely a range is cut: enough to even out a slow
// core, few enough that claiming costs nothing.
const chunksPerThread = 8

// run is Parallel with exactly the given number of chunks; busy is held.
func (p *pool) run(n, chunks int, f func(lo, hi int)) {
	p.f, p.n, p.chunks = f, n, chunks
	p.pending.Store(int64(chunks))
	job := p.state.Load()>>32 + 1
	p.state.Store(job<<32 | uint64(chunks))
	p.rouse(chunks - 1)
	for p.step() {
	}
	p.join()
	failed, failure := p.failed, p.failure
	p.f, p.failed, p.failure = nil, false, nil
	p.busy.Store(false)
	if failed {
		panic(failure)
	}
}

// rouse wakes up to n parked workers.
func (p *pool) rouse(n int) {
	if p.closed.Load() {
		return
	}
	defer func() { _ = recover() }() // closed in between: the caller works alone
	for range min(n, int(p.parked.Load())) {
		select {
		case p.wake <- struct{}{}:
		default:
			return
		}
	}
}

// step claims one chunk and runs it; false when none is left.
func (p *pool) step() bool {
	for {
		s := p.state.Load()
		left := int(uint32(s))
		if left == 0 {
			return false
		}
		if p.state.CompareAndSwap(s, s-1) {
			p.call(p.chunks - left)
			return true
		}
	}
}

// call runs chunk i and counts it as finished, also when f panics.
func (p *pool) call(i int) {
	defer p.finish()
	lo, hi := i*p.n/p.chunks, (i+1)*p.n/p.chunks
	ok := false
	defer func() {
		if !ok {
			v := recover()
			p.mu.Lock()
			if !p.failed {
				p.failed, p.failure = true, v
			}
			p.mu.Unlock()
		}
	}()
	p.f(lo, hi)
	ok = true
}

func (p *pool) finish() {
	if p.pending.Add(-1) == 0 && p.waiting.CompareAndSwap(true, false) {
		p.done <- struct{}{}
	}
}

// join returns when every chunk has finished: it looks for a while, then sleeps.
func (p *pool) join() {
	for range idleSpins {
		if p.pending.Load() == 0 {
			return
		}
		pause()
	}
	p.waiting.Store(true)
	if p.pending.Load() == 0 && p.waiting.CompareAndSwap(true, false) {
		return
	}
	<-p.done
}

// work is a worker's life: claim chunks, look for the next job, park.
func (p *pool) work() {
	for {
		for p.step() {
		}
		if p.closed.Load() {
			return
		}
		if p.spin() {
			continue
		}
		p.parked.Add(1)
		if uint32(p.state.Load()) == 0 {
			<-p.wake
		}
		p.parked.Add(-1)
	}
}

// spin waits a little for a job; false when none came.
func (p *pool) spin() bool {
	for range idleSpins {
		if uint32(p.state.Load()) != 0 {
			return true
		}
		pause()
	}
	return false
}
