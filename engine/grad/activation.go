package grad

import (
	"math"

	"tare/engine/tensor/kernel"
)

// activation is a function of one number, y = f(x).
type activation struct {
	value func(dst, x []float32)
	// slope writes dx = dy·f'(x). It reads x, or y when fromOutput is set.
	slope      func(dx, dy, saved []float32)
	fromOutput bool
	// bend is the derivative of the slope by what it reads, x or y.
	bend func(saved float64) float64
}

var (
	silu     = activation{value: kernel.SiLU, slope: kernel.SiLUBackward, bend: siluBend}
	gelu     = activation{value: kernel.GELU, slope: kernel.GELUBackward, bend: geluBend}
	geluTanh = activation{value: kernel.GELUTanh, slope: kernel.GELUTanhBackward, bend: geluTanhBend}
	relu     = activation{value: kernel.ReLU, slope: kernel.ReLUBackward, fromOutput: true, bend: func(float64) float64 { return 0 }}
	tanh     = activation{value: kernel.Tanh, slope: kernel.TanhBackward, fromOutput: true, bend: func(y float64) float64 { return -2 * y }}
	sigmoid  = activation{value: kernel.Sigmoid, slope: kernel.SigmoidBackward, fromOutput: true, bend: func(y float64) float64 { return 1 - 2*y }}
	exp      = activation{value: kernel.Exp, slope: kernel.Mul, fromOutput: true, bend: func(float64) float64 { return 1 }}

	// log(1 + e^x) = max(x, 0) + log(1 + e^−|x|), which does not overflow.
	softplus = activation{
		value: func(dst, x []float32) {
			for i, v := range x {
				dst[i] = -max(v, -v)
			}
			kernel.Exp(dst, dst)
			for i, v := range x {
				dst[i] = max(v, 0) + float32(math.Log1p(float64(dst[i])))
			}
		},
		slope: func(dx, dy, x []float32) {
			kernel.Sigmoid(dx, x)
			kernel.Mul(dx, dx, dy)
		},
		bend: func(x float64) float64 {
			s := 1 / (1 + math.Exp(-x))
			return s * (1 - s)
		},
	}

	log = activation{
		value: each(func(x float64) float64 { return math.Log(x) }),
		slope: func(dx, dy, x []float32) {
			for i, v := range x {
				dx[i] = dy[i] / v
			}
		},
		bend: func(x float64) float64 { return -1 / (x * x) },
	}
	sqrt = activation{
		value: each(math.Sqrt),
		slope: func(dx, dy, y []float32) {
			for i, v := range y {
				dx[i] = dy[i] / (2 * v)
			}
		},
		fromOutput: true,
		bend:       func(y float64) float64 { return -1 / (2 * y * y) },
	}
	inverseRoot = activation{ // 1/√x
		value: each(func(x float64) float64 { return 1 / math.Sqrt(x) }),
		slope: func(dx, dy, y []float32) {
			for i, v := range y {
				dx[i] = -0.5 * dy[i] * v * v * v
			}
		},
		fromOutput: true,
		bend:       func(y float64) float64 { return -1.5 * y * y },
	}
)

func each(f func(x float64) float64) func(dst, x []float32) {
	return func(dst, x []float32) {
		for i, v := range x {
			dst[i] = float32(f(float64(v)))
		}
	}
}

// siluBend: with s = σ(x), f = x s, f' = s + x s (1−s), f” = s (1−s) (2 + x (1−2s)).
func siluBend(x float64) float64 {
	s := 1 / (1 + math.Exp(-x))
	return s * (1 - s) * (2 + x*(1-2*s))
}

// geluBend: f' = Φ(x) + x φ(x), f” = φ(x) (2 − x²).
func geluBend(x float64) float64 {
	return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) * (2 - x*x)
}

// geluTanhBend: with u = √(2/π) (x + 0.044715 x³) and t = tanh u, f = x (1+t)/2 and
// f” = (1−t²) (u' + x u”/2 − x t u'²).
func geluTanhBend(x float64) float64 {
	const a = 0.044715
	c := math.Sqrt(2 / math.Pi)
	t := math.Tanh(c * (x + a*x*x*x))
	u1, u2 := c*(1+3*a*x*x), 6*a*c*x
	return (1 - t*t) * (u1 + x*u2/2 - x*t*u1*u1)
}

