package programs

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"tare/method/optimize"
)

// Poisson is the control of a Poisson equation on the unit square with zero boundary,
//
//	min ½‖y − y_d‖² + (α/2)‖u‖²  subject to  −Δy = u,
//
// y_d 1 in the half with s ≤ 1/2 and 0 in the other, on a grid of Side² inner points, with the
// five-point formula and both norms times h², h = 1/(Side + 1). The constraints are those of
// the grid times h², variables are y, then u. The products sin(πas) sin(πbt) are eigenvectors
// of the formula, with values ω_ab = (4/h²)(sin²(πah/2) + sin²(πbh/2)), so the solution has the
// coefficients, by those of y_d,
//
//	ŷ = ŷ_d/(1 + αω²),  û = ω ŷ,  and f = ½h² Σ ŷ_d² αω²/(1 + αω²).
type Poisson struct {
	Side  int
	Alpha float64
}

// Dims implements optimize.Program.
func (p *Poisson) Dims() (n, m int) { return 2 * p.Side * p.Side, p.Side * p.Side }

func (p *Poisson) width() float64 { return 1 / float64(p.Side+1) }

// target is y_d at a point.
func (p *Poisson) target(i int) float64 {
	if 2*(i/p.Side+1) <= p.Side+1 {
		return 1
	}
	return 0
}

// Solution returns the minimiser and the least value.
func (p *Poisson) Solution() (x []float64, f float64) {
	_, m := p.Dims()
	n, h := p.Side, p.width()
	sines := mat.NewDense(n, n, nil) // orthonormal and symmetric
	sines.Apply(func(a, i int, _ float64) float64 {
		return math.Sqrt(2*h) * math.Sin(math.Pi*h*float64((a+1)*(i+1)))
	}, sines)
	transform := func(d *mat.Dense) {
		var half mat.Dense
		half.Mul(sines, d)
		d.Mul(&half, sines)
	}
	wave := func(a int) float64 { return math.Pow(math.Sin(math.Pi*h*float64(a+1)/2), 2) }
	y, u := mat.NewDense(n, n, nil), mat.NewDense(n, n, nil)
	for i := range m {
		y.Set(i/n, i%n, p.target(i))
	}
	transform(y)
	for a := range n {
		for b := range n {
			omega, t := 4/(h*h)*(wave(a)+wave(b)), y.At(a, b)
			share := 1 / (1 + p.Alpha*omega*omega)
			f += h * h * t * t / 2 * (1 - share)
			y.Set(a, b, share*t)
			u.Set(a, b, omega*share*t)
		}
	}
	transform(y)
	transform(u)
	for i := range m {
		x = append(x, y.At(i/n, i%n))
	}
	for i := range m {
		x = append(x, u.At(i/n, i%n))
	}
	return x, f
}

// Convex implements optimize.Convex.
func (p *Poisson) Convex() bool { return true }

// Objective implements optimize.Program.
func (p *Poisson) Objective(x []float64) float64 {
	_, m := p.Dims()
	var sum float64
	for i := range m {
		d := x[i] - p.target(i)
		sum += d*d + p.Alpha*x[m+i]*x[m+i]
	}
	return sum / 2 * p.width() * p.width()
}

// Gradient implements optimize.Program.
func (p *Poisson) Gradient(dst, x []float64) {
	_, m := p.Dims()
	w := p.width() * p.width()
	for i := range m {
		dst[i], dst[m+i] = w*(x[i]-p.target(i)), w*p.Alpha*x[m+i]
	}
}

// Constraints implements optimize.Program.
func (p *Poisson) Constraints(dst, x []float64) {
	clear(dst)
	for _, e := range p.Jacobian(x) {
		dst[e.Row] += e.Value * x[e.Column]
	}
}

// Jacobian implements optimize.Program.
func (p *Poisson) Jacobian([]float64) []optimize.Entry {
	_, m := p.Dims()
	var out []optimize.Entry
	add := func(i, j int, v float64) {
		out = append(out, optimize.Entry{Row: int32(i), Column: int32(j), Value: v})
	}
	for i := range m {
		r, c := i/p.Side, i%p.Side
		add(i, i, 4)
		for _, d := range [][2]int{{-1, 0}, {1, 0}, {0, -1}, {0, 1}} {
			if a, b := r+d[0], c+d[1]; a >= 0 && a < p.Side && b >= 0 && b < p.Side {
				add(i, a*p.Side+b, -1)
			}
		}
		add(i, m+i, -p.width()*p.width())
	}
	return out
}

// Hessian implements optimize.Program.
func (p *Poisson) Hessian(_ []float64, s float64, _ []float64) []optimize.Entry {
	_, m := p.Dims()
	w := s * p.width() * p.width()
	var out []optimize.Entry
	for i := range m {
		out = append(out, optimize.Entry{Row: int32(i), Column: int32(i), Value: w}, optimize.Entry{Row: int32(m + i), Column: int32(m + i), Value: w * p.Alpha})
	}
	return out
}
