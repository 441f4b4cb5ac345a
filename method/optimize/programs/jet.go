// Package programs holds problems with known solutions, on which the methods of optimize are
// tested and measured: equality-constrained ones of the collections of Hock and Schittkowski
// and of CUTEst, written from their published formulas; logistic regression under linear
// constraints; and the control of a Poisson equation.
package programs

import "math"

// Jet is a number with its first and second derivatives by n variables. A formula written in
// jets gives its own gradient and Hessian. Of zero variables it is the number alone.
type Jet struct {
	V float64
	g []float64 // [n]
	h []float64 // [n, n]
}

// variables returns the jets of x, without derivatives where none are asked for.
func variables(x []float64, derivatives bool) []Jet {
	out := make([]Jet, len(x))
	for i, v := range x {
		out[i].V = v
		if derivatives {
			out[i].g, out[i].h = make([]float64, len(x)), make([]float64, len(x)*len(x))
			out[i].g[i] = 1
		}
	}
	return out
}

// chain returns f(a) from f and its derivatives at a.
func (a Jet) chain(f, f1, f2 float64) Jet {
	n := len(a.g)
	out := Jet{f, make([]float64, n), make([]float64, n*n)}
	for i := range n {
		out.g[i] = f1 * a.g[i]
		for j := range n {
			out.h[i*n+j] = f1*a.h[i*n+j] + f2*a.g[i]*a.g[j]
		}
	}
	return out
}

// combine returns p·a + q·b.
func combine(p float64, a Jet, q float64, b Jet) Jet {
	out := a.chain(p*a.V+q*b.V, p, 0)
	for i, v := range b.g {
		out.g[i] += q * v
	}
	for i, v := range b.h {
		out.h[i] += q * v
	}
	return out
}

// Add returns a + b.
func (a Jet) Add(b Jet) Jet { return combine(1, a, 1, b) }

// Sub returns a − b.
func (a Jet) Sub(b Jet) Jet { return combine(1, a, -1, b) }

// Mul returns a·b.
func (a Jet) Mul(b Jet) Jet {
	out := combine(b.V, a, a.V, b)
	out.V = a.V * b.V
	n := len(a.g)
	for i := range n {
		for j := range n {
			out.h[i*n+j] += a.g[i]*b.g[j] + b.g[i]*a.g[j]
		}
	}
	return out
}

// Times returns s·a.
func (a Jet) Times(s float64) Jet { return a.chain(s*a.V, s, 0) }

// Plus returns a + s.
func (a Jet) Plus(s float64) Jet { return a.chain(a.V+s, 1, 0) }

// Pow returns aᵏ for k ≥ 1.
func (a Jet) Pow(k int) Jet {
	p := float64(k)
	second := 0.0
	if k > 1 {
		second = p * (p - 1) * math.Pow(a.V, p-2)
	}
	return a.chain(math.Pow(a.V, p), p*math.Pow(a.V, p-1), second)
}

// Sin returns sin a.
func (a Jet) Sin() Jet { return a.chain(math.Sin(a.V), math.Cos(a.V), -math.Sin(a.V)) }

// Cos returns cos a.
func (a Jet) Cos() Jet { return a.chain(math.Cos(a.V), -math.Sin(a.V), -math.Cos(a.V)) }

// Exp returns eᵃ.
func (a Jet) Exp() Jet { e := math.Exp(a.V); return a.chain(e, e, e) }

// Log returns the natural logarithm.
func (a Jet) Log() Jet { return a.chain(math.Log(a.V), 1/a.V, -1/(a.V*a.V)) }

// linear returns Σ wᵢ xᵢ + s.
func linear(x []Jet, s float64, w ...float64) Jet {
	out := x[0].Times(w[0]).Plus(s)
	for i, v := range w[1:] {
		if v != 0 {
			out = combine(1, out, v, x[i+1])
		}
	}
	return out
}

// total returns the sum.
func total(terms ...Jet) Jet {
	out := terms[0]
	for _, t := range terms[1:] {
		out = out.Add(t)
	}
	return out
}

// product returns the product.
func product(factors ...Jet) Jet {
	out := factors[0]
	for _, f := range factors[1:] {
		out = out.Mul(f)
	}
	return out
}
