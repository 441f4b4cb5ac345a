package programs

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/floats"

	"tare/method/optimize"
)

// Logistic is regression under linear constraints,
//
//	min_w (1/N) Σ log(1 + exp(−yᵢ zᵢᵀw)) + (ρ/2)‖w‖²  subject to  A w = b,
//
// zᵢ the rows of Z and y of −1 and 1. With ρ above 0 there is a minimum also where a plane
// separates the classes.
type Logistic struct {
	Z     [][]float64
	Y     []float64
	A     [][]float64
	B     []float64
	Ridge float64 // ρ
}

// NewLogistic draws m constraints of normal numbers, of which rows have norm about 1, and
// their right sides.
func NewLogistic(z [][]float64, y []float64, ridge float64, m int, rng *rand.Rand) (*Logistic, error) {
	if len(z) == 0 || len(z) != len(y) {
		return nil, fmt.Errorf("programs: %d rows and %d classes: %w", len(z), len(y), optimize.ErrData)
	}
	p := &Logistic{Z: z, Y: y, Ridge: ridge, B: make([]float64, m)}
	for i := range m {
		row := make([]float64, len(z[0]))
		for j := range row {
			row[j] = rng.NormFloat64() / math.Sqrt(float64(len(row)))
		}
		p.A = append(p.A, row)
		p.B[i] = rng.NormFloat64()
	}
	return p, nil
}

// Dims implements optimize.Program.
func (p *Logistic) Dims() (n, m int) { return len(p.Z[0]), len(p.A) }

// Convex implements optimize.Convex.
func (p *Logistic) Convex() bool { return true }

// Objective implements optimize.Program.
func (p *Logistic) Objective(w []float64) float64 {
	var sum float64
	for i, z := range p.Z {
		t := -p.Y[i] * floats.Dot(z, w)
		sum += max(t, 0) + math.Log1p(math.Exp(-math.Abs(t)))
	}
	return sum/float64(len(p.Z)) + p.Ridge/2*floats.Dot(w, w)
}

// Gradient implements optimize.Program.
func (p *Logistic) Gradient(dst, w []float64) {
	floats.ScaleTo(dst, p.Ridge, w)
	for i, z := range p.Z {
		floats.AddScaled(dst, -p.Y[i]/(1+math.Exp(p.Y[i]*floats.Dot(z, w)))/float64(len(p.Z)), z)
	}
}

// Constraints implements optimize.Program.
func (p *Logistic) Constraints(dst, w []float64) {
	for i, a := range p.A {
		dst[i] = floats.Dot(a, w) - p.B[i]
	}
}

// Jacobian implements optimize.Program.
func (p *Logistic) Jacobian([]float64) []optimize.Entry {
	var out []optimize.Entry
	for i, a := range p.A {
		for j, v := range a {
			out = append(out, optimize.Entry{Row: int32(i), Column: int32(j), Value: v})
		}
	}
	return out
}

// Hessian implements optimize.Program.
func (p *Logistic) Hessian(w []float64, s float64, _ []float64) []optimize.Entry {
	if s == 0 {
		return nil
	}
	n := len(w)
	h := make([]float64, n*n)
	for i := range n {
		h[i*n+i] = s * p.Ridge
	}
	for i, z := range p.Z {
		q := 1 / (1 + math.Exp(-p.Y[i]*floats.Dot(z, w)))
		for j, v := range z {
			if v != 0 {
				floats.AddScaled(h[j*n:(j+1)*n], s*q*(1-q)*v/float64(len(p.Z)), z)
			}
		}
	}
	var out []optimize.Entry
	for i, v := range h {
		if v != 0 {
			out = append(out, optimize.Entry{Row: int32(i / n), Column: int32(i % n), Value: v})
		}
	}
	return out
}
