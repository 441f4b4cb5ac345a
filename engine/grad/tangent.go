package grad

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"tare/engine/tensor"
)

// Directional derivatives and Hessian-vector products. While a tape is in motion,
// every operation also computes the tangent ẏ = J ẋ of its result, out of operations
// of the tape. So the tangent of a loss,
//
//	L̇ = ⟨∇L, v⟩,
//
// is a value like any other, and its gradient is the product H v: reverse over
// forward (Pearlmutter 1994; Christianson 1992). No operation needs a second
// backward of its own.
//
// Every operation has a rule but AttendCached, which has no backward either. The
// primitives compute their tangent beside their result; the fused ones (norms, gated
// MLP, attention, recurrent cells) are spelled out in primitives meanwhile, see
// spelled.go, and checkpoints and chunked losses keep what they would compute again.
// That costs memory: attention holds its scores, the loss its logits. A tape that is
// not in motion pays for none of this.

// Direction gives parameters that train a tangent, of the shape of their part, as
// their gradient has it. Those that are missing stand still.
type Direction map[*Param]*tensor.Tensor

// motion is what a tape knows while it computes tangents.
type motion struct {
	along   map[*Param]*Param // the frozen parameter that holds each moved one's tangent
	forward bool              // nothing will run backwards: record no operation
	inside  bool              // a rule runs: what it computes has no tangent of its own
	open    map[*Value]string // recorded operations whose rule has not run, by result
	seen    map[*Param]bool   // the parameters that train and were used
	err     error
}

// JVP returns the scalar L that f computes and its derivative ⟨∇L, v⟩ along v, by one
// forward pass that keeps nothing. The tape must be empty, and is afterwards.
//
// f runs as a training step does: dropout draws, and batch norms use their batch,
// but their running statistics stay as they are.
func (tp *Tape) JVP(f func(tp *Tape) *Value, v Direction) (value, slope float64, err error) {
	loss, tangent, _, err := tp.differential(f, v, true)
	if err != nil {
		return 0, 0, err
	}
	value, slope = float64(loss.Data[0]), float64(tangent.Data[0])
	tp.Reset()
	return value, slope, nil
}

