package optimize

import (
	"fmt"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// Taped is a bilevel problem whose functions are losses on a tape: x is the parameters X and
// y the parameters Y, one behind another. Its products come from [grad.Tape.HVP] with a
// direction on Y, whose result on Y is ∇²ᵧᵧg·v and on X ∇²ₓᵧg·v. Losses and products are in
// f32.
type Taped struct {
	x, y []*grad.Param
	f, g Loss
	tape *grad.Tape
}

// Loss records a scalar on a sample that it draws from rng.
type Loss func(tp *grad.Tape, rng *rand.Rand) *grad.Value

// NewTaped makes the parameters train whole and returns the problem of f and g.
func NewTaped(x, y []*grad.Param, f, g Loss) (*Taped, error) {
	seen := map[*grad.Param]bool{}
	for _, p := range append(append([]*grad.Param(nil), x...), y...) {
		if seen[p] {
			return nil, fmt.Errorf("optimize: %s: %w: it stands twice among the parameters of x and y", p.Name, ErrData)
		}
		seen[p] = true
		p.Part = grad.Whole
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("optimize: %w: %w", ErrData, err)
		}
		if p.Value.DType() != tensor.F32 {
			return nil, fmt.Errorf("optimize: %s: %w: it is stored in %s, a bilevel problem wants f32", p.Name, ErrData, p.Value.DType())
		}
	}
	return &Taped{x: x, y: y, f: f, g: g, tape: grad.NewTape(nil)}, nil
}

// Dims implements [Bilevel].
func (t *Taped) Dims() (x, y int) { return length(t.x), length(t.y) }

func length(ps []*grad.Param) (n int) {
	for _, p := range ps {
		n += p.Value.Len()
	}
	return n
}

// Values returns what the parameters hold.
func (t *Taped) Values() (x, y []float64) {
	read := func(ps []*grad.Param) (out []float64) {
		for _, p := range ps {
			for _, v := range p.Value.F32() {
				out = append(out, float64(v))
			}
		}
		return out
	}
	return read(t.x), read(t.y)
}

// Set makes the parameters hold x and y.
func (t *Taped) Set(x, y []float64) {
	write := func(ps []*grad.Param, from []float64) {
		for _, p := range ps {
			for i := range p.Value.F32() {
				p.Value.F32()[i] = float32(from[i])
			}
			from = from[p.Value.Len():]
		}
	}
	write(t.x, x)
	write(t.y, y)
}

// Upper implements [Bilevel].
func (t *Taped) Upper(rng *rand.Rand, x, y, gx, gy []float64) (float64, error) {
	t.Set(x, y)
	return t.gradient(t.f, rng, t.sink(gx, gy))
}

// Lower implements [Bilevel].
func (t *Taped) Lower(rng *rand.Rand, x, y, gy []float64) error {
	t.Set(x, y)
	t.train(t.x, grad.Part{}) // nothing is kept for their gradient
	_, err := t.gradient(t.g, rng, t.sink(nil, gy))
	t.train(t.x, grad.Whole)
	return err
}

func (t *Taped) train(ps []*grad.Param, part grad.Part) {
	for _, p := range ps {
		p.Part = part
	}
}

func (t *Taped) gradient(f Loss, rng *rand.Rand, sink grad.Sink) (float64, error) {
	loss := f(t.tape, rng)
	value := float64(loss.Data[0])
	return value, t.tape.Backward(loss, sink)
}

// Product implements [Bilevel].
func (t *Taped) Product(rng *rand.Rand, x, y, v, hv, jv []float64) error {
	t.Set(x, y)
	along := grad.Direction{}
	for _, p := range t.y {
		d := tensor.New(p.PartShape()...)
		for i := range d.F32() {
			d.F32()[i] = float32(v[i])
		}
		along[p], v = d, v[d.Len():]
	}
	_, _, err := t.tape.HVP(func(tp *grad.Tape) *grad.Value { return t.g(tp, rng) }, along, t.sink(jv, hv))
	return err
}

// sink returns what writes the gradients of the parameters to gx and gy, in which those that
// get none stay 0. gx may be nil.
func (t *Taped) sink(gx, gy []float64) grad.Sink {
	place := map[*grad.Param][]float64{}
	lay := func(ps []*grad.Param, to []float64) {
		clear(to)
		for _, p := range ps {
			place[p], to = to[:p.Value.Len()], to[p.Value.Len():]
		}
	}
	if gx != nil {
		lay(t.x, gx)
	}
	lay(t.y, gy)
	return func(p *grad.Param, g *tensor.Tensor) error {
		to, ok := place[p]
		if !ok {
			return fmt.Errorf("optimize: %s: %w: it trains, but is neither of x nor of y", p.Name, ErrData)
		}
		for i, v := range g.F32() {
			to[i] = float64(v)
		}
		return nil
	}
}