// activate returns f(x). It keeps what f's slope reads: the result, or x, from which the
// result is made again for whoever else reads it.
func (tp *Tape) activate(x *Value, f *activation) *Value {
	z := tp.newValue(x.Rows, x.Cols)
	type operands struct {
		f        *activation
		x, saved *Value
		dst, dz  []float32
	}
	forward := func(o *operands, dst []float32) {
		o.dst = dst
		kernel.Spread(len(dst), vecGrain, *o, func(o *operands, lo, hi int) {
			o.f.value(o.dst[lo:hi], o.x.Data[lo:hi])
		})
	}
	backward := func(tp *Tape, o *operands, dz []float32) {
		o.dst, o.dz = tp.alloc(Scratch, len(dz)), dz
		kernel.Spread(len(dz), vecGrain, *o, func(o *operands, lo, hi int) {
			o.f.slope(o.dst[lo:hi], o.dz[lo:hi], o.saved.Data[lo:hi])
		})
		tp.give(o.x, o.dst)
	}
	o := operands{f: f, x: x}
	forward(&o, z.Data)
	saved := x
	if f.fromOutput {
		saved = z
	}
	o.saved = saved
	switch {
	case !tp.needsAny(x):
	case f.fromOutput:
		record(tp, z, nil, o, backward, z)
	default:
		recordCheap(tp, z, nil, o, forward, backward, x)
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.sloped(t, saved, f) })
	return z
}

// sloped returns t ⊙ f'(x), for what f's slope reads.
func (tp *Tape) sloped(t, saved *Value, f *activation) *Value {
	z := tp.newValue(t.Rows, t.Cols)
	parallelVec(len(z.Data), func(lo, hi int) { f.slope(z.Data[lo:hi], t.Data[lo:hi], saved.Data[lo:hi]) })
	if !tp.needsAny(t, saved) {
		return z
	}
	tp.record(z, nil, func(dz []float32) {
		if t.needs {
			dt := tp.alloc(Scratch, len(dz))
			parallelVec(len(dz), func(lo, hi int) { f.slope(dt[lo:hi], dz[lo:hi], saved.Data[lo:hi]) })
			tp.give(t, dt)
		}
		if saved.needs {
			d := tp.alloc(Scratch, len(dz))
			parallelVec(len(dz), func(lo, hi int) {
				for i := lo; i < hi; i++ {
					d[i] = dz[i] * t.Data[i] * float32(f.bend(float64(saved.Data[i])))
				}
			})
			tp.give(saved, d)
		}
	}, t, saved)
	return z
}

// SiLU returns x·sigmoid(x).
func (tp *Tape) SiLU(x *Value) *Value { return tp.activate(x, &silu) }

// GELU returns x·Φ(x) with the exact Gaussian distribution function.
func (tp *Tape) GELU(x *Value) *Value { return tp.activate(x, &gelu) }

// GELUTanh returns the tanh approximation of GELU.
func (tp *Tape) GELUTanh(x *Value) *Value { return tp.activate(x, &geluTanh) }

// ReLU returns max(x, 0). It keeps its result, which is positive where x is and
// which the next layer mostly keeps anyway.
func (tp *Tape) ReLU(x *Value) *Value { return tp.activate(x, &relu) }

// Tanh returns tanh(x).
func (tp *Tape) Tanh(x *Value) *Value { return tp.activate(x, &tanh) }

// Sigmoid returns 1/(1+e^−x).
func (tp *Tape) Sigmoid(x *Value) *Value { return tp.activate(x, &sigmoid) }

// Exp returns e^x.
func (tp *Tape) Exp(x *Value) *Value { return tp.activate(x, &exp) }

// Log returns the natural logarithm of x.
func (tp *Tape) Log(x *Value) *Value { return tp.activate(x, &log) }

// Softplus returns log(1 + e^x).
func (tp *Tape) Softplus(x *Value) *Value { return tp.activate(x, &softplus) }

// Sqrt returns √x.
func (tp *Tape) Sqrt(x *Value) *Value { return tp.activate(x, &sqrt) }