// HVP is JVP that also gives every trained parameter's part of H v to sink, H being
// the Hessian of L by all parameters that train: the gradient of ⟨∇L, v⟩ with v held
// fixed. Leaves have theirs in Grad, and sink may be nil. With v = ∇L it is the gradient of ½‖∇L‖²; with v
// on some parameters, the mixed derivatives by the others are what a bilevel
// problem's hypergradient is made of. It takes the time of two to three gradients.
func (tp *Tape) HVP(f func(tp *Tape) *Value, v Direction, sink Sink) (value, slope float64, err error) {
	loss, tangent, rest, err := tp.differential(f, v, false)
	if err != nil {
		return 0, 0, err
	}
	value, slope = float64(loss.Data[0]), float64(tangent.Data[0])
	if sink == nil {
		sink = func(*Param, *tensor.Tensor) error { return nil }
	}
	if tangent.needs {
		err = tp.Backward(tangent, func(p *Param, g *tensor.Tensor) error {
			delete(rest, p)
			return sink(p, g)
		})
	} else {
		tp.Reset()
	}
	left := slices.SortedFunc(maps.Keys(rest), func(a, b *Param) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range left { // ⟨∇L, v⟩ does not depend on these
		if err != nil {
			break
		}
		if err = sink(p, tensor.New(p.PartShape()...)); err != nil {
			err = fmt.Errorf("grad: %s: %w", p.Name, err)
		}
	}
	return value, slope, err
}

// Along records f in motion and returns L and L̇ = ⟨∇L, v⟩ as values, for losses in
// which both stand: Backward of L + λ L̇ has the gradient ∇L + λ H v. With an input
// moved by Move, L̇ is ⟨∇ₓL, v⟩, so that a penalty on the gradient by the input is the
// same two passes.
func (tp *Tape) Along(f func(tp *Tape) *Value, v Direction) (loss, slope *Value, err error) {
	loss, slope, _, err = tp.differential(f, v, false)
	return loss, slope, err
}

// Move gives x, a leaf, the tangent by, which the tape reads until it is empty. It
// does nothing when the tape is not in motion, so that a function may call it always.
func (tp *Tape) Move(x *Value, by []float32) {
	if !tp.moving() {
		return
	}
	if !x.needs {
		tp.motion.fail(fmt.Errorf("grad: Move of a value [%d, %d] that no gradient flows to; make it a Leaf", x.Rows, x.Cols))
		return
	}
	x.tan = tp.Const(by, x.Rows, x.Cols)
}

// differential runs f in motion; seen are the parameters that train and were used.
func (tp *Tape) differential(f func(tp *Tape) *Value, v Direction, forward bool) (loss, slope *Value, seen map[*Param]bool, err error) {
	if tp.motion != nil || !tp.recording {
		return nil, nil, nil, fmt.Errorf("grad: a derivative along a direction inside of another or of NoGrad")
	}
	along, err := directions(v)
	if err != nil {
		return nil, nil, nil, err
	}
	m := &motion{along: along, forward: forward, open: map[*Value]string{}, seen: map[*Param]bool{}}
	tp.motion = m
	defer func() { tp.motion = nil }()
	loss = f(tp)
	if loss.Rows*loss.Cols != 1 {
		m.fail(fmt.Errorf("grad: derivative of [%d, %d] along a direction, want a scalar", loss.Rows, loss.Cols))
	}
	if len(m.open) > 0 {
		names := slices.Sorted(maps.Values(m.open))
		m.fail(fmt.Errorf("grad: no tangent rule for %s", strings.Join(slices.Compact(names), ", ")))
	}
	if m.err != nil {
		tp.Reset()
		return nil, nil, nil, m.err
	}
	if slope = loss.tan; slope == nil {
		slope = tp.newValue(1, 1)
		slope.Data[0] = 0
	}
	return loss, slope, m.seen, nil
}

// directions returns v as frozen parameters of the whole shape, zero outside the part.
func directions(v Direction) (map[*Param]*Param, error) {
	along := make(map[*Param]*Param, len(v))
	for p, t := range v {
		if !p.Trains() {
			return nil, fmt.Errorf("grad: %s: a direction moves it, but it does not train", p.Name)
		}
		if t.DType() != tensor.F32 || t.Len() != p.PartLen() {
			return nil, fmt.Errorf("grad: %s: direction of %s %v for a part of %v; want f32 of the part's shape", p.Name, t.DType(), t.Shape(), p.PartShape())
		}
		if p.Part.Kind != All {
			whole := tensor.New(p.Value.Shape()...)
			i := 0
			p.positions(p.Part, func(at int) {
				whole.F32()[at] = t.F32()[i]
				i++
			})
			t = whole
		}
		along[p] = NewParam(p.Name+" (direction)", t.Reshape(p.Value.Shape()...))
	}
	return along, nil
}

// moving reports whether operations compute tangents.
func (tp *Tape) moving() bool {
	return tp.motion != nil && !tp.motion.inside && tp.recording
}

// tangent sets z's tangent to what rule makes of its operands'; nil stands for zero.
func (tp *Tape) tangent(z *Value, rule func() *Value) {
	if !tp.moving() {
		return
	}
	m := tp.motion
	m.inside = true
	outer := len(tp.made)
	result := rule()
	tp.leave(outer, result, nil)
	m.inside = false
	z.tan = result
	delete(m.open, z)
}

// linearTangent is tangent for z = f(x) with f linear.
func (tp *Tape) linearTangent(z, x *Value, f func(t *Value) *Value) {
	tp.tangent(z, func() *Value {
		if x.tan == nil {
			return nil
		}
		return f(x.tan)
	})
}

// moved returns p's tangent, nil where it stands still.
func (tp *Tape) moved(p *Param) *Param { return tp.motion.along[p] }

// plus returns x + y where nil is zero.
func (tp *Tape) plus(x, y *Value) *Value {
	switch {
	case x == nil:
		return y
	case y == nil:
		return x
	}
	return tp.Add(x, y)
}

// times returns a·x where nil is zero.
func (tp *Tape) times(x *Value, a float32) *Value {
	if x == nil || a == 1 {
		return x
	}
	return tp.Scale(x, a)
}

// repeated returns x repeated to [rows, cols]; nil stays nil.
func (tp *Tape) repeated(x *Value, rows, cols int) *Value {
	if x == nil || x.Rows == rows && x.Cols == cols {
		return x
	}
	return tp.Add(tp.blank(rows, cols), x)
}

// fresh returns a copy of x for an operation that its operand gives its buffer to:
// tangents are shared between values.
func (tp *Tape) fresh(x *Value) *Value { return tp.Scale(x, 1) }

// blank returns zeros that no gradient flows to.
func (tp *Tape) blank(rows, cols int) *Value {
	z := tp.newValue(rows, cols)
	clear(z.Data)
	return z
}

func (m *motion) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// note keeps account of an operation as it is recorded.
func (m *motion) note(out *Value, param *Param) {
	if param != nil && param.Trains() {
		m.seen[param] = true
	}
	if !m.inside {
		m.open[out] = operation()
	}
}

// operation names the method of the tape that is being recorded.
func operation() string {
	pc := make([]uintptr, 16)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	for {
		f, more := frames.Next()
		if _, name, ok := strings.Cut(f.Function, "grad.(*Tape)."); ok && name[0] >= 'A' && name[0] <= 'Z' {
			return name
		}
		if !more {
			return "an operation"
		}
	}
}
