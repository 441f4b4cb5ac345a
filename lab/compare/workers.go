package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// A worker is a process that reads one task as JSON from its standard input, does it and
// writes the answer as JSON to its standard output. Its standard input stays open while
// it works; when it closes, whoever wanted the result is gone, and the worker stops.

// answer is what a worker writes: a result, or what went wrong.
type answer struct {
	Result *Result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// Work is the worker's side.
func Work(ctx context.Context, in io.Reader, out io.Writer) error {
	dec := json.NewDecoder(in)
	var t Task
	if err := dec.Decode(&t); err != nil {
		return fmt.Errorf("compare: worker: reading its task: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with in, which is the process's
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	r, err := Do(ctx, t)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a := answer{Result: &r}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	return json.NewEncoder(out).Encode(a)
}

// errTask marks an error that a worker reported in words.
var errTask = errors.New("worker failed")

// death is the end of a worker that gave no answer.
type death struct {
	how   error
	words string // the ends of its standard error
}

func (d *death) Error() string {
	if d.words == "" {
		return fmt.Sprintf("its worker died: %v", d.how)
	}
	return fmt.Sprintf("its worker died: %v; its last words: %s", d.how, d.words)
}

func (d *death) Unwrap() error { return d.how }

// grace is how long a worker may take to stop.
const grace = 10 * time.Second

// hire starts a worker on one task and waits for its answer.
func hire(ctx context.Context, cmd *exec.Cmd, t Task) (Result, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return Result{}, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return Result{}, fmt.Errorf("compare: starting a worker: %w", err)
	}
	var out bytes.Buffer
	var words ends
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &words, grace
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("compare: starting a worker: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		in.Close()
		time.AfterFunc(grace, func() { _ = cmd.Process.Kill() })
	})
	defer stop()
	_, _ = in.Write(append(raw, '\n')) // a worker that cannot read it dies, which Wait tells
	err = cmd.Wait()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	var a answer
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &a)
	}
	if err != nil {
		return Result{}, lost(ctx, err, words.String())
	}
	if a.Result == nil {
		return Result{}, fmt.Errorf("%w: %s", errTask, a.Error)
	}
	return *a.Result, nil
}

// interrupted is the exit code of a process that a signal of the terminal stopped.
const interrupted = 130

// lost tells a worker that died from one that the same Ctrl-C stopped as this process,
// which may hear of it a moment later.
func lost(ctx context.Context, how error, words string) error {
	var exit *exec.ExitError
	if errors.As(how, &exit) && exit.ExitCode() == interrupted {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
	return &death{how, words}
}

// ends keeps the beginning of what is written to it, where a crash says what it is, and
// the end.
type ends struct {
	mu         sync.Mutex
	head, tail []byte
	lost       bool // something between them
}

const endBytes = 300

func (e *ends) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(p), endBytes-len(e.head))
	e.head, e.tail = append(e.head, p[:n]...), append(e.tail, p[n:]...)
	if over := len(e.tail) - endBytes; over > 0 {
		e.tail, e.lost = append([]byte(nil), e.tail[over:]...), true
	}
	return len(p), nil
}

func (e *ends) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	between := ""
	if e.lost {
		between = " … "
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(e.head)+between+string(e.tail), "")), " ")
}

// floor hands out places to work, in the order they are asked for: at most so many at
// once, and together at most so many bytes. One that alone needs more than that works
// when nobody else does.
type floor struct {
	places int
	memory int64 // 0 for no limit

	mu      sync.Mutex
	busy    int
	held    int64
	waiting []*waiter
}

type waiter struct {
	bytes int64
	ready chan struct{}
}

// enter waits for a place; leave gives it back.
func (f *floor) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	w := &waiter{bytes, make(chan struct{})}
	f.mu.Lock()
	f.waiting = append(f.waiting, w)
	f.admit()
	f.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
		if f.withdraw(w) {
			return nil, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		f.leave(w)
		return nil, err
	}
	return func() { f.leave(w) }, nil
}

// withdraw takes a waiter out of the line, unless it was let in meanwhile.
func (f *floor) withdraw(w *waiter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.Index(f.waiting, w)
	if at < 0 {
		return false
	}
	f.waiting = slices.Delete(f.waiting, at, at+1)
	f.admit()
	return true
}

func (f *floor) leave(w *waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy, f.held = f.busy-1, f.held-w.bytes
	f.admit()
}

// admit lets in from the head of the line whoever fits.
func (f *floor) admit() {
	for len(f.waiting) > 0 {
		w := f.waiting[0]
		full := f.busy >= f.places || f.memory > 0 && f.held+w.bytes > f.memory
		if full && f.busy > 0 {
			return
		}
		f.waiting = f.waiting[1:]
		f.busy, f.held = f.busy+1, f.held+w.bytes
		close(w.ready)
	}
}
