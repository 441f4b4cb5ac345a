// Package grad differentiates: a reverse-mode tape over matrices, the operations
// that models are made of, gradients of whole or partial parameters, activation
// checkpointing, and the ledger that accounts for every byte.
//
// Values are f32 matrices [rows, cols]; a batch of sequences is its tokens one
// below another. An operation keeps only what its backward needs: a frozen
// weight keeps nothing of its input, a weight whose columns train keeps those
// columns. Values that no backward needs are freed when their Scope closes.
//
// The bits of values and gradients do not depend on the number of threads: loops are
// split where the order of a sum does not notice. Second derivatives are products of
// the Hessian with a direction, see HVP.
//
// Layers and models stand above, in nn and model; optimizers consume gradients
// through a Sink.
package grad

import (
	"fmt"
	"slices"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Value is a matrix [Rows, Cols] on a tape. Data is row-major and belongs to the
// tape: it is recycled once its scope is closed and no backward needs it. So is the
// Value itself when the tape is reset, but for a Leaf: do not use it from then on.
type Value struct {
	Data       []float32
	Rows, Cols int

	grad   []float32 // gathers while Backward runs; nil before the first contribution
	tan    *Value    // its tangent while the tape is in motion; nil for zero
	needs  bool      // a gradient must flow to here
	saves  int       // recorded operations that will read Data in their backward
	closed bool      // its scope has ended: free at saves == 0
	owned  bool      // Data came from the arena
	param  *Param    // set on a parameter's leaf: the gradient goes there
	remake remaker   // fills Data again from what it came from: not held until a backward reads it
	from   []*Value  // what remake reads
}

// Grad returns the gathered gradient, for leaves after Backward; nil if none.
func (v *Value) Grad() []float32 { return v.grad }

// Needs reports whether a gradient flows to v.
func (v *Value) Needs() bool { return v.needs }

// Sink receives a parameter's gradient once a step, as soon as it is complete:
// no part of the remaining backward pass reads that parameter, so the sink may
// update it at once. g has the part's shape and is recycled when Sink returns.
type Sink func(p *Param, g *tensor.Tensor) error

// Tape records operations and runs them backwards. A Tape is used by one
// goroutine; operations spread over all cores by themselves. Its buffers and all that
// it notes are reused from step to step, so keep one tape for a whole run: a step like
// the last one makes next to no garbage.
type Tape struct {
	Ledger *Ledger

	*shared
	nodes     []node
	recording bool
	made      []*Value // of all open scopes, the innermost's last
}

// shared is what a tape and the sub-tapes of its checkpoints have in common.
type shared struct {
	// BF16 makes matrix products of layers round their operands to bfloat16 and sum in
	// f32, forward and backward: faster where the processor has it. Weights, sums,
	// norms, attention and the loss stay in f32.
	BF16 bool

	// Int8 lets products with packed weights that nothing is recorded of round the rows
	// that they meet to 8 bits, see kernel.MulInt8: the way to decode at memory's speed.
	// So do products with dense parameters that say Int8.
	// What trains, and what is differentiated, is always multiplied in f32.
	Int8 bool

	// Watch, when set, sees what the gradients of layers are made of, see Factors. Its
	// first error ends the backward pass as a sink's does.
	Watch func(f Factors) error

	arena    arena
	values   slab[Value] // until Reset
	ints     slab[int]   // until Reset
	subs     []*Tape     // idle tapes of checkpoints and chunks
	handed   tensor.Tensor
	motion   *motion  // set while tangents are computed
	rng      uint64   // state of the dropout stream
	counting bool     // a checkpoint's first pass: count uses of parameters, record nothing
	replay   bool     // a checkpoint's second pass: uses are counted already
	promised []*Param // uses counted in checkpoints' first passes, forgotten if the second never comes
	deferred []*Param // gradients complete inside a chunked loss, to be sunk in Backward
	hold     bool     // defer instead of sinking
	sink     Sink
	err      error
}

// NewTape returns a tape that records. ledger may be nil.
func NewTape(ledger *Ledger) *Tape {
	return &Tape{Ledger: ledger, shared: &shared{}, recording: true}
}

// Seed sets the stream of random numbers that Dropout draws from.
func (tp *Tape) Seed(seed uint64) { tp.rng = seed }

// Training reports whether the pass is one that will be differentiated: the tape
// records, or a checkpoint runs for the first time.
func (tp *Tape) Training() bool { return tp.recording || tp.counting }

// Recording reports whether operations are being recorded.
func (tp *Tape) Recording() bool { return tp.recording }

// NoGrad runs f without recording: nothing is kept for a backward pass.
func (tp *Tape) NoGrad(f func()) {
	was := tp.recording
	tp.recording = false
	f()
	tp.recording = was
}

// alloc returns a dirty buffer of n values, counted as kind k.
func (tp *Tape) alloc(k Kind, n int) []float32 {
	tp.Ledger.Add(k, 4*int64(n))
	return tp.arena.get(n)
}

func (tp *Tape) zeros(k Kind, n int) []float32 {
	buf := tp.alloc(k, n)
	clear(buf)
	return buf
}

func (tp *Tape) release(k Kind, buf []float32) {
	tp.Ledger.Add(k, -4*int64(len(buf)))
	tp.arena.put(buf)
}

// adopt puts v under the care of the current scope.
func (tp *Tape) adopt(v *Value) *Value {
	tp.made = append(tp.made, v)
	return v
}

// blankValue returns a Value without data.
func (tp *Tape) blankValue(rows, cols int) *Value {
	v := &tp.values.take(1)[0]
	v.Rows, v.Cols = rows, cols
	return v
}

// newValue returns an uninitialised activation.
func (tp *Tape) newValue(rows, cols int) *Value {
	v := tp.blankValue(rows, cols)
	v.Data, v.owned = tp.alloc(Activations, rows*cols), true
	return tp.adopt(v)
}

// take returns a value that continues in x's buffer, which x gives up. When some
// backward reads x's data, or x does not own it, the data is copied instead.
func (tp *Tape) take(x *Value) *Value {
	if x.owned && x.saves == 0 {
		y := tp.blankValue(x.Rows, x.Cols)
		y.Data, y.owned, x.owned = x.Data, true, false
		return tp.adopt(y)
	}
	y := tp.newValue(x.Rows, x.Cols)
	copy(y.Data, x.Data)
	return y
}

// Const returns a value over data, which no gradient flows to.
func (tp *Tape) Const(data []float32, rows, cols int) *Value {
	if len(data) != rows*cols {
		panic(fmt.Sprintf("grad: %d values for [%d, %d]", len(data), rows, cols))
	}
	v := tp.blankValue(rows, cols)
	v.Data = data
	return v
}

// Leaf returns a value over data whose gradient is gathered: after Backward, Grad
// holds it until Reset.
func (tp *Tape) Leaf(data []float32, rows, cols int) *Value {
	v := *tp.Const(data, rows, cols) // outlives the tape's own
	v.needs = tp.recording
	return tp.adopt(&v)
}

// Use returns the value of a whole f32 parameter as a matrix. If it trains, its
// gradient reaches the sink when the last of its uses has been differentiated.
// Partly trained parameters go through Linear and Embed only.
func (tp *Tape) Use(p *Param) *Value {
	rows, cols := p.rowsCols()
	v := tp.Const(p.Value.F32(), rows, cols)
	if p.Trains() {
		if p.Part.Kind != All {
			panic("grad: Use of a partly trained parameter " + p.Name)
		}
		v.param = p
		v.needs = tp.recording
		tp.record(v, p, func([]float32) {})
		tp.tangent(v, func() *Value {
			if d := tp.moved(p); d != nil {
				return tp.Use(d)
			}
			return nil
		})
	}
	return v
}

// addUse counts a use of a parameter that trains.
func (tp *Tape) addUse(p *Param) {
	p.uses++
	if tp.counting {
		tp.promised = append(tp.promised, p)
	}
}

// passOn makes the gradient of z = y + … flow on to y, after the backward of what
// was added, which must be the last operation recorded if it was recorded.
func (tp *Tape) passOn(z, y *Value) {
	if !tp.needsAny(y) {
		return
	}
	if n := len(tp.nodes); n == 0 || tp.nodes[n-1].out != z {
		tp.record(z, nil, func([]float32) {})
	}
	tp.nodes[len(tp.nodes)-1].pass = y
}

// needsAny reports whether an operation over these inputs must be recorded.
func (tp *Tape) needsAny(vs ...*Value) bool {
	if !tp.recording {
		return false
	}
	for _, v := range vs {
		if v.needs {
			return true
		}
	}
	return false
}

// Scope runs f and then frees what f made and no backward needs, except what it
// returns. Models open one a block, so that only saved activations stay.
func (tp *Tape) Scope(f func() *Value) *Value {
	outer := len(tp.made)
	result := f()
	tangent := result.tan
	tp.leave(outer, tangent, result)
	return tp.adopt(result)
}

// leave closes all that was made since there were outer values, but for kept, which
// stays in the outer scope, and result.
func (tp *Tape) leave(outer int, kept, result *Value) {
	made := tp.made[outer:]
	tp.made = tp.made[:outer]
	for _, v := range made {
		switch v {
		case result:
		case kept:
			tp.adopt(v) // at or before its place in made
		default:
			tp.close(v)
		}
	}
}

func (tp *Tape) close(v *Value) {
	v.closed = true
	tp.settle(v)
}

// settle frees v's data if nobody will read it again, or if it can be made again.
func (tp *Tape) settle(v *Value) {
	if v.closed && v.owned && (v.saves == 0 || v.remake != nil) {
		tp.release(Activations, v.Data)
		v.Data, v.owned = nil, false
	}
}

// into returns the buffer that a contribution to v's gradient goes to, and
// whether it must be added to what is there. A parameter's leaf gathers in the
// parameter.
func (tp *Tape) into(v *Value) (buf []float32, add bool) {
	if v.param != nil {
		return tp.paramGrad(v.param)
	}
	if v.grad != nil {
		return v.grad, true
	}
	v.grad = tp.alloc(Scratch, v.Rows*v.Cols)
	return v.grad, false
}

// give adds buf, which the tape owns as scratch, to v's gradient.
func (tp *Tape) give(v *Value, buf []float32) {
	if v.param == nil && v.grad == nil {
		v.grad = buf
		return
	}
	dst, add := tp.into(v)
	if add {
		axpy(1, buf, dst)
	} else {
		copy(dst, buf)
	}
	tp.release(Scratch, buf)
}

// surrender returns v's own buffer as scratch, where the backward that runs is the last
// to read it, for a gradient that is computed in place; or else another, and false.
func (tp *Tape) surrender(v *Value) (buf []float32, own bool) {
	if !v.owned || v.saves != 1 {
		return tp.alloc(Scratch, len(v.Data)), false
	}
	buf = v.Data
	v.Data, v.owned = nil, false
	tp.Ledger.Add(Activations, -4*int64(len(buf)))
	tp.Ledger.Add(Scratch, 4*int64(len(buf)))
	return buf, true
}

// readLast frees v's data where the backward that runs was the last to read it, before
// that computes its other gradients.
func (tp *Tape) readLast(v *Value) {
	if v.closed && v.owned && v.saves == 1 {
		tp.release(Activations, v.Data)
		v.Data, v.owned = nil, false
	}
}

// giveNeeded is give where a gradient flows to v.
func (tp *Tape) giveNeeded(v *Value, buf []float32) {
	if v.needs {
		tp.give(v, buf)
	} else {
		tp.release(Scratch, buf)
	}
}

// contribute adds scale·dy to v's gradient, leaving dy to its owner.
func (tp *Tape) contribute(v *Value, scale float32, dy []float32) {
	dst, add := tp.into(v)
	type operands struct {
		dst, dy []float32
		scale   float32
		add     bool
	}
	kernel.Spread(len(dst), vecGrain, operands{dst, dy, scale, add}, func(o *operands, lo, hi int) {
		if !o.add {
			clear(o.dst[lo:hi])
		}
		kernel.Axpy(o.scale, o.dy[lo:hi], o.dst[lo:hi])
	})
}

// axpy writes y + a·x to y, on all cores.
func axpy(a float32, x, y []float32) {
	type operands struct {
		a    float32
		x, y []float32
	}
	kernel.Spread(len(y), vecGrain, operands{a, x, y}, func(o *operands, lo, hi int) { kernel.Axpy(o.a, o.x[lo:hi], o.y[lo:hi]) })
}

// paramGrad returns the gradient buffer of p's part, and whether it already holds
// a contribution.
func (tp *Tape) paramGrad(p *Param) (buf []float32, add bool) {
	if p.grad != nil {
		return p.grad, true
	}
	p.grad = tp.alloc(Gradients, p.PartLen())
	return p.grad, false
}

// Backward differentiates the scalar loss [1, 1]: every trained parameter's
// gradient goes to sink, leaves keep theirs in Grad. The tape is empty
// afterwards. The first error of the sink ends the pass and is returned.
func (tp *Tape) Backward(loss *Value, sink Sink) error {
	if loss.Rows*loss.Cols != 1 {
		panic(fmt.Sprintf("grad: Backward of [%d, %d], want a scalar", loss.Rows, loss.Cols))
	}
	tp.sink, tp.err = sink, nil
	loss.grad = tp.alloc(Scratch, 1)
	loss.grad[0] = 1
	tp.arena.late = true
	tp.run()
	tp.Reset()
	tp.arena.late = false
	err := tp.err
	tp.err = nil // a chunked loss of the next pass runs backwards before Backward
	return err
}

// run walks the recorded operations backwards.
func (tp *Tape) run() {
	for i := len(tp.nodes) - 1; i >= 0; i-- {
		n := &tp.nodes[i]
		if tp.err == nil {
			if n.out.grad != nil || n.out.param != nil {
				tp.restore(n.saved)
				n.back.run(tp, n.out.grad)
			}
			if n.pass != nil && n.out.grad != nil {
				tp.give(n.pass, n.out.grad)
				n.out.grad = nil
			}
			if n.uses != nil {
				tp.used(n.uses)
			}
		} else if n.uses != nil {
			tp.forget(n.uses)
		}
		if n.out.grad != nil && !n.keep {
			tp.release(Scratch, n.out.grad)
			n.out.grad = nil
		}
		for _, v := range n.saved {
			if v.saves--; v.saves == 0 {
				tp.settle(v)
			}
		}
		n.vacate()
	}
	tp.nodes = tp.nodes[:0]
}

// restore makes values again that were dropped after the forward pass; they stay
// until the last backward that reads them has run.
func (tp *Tape) restore(saved []*Value) {
	for _, v := range saved {
		if v.remake != nil && v.Data == nil {
			tp.restore(v.from)
			v.Data, v.owned = tp.alloc(Activations, v.Rows*v.Cols), true
			v.remake.remake(v.Data)
		}
	}
}

// used notes that one use of p has been differentiated, and hands the gradient
// over at the last one.
func (tp *Tape) used(p *Param) {
	if !p.Trains() {
		return
	}
	if p.uses--; p.uses > 0 {
		return
	}
	if tp.hold {
		tp.deferred = append(tp.deferred, p)
		return
	}
	tp.handOver(p)
}

func (tp *Tape) handOver(p *Param) {
	if p.grad == nil {
		return
	}
	if tp.err == nil && tp.sink != nil {
		tp.handed.SetF32(p.grad, p.PartShape()...)
		if err := tp.sink(p, &tp.handed); err != nil {
			tp.err = fmt.Errorf("grad: %s: %w", p.Name, err)
		}
	}
	tp.release(Gradients, p.grad)
	p.grad = nil
}

// forget drops what was gathered for p in a pass that is given up.
func (tp *Tape) forget(p *Param) {
	p.uses = 0
	if p.grad != nil {
		tp.release(Gradients, p.grad)
		p.grad = nil
	}
}

// Reset forgets what was recorded and frees every value still held by the tape.
// Leaves and their gradients stay readable.
func (tp *Tape) Reset() {
	tp.clear()
	tp.values.reset()
	tp.ints.reset()
	for _, p := range tp.deferred {
		tp.forget(p)
	}
	tp.deferred = tp.deferred[:0]
	for _, p := range tp.promised {
		tp.forget(p)
	}
	tp.promised = tp.promised[:0]
}

// clear is Reset for a sub-tape, which leaves what belongs to the whole pass.
func (tp *Tape) clear() {
	for i := range tp.nodes {
		n := &tp.nodes[i]
		if n.uses != nil {
			tp.forget(n.uses)
		}
		if n.out.grad != nil {
			tp.release(Scratch, n.out.grad)
			n.out.grad = nil
		}
		for _, v := range n.saved {
			v.saves--
			tp.settle(v)
		}
		n.vacate()
	}
	tp.nodes = tp.nodes[:0]
	for _, v := range tp.made {
		if v.grad != nil { // a leaf's: the caller may read it for as long as it likes
			own := slices.Clone(v.grad)
			tp.release(Scratch, v.grad)
			v.grad = own
		}
		tp.close(v)
	}
	clear(tp.made)
	tp.made = tp.made[:0]
}

// Trim gives the tape's idle buffers back to the garbage collector.
func (tp *Tape) Trim() { tp.arena.drop() }

// Workspace returns a scratch buffer of n values with unspecified contents and a
// function that gives it back. Safe for concurrent use.
func (tp *Tape) Workspace(n int) ([]float32, func()) {
	buf := tp.alloc(Scratch, n)
	return buf, func() { tp.release(Scratch, buf) }
}

// sub returns a tape over the same buffers for a checkpoint or a chunk, to be given
// back by done.
func (tp *Tape) sub(recording bool) *Tape {
	s := &Tape{shared: tp.shared}
	if n := len(tp.subs); n > 0 {
		s, tp.subs = tp.subs[n-1], tp.subs[:n-1]
	}
	s.Ledger, s.recording = tp.Ledger, recording
	return s
}

// done empties a sub-tape, for the next checkpoint or chunk.
func (tp *Tape) done(s *Tape) {
	s.clear()
	tp.subs = append(tp.subs, s)
}

// Checkpoint runs f(x) keeping nothing but x, and runs it again in the backward
// pass. f must use the tape it is given and depend on x and parameters alone.
func (tp *Tape) Checkpoint(x *Value, f func(tp *Tape, x *Value) *Value) *Value {
	if !tp.recording || tp.motion != nil {
		return f(tp, x)
	}
	seed := tp.rng
	tp.recording, tp.counting = false, true
	out := tp.Scope(func() *Value { return f(tp, x) })
	tp.recording, tp.counting = true, false
	type operands struct {
		x    *Value
		f    func(tp *Tape, x *Value) *Value
		seed uint64
	}
	record(tp, out, nil, operands{x, f, seed}, func(tp *Tape, o *operands, dy []float32) {
		after, wasReplay := tp.rng, tp.replay
		tp.rng, tp.replay = o.seed, true
		s := tp.sub(true)
		in := s.entry(o.x.Data, o.x.Rows, o.x.Cols, o.x.needs)
		y := o.f(s, in)
		y.grad = tp.alloc(Scratch, len(dy))
		copy(y.grad, dy)
		s.run()
		if in.grad != nil {
			tp.give(o.x, in.grad)
			in.grad = nil
		}
		tp.done(s)
		tp.rng, tp.replay = after, wasReplay
	}, x)
	return out
}

// entry returns the value by which a sub-tape takes up data: a leaf that lives until
// the whole tape is reset.
func (tp *Tape) entry(data []float32, rows, cols int, needs bool) *Value {
	v := tp.Const(data, rows, cols)
	v.needs = needs
	return tp.adopt(v)
}

// vecGrain is how many values of an elementwise loop are worth a thread's call.
const vecGrain = 1 << 14

// parallelVec splits an elementwise loop over n values.
func parallelVec(n int, f func(lo, hi int)) { kernel.Parallel(n, vecGrain, f) }
